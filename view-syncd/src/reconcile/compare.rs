//! Comparing posts: what differs between Redis, the outbox and the ledger, and does so still when it is looked at again.
//!
//! A live system has differences that are on their way. What one look finds is a suspicion; a difference is what three
//! more looks find the same, with pauses in which whatever is on its way arrives. Numbers of a post are compared only where
//! nothing of it has moved while they were read.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::sleep;
use views_core::ids::{PostId, ViewerId};
use views_postgres::ledger;

use super::{
    difference::{Difference, Kind, Value},
    look::{LookedAt, look, read_numbers},
    pending::{Pending, pass_over_dead},
};
use crate::{error::Failure, owned_session::OwnedSession};

/// The pause before the first of the further looks where something is pending: longer than an increment may come behind
/// its entry, and the linger of the drain.
const PENDING_PAUSE: Duration = Duration::from_millis(2_200);
/// Every other pause.
const PAUSE: Duration = Duration::from_millis(400);
/// How many looks have to find the same.
const LOOKS: usize = 3;

/// What was looked at, beside differences.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Posts whose keys hold something else.
    pub(crate) unreadable: u64,
    /// Posts that were busy all the time, or whose pairs are in an outbox that is too long to be read.
    pub(crate) unsettled: u64,
    /// Posts that do not exist any more, whose keys the next scan removes.
    pub(crate) gone: u64,
}

/// What a comparison of posts has found.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    pub(crate) differences: Vec<Difference>,
    pub(crate) posts: HashMap<PostId, LookedAt>,
    /// What is to be written of a post for its numbers to be right.
    pub(crate) numbers: HashMap<PostId, Numbers>,
    seen: Seen,
}

/// What is right of a post that nothing moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    /// What `recorded` is to be.
    pub(crate) recorded: i64,
    /// What `acked` is to be.
    pub(crate) acked: i64,
    /// What `persisted` is to be; nothing where that cannot be told.
    pub(crate) persisted: Option<i64>,
}

/// Returns whether a post that was looked at once has to be compared.
pub(crate) fn is_suspicious(seen: &LookedAt) -> bool {
    let Some(stored) = &seen.stored else { return seen.is_known() };
    let is_looked_up = seen.author.is_some();
    seen.pending() != 0
        || seen.recorded != seen.size
        || !seen.lacking.is_empty()
        || !seen.absent.is_empty()
        || seen.author.as_ref().is_some_and(|author| *author != stored.author)
        || (is_looked_up && seen.persisted != Some(stored.views))
}

/// Compares posts until it is known what differs, and adds to `seen` what else they are.
pub(crate) async fn confirm(
    session: &mut OwnedSession,
    posts: &[PostId],
    seen: &mut Seen,
    pends: bool,
) -> Result<Compared, Failure> {
    if posts.is_empty() {
        return Ok(Compared::default());
    }
    sleep(if pends { PENDING_PAUSE } else { PAUSE }).await;
    let mut compared = compare(session, posts).await?;
    for _ in 1..LOOKS {
        if compared.differences.is_empty() {
            break;
        }
        sleep(PAUSE).await;
        let suspects: HashSet<&str> = compared.differences.iter().map(|difference| difference.post.as_str()).collect();
        let again: Vec<PostId> = posts.iter().filter(|post| suspects.contains(post.as_str())).copied().collect();
        let mut later = compare(session, &again).await?;
        later.differences.retain(|later| compared.differences.iter().any(|earlier| earlier.is_still(later)));
        // Of those that are not looked at again, it is known what they are.
        later.seen = compared.seen;
        compared = later;
    }
    seen.unreadable += compared.seen.unreadable;
    seen.unsettled += compared.seen.unsettled;
    seen.gone += compared.seen.gone;
    Ok(compared)
}

/// Compares posts once.
pub(crate) async fn compare(session: &mut OwnedSession, posts: &[PostId]) -> Result<Compared, Failure> {
    let mut compared = Compared::default();
    let mut looked_at = look(session, posts, &mut compared.seen.unreadable).await?;
    let pending = Pending::read(session, &looked_at).await?;
    for (post, seen) in &mut looked_at {
        if !pending.is_known(post) {
            // Of an outbox that is too long, nobody knows who is in it: what does not depend on that is compared.
            seen.lacking.clear();
        } else if let Some(viewers) = pending.viewers(post) {
            seen.lacking.retain(|viewer| !viewers.contains(viewer));
        }
    }
    drop_known(session, &mut looked_at).await?;
    let of_outbox = |post: &PostId| pending.viewers(post).into_iter().flatten().copied().collect::<Vec<ViewerId>>();
    let wanted: HashMap<PostId, Vec<ViewerId>> = looked_at.keys().map(|post| (*post, of_outbox(post))).collect();
    let stored = ledger::look(&session.context.database, &wanted).await?;
    let moved = read_numbers(session, &looked_at).await?;
    for (post, seen) in &looked_at {
        let is_moving = !pending.is_known(post) || moved.contains(post) || pending.is_young(post);
        let missing = stored.get(post).map(|stored| {
            let missing = wanted.get(post).into_iter().flatten().filter(|viewer| !stored.viewers.contains(*viewer)).count();
            (stored.views, i64::try_from(missing).unwrap_or(i64::MAX))
        });
        compared.add(post, seen, &pending, missing, is_moving);
    }
    compared.posts = looked_at;
    Ok(compared)
}

