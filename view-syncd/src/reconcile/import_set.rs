//! Importing a set into the ledger: somebody else than view-ingest has written it (an older service, an operator, a restored backup), so
//! all its members are stored, and its numbers are brought into order.
//!
//! Afterwards `recorded` must be the size of the set again, and the live count must not move by the correction itself. So the difference
//! between the two, as read *before* the members were, is added to both `recorded` and `acked`. Why this is right while others write:
//!
//! * `SSCAN` gives every member that is there from its beginning to its end, so all members that the size counted are stored.
//! * A viewer whom view-ingest adds meanwhile moves size and `recorded` alike, so the difference stays what it was.
//! * Where the size was read between view-ingest's `SADD` and its `HINCRBY`, the difference is wrong by one. It is corrected only where size and
//!   `recorded` still differ by as much; otherwise the next scan does it.
//! * A viewer who is in the outbox still is stored here already. So the count is written only where the outbox has nothing of the post; otherwise
//!   the next scan writes it.

use std::collections::{HashMap, HashSet};

use fred::types::Value;
use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
};
use views_postgres::{insert::PairList, ledger};
use views_redis::scripts::Adjustment;

use super::{adjust::adjust, drains::Drains, post_state::PostState, reconciler::Reconciler, report::ScanReport, turn};
use crate::{
    drain::{
        dead_letter::{DeadLetter, NO_SUCH_POST},
        dead_letters,
        pairs::Pairs,
    },
    entry_id::now_ms,
    error::Failure,
};

/// Members that one `SSCAN` reads: about a quarter of a millisecond of Redis's time.
const SSCAN_COUNT: &str = "500";
/// Posts whose numbers are corrected in one pipeline.
const CHUNK: usize = 500;

/// Members that have been read and not been stored.
#[derive(Debug, Default)]
struct Members {
    pairs: Pairs,
    dead: Vec<DeadLetter>,
    /// Posts of which not all members could be stored now.
    incomplete: HashSet<PostId>,
}

/// Imports the sets of posts into the ledger, and corrects their numbers.
pub(crate) async fn import_sets(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    foreign: Vec<(PostId, PostState)>,
    report: &mut ScanReport,
) -> Result<(), Failure> {
    if foreign.is_empty() {
        return Ok(());
    }
    reconciler.session.check_owner().await?;
    let mut members = Members::default();
    let posts = foreign.iter().map(|(post, _)| *post).collect();
    let read = store_sets(reconciler, drains, posts, &mut members, report).await?;
    let imported: Vec<(PostId, PostState)> =
        foreign.into_iter().filter(|(post, _)| read.contains(post) && !members.incomplete.contains(post)).collect();
    for post in &members.incomplete {
        report.fail(post, &"somebody has locked it in PostgreSQL, or the column of its count is full");
    }
    failpoints::at("union::after_commit");
    reconciler.shared.publisher.publish(&mut reconciler.session).await;
    for chunk in imported.chunks(CHUNK) {
        correct_numbers(reconciler, chunk, report).await?;
    }
    Ok(())
}

/// Brings viewers into the ledger who are in the sets of posts, and nowhere else. What PostgreSQL refuses is kept as dead
/// letters; what others have locked is left.
pub(crate) async fn import_viewers(reconciler: &mut Reconciler, viewers: HashMap<PostId, Vec<ViewerId>>) -> Result<(), Failure> {
    let mut members = Members::default();
    for (post, viewers) in viewers {
        for viewer in viewers {
            members.pairs.add(post, &viewer, now_ms());
        }
        if members.pairs.len() >= reconciler.context().settings.batch_size {
            store_members(reconciler, &mut members).await?;
        }
    }
    store_members(reconciler, &mut members).await?;
    reconciler.shared.publisher.publish(&mut reconciler.session).await;
    Ok(())
}

/// Keeps what is in the sets of posts that do not exist as dead letters. Returns those of the posts whose sets could not be
/// read.
pub(crate) async fn keep_members(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    posts: Vec<PostId>,
    report: &mut ScanReport,
) -> Result<HashSet<PostId>, Failure> {
    let mut unread: HashSet<PostId> = posts.iter().copied().collect();
    if posts.is_empty() {
        return Ok(unread);
    }
    let read = store_sets(reconciler, drains, posts, &mut Members::default(), report).await?;
    unread.retain(|post| !read.contains(post));
    Ok(unread)
}

