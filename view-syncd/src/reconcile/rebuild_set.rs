//! Posts of which PostgreSQL has fewer views than it had: the ledger was restored from a backup, or the post was
//! created anew. The ledger is the truth, so whoever is in the set and neither in the ledger nor on the way to it is
//! taken out of the set: his next view counts.

use std::collections::HashSet;

use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
    keys::field,
    log_names,
};
use views_postgres::ledger;
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts,
};

use super::{
    drains::Drains,
    outboxes::{self, Bounds},
    reconciler::Reconciler,
    report::ScanReport,
    turn,
};
use crate::{
    entry_id::EntryId,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Members that one `SSCAN` reads.
const SSCAN_COUNT: i64 = 500;
/// Members that are compared with the ledger at once.
const MEMBERS: usize = 10_000;
/// Members that are taken out of a set in one step.
const REMOVED: usize = 200;
/// How much of an outbox is read to know who is on the way. Where there is more, the next scan does it.
const BOUNDS: Bounds = Bounds { entries: i64::MAX, pairs: 100_000 };

/// Compares the sets of such posts with the ledger.
pub(crate) async fn rebuild_sets(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    report: &mut ScanReport,
) -> Result<(), Failure> {
    for post in std::mem::take(&mut report.regressed) {
        reconciler.session.check_owner().await?;
        let is_rebuilt = match rebuild_set(reconciler, drains, post, report).await {
            Err(Failure::Redis(error)) if reconciler.context().is_node_away(&error) => {
                report.fail(&post, &error);
                continue;
            }
            result => result?,
        };
        if is_rebuilt {
            reconciler.context().metrics.differences.set.inc();
            tracing::info!(name: log_names::EXAMPLE, %post, "the set of a post has been made from the ledger again, which has fewer views than it had");
        }
        reconciler.context().checkpoint()?;
    }
    Ok(())
}

/// Takes out of a set whom the ledger lacks. Returns whether that could be done.
async fn rebuild_set(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    post: PostId,
    report: &mut ScanReport,
) -> Result<bool, Failure> {
    let Some(regressions) = regressions(&mut reconciler.session, &post).await? else { return Ok(false) };
    let mut cursor = "0".to_owned();
    loop {
        let mut members = Vec::new();
        let next = loop {
            let page = page_of_set(&mut reconciler.session, &post, &cursor, report).await?;
            let Some((next, page)) = page else { return Ok(false) };
            members.extend(page);
            if next == "0" || members.len() >= MEMBERS {
                break next;
            }
            cursor = next;
        };
        failpoints::at("fallen::before");
        // Whoever is in the set was in the outbox before. So whoever is not there now is in the ledger by now, or nowhere.
        let Some(pending) = pending_viewers(&mut reconciler.session, &post).await? else { return Ok(false) };
        let in_ledger = ledger::viewers_among(&reconciler.context().database, &post, &members).await?;
        let lost: Vec<&ViewerId> =
            members.iter().filter(|member| !in_ledger.contains(*member) && !pending.contains(*member)).collect();
        if !lost.is_empty() {
            remove_members(&mut reconciler.session, &post, &lost, 0).await?;
        }
        reconciler.context().progress.made();
        turn::give(reconciler, drains).await?;
        if next == "0" {
            break;
        }
        reconciler.context().checkpoint()?;
        cursor = next;
    }
    // What has been noted meanwhile is for the next scan.
    remove_members(&mut reconciler.session, &post, &[], regressions).await?;
    Ok(true)
}

/// Returns how often it has been noted that PostgreSQL had fewer views of a post than before.
async fn regressions(session: &mut OwnedSession, post: &PostId) -> Result<Option<i64>, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("HMGET", 2).parts(&session.context.keys.meta_parts(post)).text(field::FALLEN);
    session.exchange_owned(&commands, &mut replies).await?;
    let Some(Reply::List(fields)) = replies.iter().next() else { return Ok(None) };
    Ok(Some(fields.iter().next().and_then(Reply::number).unwrap_or(0)))
}

async fn page_of_set(
    session: &mut OwnedSession,
    post: &PostId,
    cursor: &str,
    report: &mut ScanReport,
) -> Result<Option<(String, Vec<ViewerId>)>, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("SSCAN", 4).parts(&session.context.keys.views_parts(post)).text(cursor).text("COUNT").number(SSCAN_COUNT);
    session.exchange_owned(&commands, &mut replies).await?;
    let reply = replies.iter().next();
    let Some(Reply::List(parts)) = reply else {
        report.fail(post, &refusal(reply));
        return Ok(None);
    };
    let mut parts = parts.iter();
    let (Some(Reply::Text(next)), Some(Reply::List(members))) = (parts.next(), parts.next()) else {
        return Err(refusal(None).into());
    };
    let viewer = |member| if let Reply::Text(member) = member { ViewerId::parse(member).ok() } else { None };
    Ok(Some((next.to_owned(), members.iter().filter_map(viewer).collect())))
}

/// Returns the viewers of a post that are on their way to the ledger; nothing where they are too many to be read.
/// Entries up to which the post is acknowledged may be there still, for the sake of other posts: who is in these was in
/// the ledger.
async fn pending_viewers(session: &mut OwnedSession, post: &PostId) -> Result<Option<HashSet<ViewerId>>, Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("HMGET", 2).parts(&session.context.keys.meta_parts(post)).text(field::SETTLED);
    session.exchange_owned(&commands, &mut replies).await?;
    let Some(Reply::List(fields)) = replies.iter().next() else { return Ok(None) };
    let acknowledged = fields.iter().next().and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None });
    let from = acknowledged.map_or(EntryId::FIRST, EntryId::next);
    let outboxes = outboxes::read(session, &[(*post, from)].into(), BOUNDS).await?;
    Ok(outboxes.are_known_of(post).then(|| outboxes.viewers_of(post)))
}

/// Takes viewers out of a set; both numbers of the post fall by as many, so that the live count stays what it is.
/// Once they are compared, so many regressions are forgotten.
async fn remove_members(session: &mut OwnedSession, post: &PostId, lost: &[&ViewerId], regressions: i64) -> Result<(), Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in lost.chunks(REMOVED).chain(lost.is_empty().then_some(lost)) {
        commands.clear();
        scripts::take_out(&mut commands, &session.context.keys, post, chunk, regressions);
        session.exchange_owned(&commands, &mut replies).await?;
        if let Some(error @ Reply::Error(_)) = replies.iter().next() {
            return Err(refusal(Some(error)).into());
        }
    }
    Ok(())
}
