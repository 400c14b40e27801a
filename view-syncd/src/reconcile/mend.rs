//! Mending what a comparison has found in Redis, and bringing viewers into the ledger whom only Redis knows.
//!
//! Every step compares before it writes, or changes two numbers by the same, so that it may be repeated, and interrupted
//! anywhere: what is not mended is found again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::sleep;
use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
};
use views_postgres::forget::spellings;
use views_redis::{
    resp::{Commands, Replies, Reply},
    scripts::{self, Adjustment},
};

use super::{
    adjust::adjust,
    compare::{Compared, Numbers, compare},
    difference::{Difference, Kind, Value},
    import_set::import_viewers,
    live_count::write_live_counts,
    reconciler::Reconciler,
    report::ScanReport,
};
use crate::error::{Failure, refusal};

/// Viewers in one script.
const SCRIPT_VIEWERS: usize = 200;
/// How often posts are tried that move while they are mended.
const TRIES: u32 = 5;
/// The pause in between.
const PAUSE: Duration = Duration::from_millis(200);

/// What is to be done about viewers whom only Redis knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Those whom somebody else has put into the set, or whose entry of the outbox is lost, are imported, as by the scan.
    /// Others are taken out of the set: the ledger is the truth.
    Ledger,
    /// All of them are brought into the ledger.
    Restore,
}

/// Mends what differs. Returns what is left.
pub(crate) async fn mend(reconciler: &mut Reconciler, found: Compared, policy: Policy) -> Result<Vec<Difference>, Failure> {
    reconciler.session.check_owner().await?;
    let Compared { differences, posts, .. } = &found;
    let of_kind = |kind: Kind| -> Vec<PostId> {
        let ids = differences.iter().filter(|difference| difference.kind == kind);
        ids.filter_map(|difference| PostId::parse(&difference.post).ok()).collect()
    };
    let drifted: HashSet<PostId> = differences
        .iter()
        .filter(|difference| difference.kind == Kind::WrongAcked && has_lost_entries(difference))
        .filter_map(|difference| PostId::parse(&difference.post).ok())
        .collect();
    let mut imported: HashMap<PostId, Vec<ViewerId>> = HashMap::new();
    for post in of_kind(Kind::SetWithoutLedger) {
        let Some(seen) = posts.get(&post) else { continue };
        let viewers: Vec<ViewerId> = seen.lacking.iter().copied().collect();
        if policy == Policy::Restore || seen.size > seen.recorded || drifted.contains(&post) {
            imported.insert(post, viewers);
        } else {
            take_out(reconciler, &post, &viewers).await?;
        }
    }
    if !imported.is_empty() {
        import_viewers(reconciler, imported).await?;
        failpoints::at("mend::imported");
    }
    for post in of_kind(Kind::LedgerWithoutSet) {
        let absent = posts.get(&post).into_iter().flat_map(|seen| &seen.absent).copied().collect::<Vec<_>>();
        put_in(reconciler, &post, &absent).await?;
    }
    let mut open: Vec<PostId> =
        posts.keys().filter(|post| differences.iter().any(|d| d.post == post.as_str())).copied().collect();
    let mut left = Vec::new();
    for tries in 1..=TRIES {
        let compared = compare(&mut reconciler.session, &open).await?;
        write(reconciler, &compared).await?;
        let after = compare(&mut reconciler.session, &open).await?;
        left = after.differences;
        // A post that moves all the time is not known to be right.
        open.retain(|post| left.iter().any(|d| d.post == post.as_str()) || !after.numbers.contains_key(post));
        if open.is_empty() || tries == TRIES {
            break;
        }
        sleep(PAUSE).await;
    }
    Ok(left)
}

/// Returns whether more was recorded than the outbox ever had: then `acked` is too low.
fn has_lost_entries(difference: &Difference) -> bool {
    matches!((&difference.found, &difference.expected), (Value::Number(found), Value::Number(expected)) if found < expected)
}

/// Writes the numbers and authors of posts. Counts of posts that nothing keeps still are written as of one moment.
async fn write(reconciler: &mut Reconciler, compared: &Compared) -> Result<(), Failure> {
    let mut adjustments: HashMap<PostId, Adjustment> = HashMap::new();
    let mut live = Vec::new();
    for difference in &compared.differences {
        let Ok(post) = PostId::parse(&difference.post) else { continue };
        let Some(seen) = compared.posts.get(&post) else { continue };
        let adjustment = adjustments.entry(post).or_insert_with(|| Adjustment { is_meant: true, ..Adjustment::of(post) });
        if let (Kind::WrongAuthor, Value::Text(found), Value::Text(expected)) =
            (difference.kind, &difference.found, &difference.expected)
        {
            adjustment.author = Some([found.clone(), expected.clone()]);
        }
        let Some(Numbers { recorded, acked, persisted }) = compared.numbers.get(&post).copied() else { continue };
        match difference.kind {
            Kind::WrongRecorded | Kind::WrongAcked => {
                (adjustment.recorded, adjustment.acked) = (recorded - seen.recorded, acked - seen.acked);
            }
            Kind::WrongPersisted => {
                adjustment.known = seen.persisted;
                adjustment.views = persisted;
                // As long as nothing is acknowledged meanwhile, what is pending counts on top of it.
                adjustment.acked_is = Some(acked);
                live.push(post);
            }
            _ => {}
        }
    }
    let adjustments: Vec<Adjustment> = adjustments.into_values().collect();
    adjust(&mut reconciler.session, &adjustments, &mut ScanReport::default()).await?;
    write_live_counts(reconciler, live).await
}

/// Takes viewers out of a set. The live count stays what it is.
async fn take_out(reconciler: &mut Reconciler, post: &PostId, viewers: &[ViewerId]) -> Result<(), Failure> {
    for chunk in viewers.chunks(SCRIPT_VIEWERS) {
        // Somebody else may have spelled them otherwise.
        let spelled: Vec<String> = chunk.iter().flat_map(spellings).collect();
        let keys = reconciler.context().keys.clone();
        send(reconciler, |commands| scripts::forget(commands, &keys, &[*post], &spelled)).await?;
    }
    Ok(())
}

/// Puts viewers of the ledger into a set. The live count stays what it is.
async fn put_in(reconciler: &mut Reconciler, post: &PostId, viewers: &[ViewerId]) -> Result<(), Failure> {
    for chunk in viewers.chunks(SCRIPT_VIEWERS) {
        let keys = reconciler.context().keys.clone();
        send(reconciler, |commands| scripts::adopt(commands, &keys, post, chunk)).await?;
    }
    Ok(())
}

async fn send(reconciler: &mut Reconciler, write: impl FnOnce(&mut Commands)) -> Result<(), Failure> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    write(&mut commands);
    reconciler.session.exchange_owned(&commands, &mut replies).await?;
    match replies.iter().next() {
        Some(error @ Reply::Error(_)) => Err(refusal(Some(error)).into()),
        _ => reconciler.context().checkpoint(),
    }
}