/// Stores the members of sets. Returns the posts whose sets could be read.
async fn store_sets(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    posts: Vec<PostId>,
    members: &mut Members,
    report: &mut ScanReport,
) -> Result<HashSet<PostId>, Failure> {
    let mut read = HashSet::with_capacity(posts.len());
    for post in posts {
        match read_members(reconciler, drains, &post, members).await {
            Ok(()) => drop(read.insert(post)),
            Err(Failure::Redis(error)) if reconciler.context().is_of_one_post(&error) => report.fail(&post, &error),
            Err(failure) => return Err(failure),
        }
    }
    store_members(reconciler, members).await?;
    Ok(read)
}

/// Reads a set in bounded steps. Whenever there are enough members for a batch, they are stored, and the drains have
/// their turn.
async fn read_members(
    reconciler: &mut Reconciler,
    drains: &mut impl Drains,
    post: &PostId,
    members: &mut Members,
) -> Result<(), Failure> {
    let key = reconciler.context().keys.views(post);
    let mut cursor = "0".to_owned();
    loop {
        let reply = reconciler.context().redis.send(&["SSCAN", &key, &cursor, "COUNT", SSCAN_COUNT]).await?;
        let (next, page): (String, Vec<Value>) = reply.convert()?;
        for member in page {
            members.add(post, member);
        }
        reconciler.context().progress.made();
        if members.pairs.len() + members.dead.len() >= reconciler.context().settings.batch_size {
            store_members(reconciler, members).await?;
            reconciler.context().checkpoint()?;
            turn::give(reconciler, drains).await?;
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

async fn store_members(reconciler: &mut Reconciler, members: &mut Members) -> Result<(), Failure> {
    let (mut pairs, mut dead) = (std::mem::take(&mut members.pairs), std::mem::take(&mut members.dead));
    let database = &reconciler.context().database;
    let mut schema = database.schema().await?;
    if !pairs.fits(&schema) {
        schema = database.schema_to_give_up().await?;
    }
    dead.extend(pairs.prepare(&schema).into_iter().map(|(_, dead_letter)| dead_letter));
    let outcome = reconciler.shared.inserter.run(&pairs).await?;
    for refused in &outcome.refused {
        match pairs.ids(refused.place) {
            Some((post, _)) if refused.refusal.is_lock() => drop(members.incomplete.insert(post)),
            _ => {
                let dead_letter = pairs.dead_letter(refused.place, refused.refusal.to_string()).1;
                dead.push(if refused.refusal.may_pass() { dead_letter.retryable() } else { dead_letter });
            }
        }
    }
    dead.extend(pairs.dead_letters_of(&outcome.missing, NO_SUCH_POST).into_iter().map(|(_, dead_letter)| dead_letter));
    members.incomplete.extend(outcome.deferred.into_keys());
    dead_letters::add(&mut reconciler.session, dead).await?;
    let mut added = 0;
    for (post, stored) in outcome.stored {
        added += stored.added.unsigned_abs();
        if stored.added > 0 {
            reconciler.shared.publisher.changed(post, stored.views);
        }
    }
    reconciler.context().metrics.new.inc_by(added);
    Ok(())
}

/// Corrects the numbers of posts whose sets are in the ledger now.
async fn correct_numbers(
    reconciler: &mut Reconciler,
    imported: &[(PostId, PostState)],
    report: &mut ScanReport,
) -> Result<(), Failure> {
    let posts: Vec<PostId> = imported.iter().map(|(post, _)| *post).collect();
    let counts: HashMap<PostId, i64> = ledger::counts(&reconciler.context().database, &posts).await?;
    // A post that was deleted this moment has its turn with the next scan.
    let adjustments: Vec<Adjustment> = imported
        .iter()
        .filter_map(|(post, state)| {
            let difference = state.members - state.recorded;
            let views = counts.get(post).copied()?;
            let of = Adjustment::of(*post);
            // Who is in the outbox still is in the ledger by now, and would count twice.
            let count = Adjustment { known: state.persisted, views: Some(views), is_quiet: true, ..of };
            Some(Adjustment { recorded: difference, acked: difference, ..count })
        })
        .collect();
    let failed = adjust(&mut reconciler.session, &adjustments, report).await?;
    let done = adjustments.iter().filter(|adjustment| !failed.contains(&adjustment.post)).count() as u64;
    report.successful += done;
    report.imported += done;
    reconciler.context().metrics.imported_sets.inc_by(done);
    reconciler.context().progress.made();
    Ok(())
}

impl Members {
    fn add(&mut self, post: &PostId, member: Value) {
        match member.as_str().and_then(|member| ViewerId::parse(&member).ok()) {
            Some(viewer) => {
                self.pairs.add(*post, &viewer, now_ms());
            }
            None => {
                let member = member.into_bytes().unwrap_or_default();
                self.dead.push(DeadLetter::new(post.as_str().as_bytes(), &member, "not the id of a viewer", now_ms()));
            }
        }
    }
}