/// Leaves those out of the lacking viewers who are kept as dead letters, or in the ledger by now.
async fn drop_known(session: &mut OwnedSession, looked_at: &mut HashMap<PostId, LookedAt>) -> Result<(), Failure> {
    if looked_at.values().all(|seen| seen.lacking.is_empty()) {
        return Ok(());
    }
    pass_over_dead(session, looked_at).await?;
    for (post, seen) in looked_at.iter_mut().filter(|(_, seen)| !seen.lacking.is_empty() && seen.stored.is_some()) {
        let lacking: Vec<ViewerId> = seen.lacking.iter().copied().collect();
        let stored = ledger::viewers_among(&session.context.database, post, &lacking).await?;
        seen.lacking.retain(|viewer| !stored.contains(viewer));
    }
    Ok(())
}

impl Compared {
    /// Adds what differs of a post. `stored` are its count in PostgreSQL and how many of the outbox's viewers the ledger
    /// lacks.
    fn add(&mut self, post: &PostId, seen: &LookedAt, pending: &Pending, stored: Option<(i64, i64)>, is_moving: bool) {
        let pairs = pending.pairs(post);
        if pairs > 0 && (seen.stored.is_none() || !seen.has_meta) && !pending.is_young(post) {
            self.note(Kind::OrphanedPair, post, pairs, 0);
        }
        let Some(of_post) = &seen.stored else {
            if seen.is_known() && pairs == 0 && !is_moving {
                self.seen.gone += 1;
            }
            return;
        };
        if let Some(author) = seen.author.as_ref().filter(|author| **author != of_post.author) {
            let (found, expected) = (Value::Text(author.clone()), Value::Text(of_post.author.clone()));
            self.differences.push(Difference { kind: Kind::WrongAuthor, post: post.to_string(), found, expected });
        }
        let (lacking, absent) = (number(&seen.lacking), number(&seen.absent));
        if lacking > 0 {
            self.note(Kind::SetWithoutLedger, post, lacking, 0);
        }
        if absent > 0 {
            self.note(Kind::LedgerWithoutSet, post, absent, 0);
        }
        if !seen.has_meta {
            return;
        }
        if is_moving {
            self.seen.unsettled += 1;
            return;
        }
        // What the members explain of a difference is mended with them.
        let surplus = seen.recorded - seen.size;
        let is_explained = surplus == 0 || surplus == -lacking || (surplus > 0 && surplus == absent);
        let recorded = if is_explained { seen.recorded } else { seen.size };
        if !is_explained {
            self.note(Kind::WrongRecorded, post, seen.recorded, recorded);
        }
        let acked = recorded - (pairs - seen.repeated.min(pairs));
        if acked != seen.acked {
            self.note(Kind::WrongAcked, post, seen.acked, acked);
        }
        let mut numbers = Numbers { recorded, acked, persisted: None };
        if let Some((views, missing)) = stored
            && seen.author.is_some()
        {
            // The live count is to be PostgreSQL's, and those in the outbox whom the ledger lacks.
            let persisted = views + missing - (recorded - acked);
            numbers.persisted = Some(persisted);
            match seen.persisted {
                Some(found) if found == persisted => {}
                Some(found) => self.note(Kind::WrongPersisted, post, found, persisted),
                // Nobody has told Redis while something was pending.
                None if recorded != acked => {}
                None => {
                    let expected = Value::Number(persisted);
                    let found = Value::Nothing;
                    self.differences.push(Difference { kind: Kind::WrongPersisted, post: post.to_string(), found, expected });
                }
            }
        }
        self.numbers.insert(*post, numbers);
    }

    fn note(&mut self, kind: Kind, post: &PostId, found: i64, expected: i64) {
        self.differences.push(Difference::of_numbers(kind, post.as_str(), found, expected));
    }
}

fn number(viewers: &HashSet<ViewerId>) -> i64 {
    i64::try_from(viewers.len()).unwrap_or(i64::MAX)
}
