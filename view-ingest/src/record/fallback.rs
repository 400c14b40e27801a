//! Redis away: views go straight into PostgreSQL, by the drain's own way, a batch at a time.
//!
//! A post that somebody has locked there, and a view that PostgreSQL refuses, fail by themselves: whoever is stored
//! already, the author, and whoever only reads are answered all the same. What was stored this way, Redis does not
//! know. The posts are remembered, and each is brought up to date in Redis before Redis is believed about it again.

mod verdicts;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
};
use views_postgres::{
    Database, DatabaseError,
    insert::{Insert, Options},
    ledger::{self, Pair},
    schema::Schema,
};

pub(super) use self::verdicts::Verdicts;
use self::verdicts::{Verdict, places_of};
use crate::record::{
    context::Context,
    group::Group,
    missed::MissedViews,
    pending::PendingRequests,
    request::{Outcome, Status, Unavailable},
};

/// How long views may be searched for that PostgreSQL refuses. Whoever is not done by then is told to come again.
const SEARCH_TIME: Duration = Duration::from_millis(1_500);
/// How long the lock on a post is waited for, with nothing else held.
const LOCK_PATIENCE: Duration = Duration::from_millis(100);
/// How long locks are waited for in one batch. The next one waits behind it.
const LOCKS_TIME: Duration = Duration::from_millis(300);

/// A batch on its way into PostgreSQL.
pub(super) struct Fallback<'a> {
    context: &'a Context,
    database: &'a Database,
    groups: &'a [&'a Group],
    pairs: Vec<Pair>,
    verdicts: Verdicts,
}

