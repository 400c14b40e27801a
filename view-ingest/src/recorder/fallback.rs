//! Redis away: views go straight into PostgreSQL, with the drain's own statement, a batch at a time (section 6 of the design).
//!
//! What was stored this way, Redis does not know. The posts are remembered, and each is brought up to date in Redis before Redis is
//! believed about it again.

use std::collections::HashMap;

use shared::{
    failpoints,
    ids::{PostId, ViewerId},
    ledger::{self, Pair, Verdict},
    postgres::{Database, DatabaseError, schema::Schema},
};

use super::{Outcome, Status, Stores, Unavailable, batch::Group, tickets::Tickets};

/// Posts and viewers that are remembered at most, per recorder. What an outage touches beyond that is brought up to date by the scan.
const MAX_REMEMBERED: usize = 200_000;
/// How often a statement that gave way to another transaction is tried.
const MAX_TRIES: usize = 5;
/// No post has so few views that this look-up brings its viewers along.
const WITHOUT_VIEWERS: i64 = -1;

/// What was stored in PostgreSQL while Redis was away.
#[derive(Default)]
pub(super) struct Bypassed {
    posts: HashMap<PostId, Missed>,
    remembered: usize,
    /// Grows with each outage's write, so that a refresh that began before it does not count as having seen it.
    generation: u64,
    /// Whether it has been said that there is no room for more. A long outage would say it with every post.
    overflowed: bool,
}

/// What Redis has missed of a post.
#[derive(Debug, Clone, Default)]
pub(super) struct Missed {
    pub(super) generation: u64,
    pub(super) viewers: Vec<ViewerId>,
}

impl Bypassed {
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    pub(super) fn get(&self, post: &PostId) -> Option<&Missed> {
        self.posts.get(post)
    }

    /// Some of the posts, to be brought up to date.
    pub(super) fn some(&self, number: usize) -> Vec<PostId> {
        self.posts.keys().take(number).copied().collect()
    }

    /// Redis knows of a post what was missed up to a generation.
    pub(super) fn refreshed(&mut self, post: &PostId, generation: u64) {
        if self.posts.get(post).is_some_and(|missed| missed.generation == generation)
            && let Some(missed) = self.posts.remove(post)
        {
            self.remembered -= 1 + missed.viewers.len();
            self.overflowed = false;
        }
    }

    fn add(&mut self, post: PostId, viewers: &[ViewerId]) {
        let known = self.posts.contains_key(&post);
        let more = viewers.len() + usize::from(!known);
        if self.remembered + more > MAX_REMEMBERED {
            // Without its viewers a post is still worth remembering; without room, not even that.
            if !known && !std::mem::replace(&mut self.overflowed, true) {
                tracing::warn!(%post, "too many posts were viewed past Redis: from this one on their counts lag until the next scan");
            }
            return;
        }
        self.generation += 1;
        self.remembered += more;
        let missed = self.posts.entry(post).or_default();
        missed.generation = self.generation;
        missed.viewers.extend_from_slice(viewers);
    }
}

/// What PostgreSQL says of the posts that exist.
pub(super) type Verdicts = HashMap<PostId, Verdict>;

/// Stores and reads in PostgreSQL what Redis did not take, and remembers what Redis has missed. Nothing where PostgreSQL is away, too.
pub(super) async fn store(stores: &Stores, database: &Database, groups: &[Group], bypassed: &mut Bypassed) -> Option<Verdicts> {
    failpoints::at("fallback::before");
    let result = ask(database, stores, groups).await;
    let complain = |error| stores.health.complain("neither Redis nor PostgreSQL takes views", &error);
    let verdicts = result.map_err(complain).ok()?;
    failpoints::at("fallback::after");
    for (post, verdict) in verdicts.iter().filter(|(_, verdict)| !verdict.new.is_empty()) {
        bypassed.add(*post, &verdict.new);
    }
    Some(verdicts)
}

/// Answers everyone.
pub(super) fn answer(stores: &Stores, groups: &[Group], verdicts: &Verdicts, tickets: &mut Tickets) {
    for group in groups {
        match verdicts.get(&group.post) {
            Some(verdict) => settle(group, verdict, stores, tickets),
            None => {
                stores.remember_unknown(group.post);
                super::refuse(&group.items, stores, tickets);
            }
        }
    }
}

/// Gives the verdicts on the posts that exist.
async fn ask(database: &Database, stores: &Stores, groups: &[Group]) -> Result<Verdicts, DatabaseError> {
    let fits = |group: &Group, schema: &Schema| {
        let viewers_fit = || group.viewers.iter().all(|viewer| schema.accepts_viewer(&viewer.id));
        schema.accepts_post(&group.post) && viewers_fit()
    };
    let schema = database.schema_that(|schema| groups.iter().all(|group| fits(group, schema))).await?;
    let at_ms = now_ms();
    let mut pairs = Vec::new();
    let mut only_read = Vec::new();
    for group in groups.iter().filter(|group| !stores.unknown.contains_key(&group.post)) {
        let storable = group.viewers.iter().filter(|viewer| schema.accepts_viewer(&viewer.id));
        let before = pairs.len();
        if schema.accepts_post(&group.post) {
            pairs.extend(storable.map(|viewer| Pair { post: group.post, viewer: viewer.id, at_ms }));
        }
        if pairs.len() == before {
            only_read.push(group.post);
        }
    }
    let mut verdicts = HashMap::new();
    if !only_read.is_empty() {
        let known = ledger::look_up(database, &only_read, WITHOUT_VIEWERS).await?;
        let read = |(post, known): (PostId, ledger::KnownPost)| {
            (post, Verdict { views: known.views, author: known.author, new: Vec::new() })
        };
        verdicts.extend(known.into_iter().map(read));
    }
    if !pairs.is_empty() {
        ledger::prepare(&mut pairs);
        verdicts.extend(insert(database, &pairs).await?);
    }
    Ok(verdicts)
}

async fn insert(database: &Database, pairs: &[Pair]) -> Result<Verdicts, DatabaseError> {
    let mut tries = 1;
    loop {
        match ledger::store_with_verdicts(database, pairs).await {
            Err(DatabaseError::Conflict(_)) if tries < MAX_TRIES => tries += 1,
            result => return result,
        }
    }
}

fn settle(group: &Group, verdict: &Verdict, stores: &Stores, tickets: &mut Tickets) {
    let mut new = verdict.new.clone();
    for item in &group.items {
        let viewer = tickets.subject(item).and_then(|(_, viewer)| viewer);
        if viewer.is_some_and(|viewer| !stores.can_hold(viewer)) {
            // Nobody knew at the door. The next try is told.
            stores.metrics.failed.inc();
            tickets.settle(item, Err(Unavailable));
            continue;
        }
        let status = viewer.map_or(Status::Read, |viewer| status(viewer, verdict, &mut new));
        stores.metrics.count(status);
        tickets.settle(item, Ok(Outcome { status, views: verdict.views }));
    }
    stores.metrics.bypassed.inc_by(verdict.new.len() as u64);
}

fn status(viewer: &ViewerId, verdict: &Verdict, new: &mut Vec<ViewerId>) -> Status {
    if verdict.author == viewer.as_str() {
        return Status::Own;
    }
    match new.iter().position(|candidate| candidate == viewer) {
        Some(place) => {
            new.swap_remove(place);
            Status::Counted
        }
        None => Status::Duplicate,
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