impl<'a> Fallback<'a> {
    pub(super) fn new(context: &'a Context, database: &'a Database, groups: &'a [&'a Group]) -> Self {
        Self { context, database, groups, pairs: Vec::new(), verdicts: Verdicts::default() }
    }

    /// Stores and reads what Redis did not take, and remembers what Redis has missed.
    ///
    /// # Errors
    /// [`DatabaseError`], where PostgreSQL is not there, or takes no views.
    pub(super) async fn store(&mut self, missed: &mut MissedViews) -> Result<(), DatabaseError> {
        failpoints::at("fallback::before");
        let result = self.try_store().await;
        failpoints::at("fallback::after");
        for (post, new) in self.verdicts.stored().filter(|(post, _)| self.verdicts.is_decided(post)) {
            missed.add(*post, new);
        }
        result.inspect_err(|error| {
            tracing::warn!(%error, "neither Redis nor PostgreSQL takes views");
            self.context.health.database.note_refusal(Some(error.to_string()));
        })
    }

    async fn try_store(&mut self) -> Result<(), DatabaseError> {
        let fits = |group: &Group, schema: &Schema| {
            schema.accepts_post(&group.post) && group.viewers.iter().all(|viewer| schema.accepts_viewer(&viewer.id))
        };
        let schema = self.database.schema_that(|schema| self.groups.iter().all(|group| fits(group, schema))).await?;
        let at_ms = now_ms();
        let mut pairs = Vec::new();
        let mut only_read = Vec::new();
        for group in self.groups.iter().filter(|group| !self.context.not_found.has(&group.post, group.depth())) {
            let storable = group.viewers.iter().filter(|viewer| schema.accepts_viewer(&viewer.id));
            let before = pairs.len();
            if schema.accepts_post(&group.post) {
                pairs.extend(storable.map(|viewer| Pair { post: group.post, viewer: viewer.id, at_ms }));
            }
            if pairs.len() == before {
                only_read.push(group.post);
            }
        }
        ledger::prepare(&mut pairs);
        let result = self.insert(&pairs, None, Instant::now() + SEARCH_TIME).await;
        self.pairs = pairs;
        if result.is_err() {
            // Nobody has to wait for a lock where nothing is taken anyhow.
            self.verdicts.take_locked();
        }
        if result.as_ref().is_err_and(DatabaseError::is_away) {
            return result;
        }
        let mut wanted = self.verdicts.refused();
        wanted.extend(only_read.into_iter().map(|post| (post, Vec::new())));
        result.and(self.look(wanted).await)
    }

    /// Stores pairs as far as that can be done in time. With patience, locks on posts are waited for.
    async fn insert(&mut self, pairs: &Vec<Pair>, patience: Option<Duration>, until: Instant) -> Result<(), DatabaseError> {
        let options = Options { names_new: true, patience, ..Options::default() };
        let mut insert = Insert::new(self.database, pairs, 0..pairs.len(), options);
        let result = insert.run(Some(until), || ()).await;
        let (inserted, undone) = insert.end();
        self.verdicts.take(pairs, inserted, undone.into_iter().flatten());
        result.map(drop)
    }

    /// Looks at posts of which only the count is wanted, or of which views were not taken.
    async fn look(&mut self, wanted: HashMap<PostId, Vec<ViewerId>>) -> Result<(), DatabaseError> {
        let seen = ledger::look(self.database, &wanted).await?;
        self.verdicts.see(wanted.into_keys(), seen);
        Ok(())
    }

    /// Returns whether PostgreSQL has stored views.
    pub(super) fn has_stored(&self) -> bool {
        self.verdicts.stored().next().is_some()
    }

    /// Returns whether some posts are locked by others.
    pub(super) fn has_locked(&self) -> bool {
        self.verdicts.has_locked()
    }

    /// Waits a moment for the locks of posts and stores their views.
    pub(super) async fn store_locked(&mut self, missed: &mut MissedViews) {
        let until = Instant::now() + LOCKS_TIME;
        let posts = self.verdicts.take_locked();
        // Most locks are gone by now: those of other processes like this one, and of most applications.
        let pairs = self.pairs.iter().filter(|pair| posts.contains(&pair.post)).copied().collect();
        let mut result = self.insert(&pairs, None, until).await;
        for post in self.verdicts.take_locked() {
            if result.is_err() || Instant::now() >= until {
                break;
            }
            result = self.insert(&pairs[places_of(&pairs, &post)].to_vec(), Some(LOCK_PATIENCE), until).await;
        }
        self.verdicts.take_locked();
        // Whoever only reads is told the count; whoever views and is not stored yet is told to come again.
        let mut wanted = self.verdicts.refused();
        wanted.retain(|post, _| posts.contains(post));
        let result = result.and(self.look(wanted).await);
        if let Err(error) = result {
            tracing::warn!(%error, "PostgreSQL does not take the views of posts that others have locked");
        }
        for (post, new) in self.verdicts.stored().filter(|(post, _)| posts.contains(post)) {
            missed.add(*post, new);
        }
    }

    /// Answers everyone of whose post it is known what became of it. Returns the rest.
    pub(super) fn answer(&self, groups: Vec<&'a Group>, pending: &mut PendingRequests) -> Vec<&'a Group> {
        let (decided, rest) = groups.into_iter().partition(|group: &&Group| self.verdicts.is_decided(&group.post));
        for group in decided {
            answer(self.context, &self.verdicts, group, pending);
        }
        rest
    }

    pub(super) fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    pub(super) fn into_verdicts(self) -> Verdicts {
        self.verdicts
    }
}

/// Answers everyone of a group.
pub(super) fn answer(context: &Context, verdicts: &Verdicts, group: &Group, pending: &mut PendingRequests) {
    if let Some((verdict, views)) = verdicts.get(&group.post).and_then(|verdict| Some((verdict, verdict.views()?))) {
        respond(group, verdict, views, context, pending);
    } else if verdicts.is_missing(&group.post) {
        context.remember_not_found(group.post, group.depth());
        pending.respond_not_found(&group.items, &context.metrics);
    } else if context.not_found.has(&group.post, group.depth()) {
        pending.respond_not_found(&group.items, &context.metrics);
    } else {
        pending.respond_unavailable(&group.items, &context.metrics);
    }
}

fn respond(group: &Group, verdict: &Verdict, views: i64, context: &Context, pending: &mut PendingRequests) {
    let mut new = verdict.new_viewers().to_vec();
    context.metrics.bypassed.inc_by(new.len() as u64);
    for item in &group.items {
        let status = match pending.viewer(item) {
            // Nobody knew at the door. The next try is told.
            Some(viewer) if !context.can_hold(viewer) => Err(Unavailable),
            Some(viewer) => verdict.status(viewer, &mut new),
            None => Ok(Status::Read),
        };
        match status {
            Ok(status) => {
                context.metrics.count(status);
                pending.respond(item, Ok(Outcome { status, views }));
            }
            Err(Unavailable) => {
                context.metrics.failed.inc();
                pending.respond(item, Err(Unavailable));
            }
        }
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
