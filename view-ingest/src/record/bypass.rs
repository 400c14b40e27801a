//! Views past Redis beside the batches: PostgreSQL takes those of posts whose node of a cluster is away, and nobody who views
//! a post of another node waits for that.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc;
use views_core::ids::PostId;
use views_postgres::{Database, DatabaseError};
use views_redis::scripts::Depth;

use crate::record::{
    context::Context,
    fallback::{self, Fallback, Verdicts},
    group::{Group, Item, Items},
    missed::MissedViews,
    pending::PendingRequests,
};

/// How many views and reads are taken together at most.
const MAX_ITEMS: usize = 1_024;
/// How many may wait, per recorder: what PostgreSQL takes in about a second. The clients of others come again.
const MAX_WAITING: usize = 16 * MAX_ITEMS;

/// What is to go past Redis, and what is under way.
pub(super) struct Bypass {
    context: Context,
    /// Views go before reads.
    views: Vec<Item>,
    reads: Vec<Item>,
    /// How many items of each post wait or are under way.
    posts: HashMap<PostId, usize>,
    /// The groups that are under way.
    groups: Arc<Vec<Group>>,
    /// The places of those of them that have no answer.
    unanswered: Vec<usize>,
    results: mpsc::UnboundedSender<Bypassed>,
}

/// What PostgreSQL says of what is under way.
pub(super) struct Bypassed {
    verdicts: Verdicts,
    /// What of it Redis has missed.
    pub(super) missed: MissedViews,
    /// How PostgreSQL took it: whether it has stored views. Nothing of posts that were locked, of which it is told later.
    pub(super) result: Option<Result<bool, DatabaseError>>,
    /// Whether nothing more is to be said.
    is_last: bool,
}

impl Bypass {
    /// Returns an empty one, and where PostgreSQL's answers come out.
    pub(super) fn new(context: Context) -> (Self, mpsc::UnboundedReceiver<Bypassed>) {
        // The channel holds no more than two answers.
        let (results, receiver) = mpsc::unbounded_channel();
        let bypass = Self {
            context,
            views: Vec::new(),
            reads: Vec::new(),
            posts: HashMap::new(),
            groups: Arc::default(),
            unanswered: Vec::new(),
            results,
        };
        (bypass, receiver)
    }

    /// Returns whether views of a post wait or are under way, so that Redis is not to be believed about it.
    pub(super) fn has(&self, post: &PostId) -> bool {
        !self.posts.is_empty() && self.posts.contains_key(post)
    }

    /// Takes the items of a group, or returns them where there is no room.
    pub(super) fn add(&mut self, group: &mut Group) -> Result<(), Items> {
        let queue = match group.depth() {
            Depth::View => &mut self.views,
            Depth::Read => &mut self.reads,
        };
        let items = std::mem::take(&mut group.items);
        if queue.len() + items.len() > MAX_WAITING {
            return Err(items);
        }
        *self.posts.entry(group.post).or_default() += items.len();
        queue.extend(items);
        Ok(())
    }

    /// Sends PostgreSQL what waits, unless something is under way.
    pub(super) fn start(&mut self, pending: &PendingRequests) {
        let Some(database) = self.context.database.clone().filter(|_| self.unanswered.is_empty()) else { return };
        let queue = if self.views.is_empty() { &mut self.reads } else { &mut self.views };
        if queue.is_empty() {
            return;
        }
        let number = queue.len().min(MAX_ITEMS);
        self.groups = Arc::new(pending.group(queue.drain(..number)));
        self.unanswered = (0..self.groups.len()).collect();
        tokio::spawn(run(self.context.clone(), database, Arc::clone(&self.groups), self.results.clone()));
    }

    /// Answers those of whom PostgreSQL has told. What waits comes next.
    pub(super) fn answer(&mut self, bypassed: &Bypassed, pending: &mut PendingRequests) {
        let is_told = |place: &usize| bypassed.is_last || bypassed.verdicts.is_decided(&self.groups[*place].post);
        let (told, rest): (Vec<usize>, Vec<usize>) = self.unanswered.drain(..).partition(is_told);
        self.unanswered = rest;
        for group in told.into_iter().map(|place| &self.groups[place]) {
            fallback::answer(&self.context, &bypassed.verdicts, group, pending);
            if let Some(items) = self.posts.get_mut(&group.post) {
                *items = items.saturating_sub(group.items.len());
                if *items == 0 {
                    self.posts.remove(&group.post);
                }
            }
        }
        self.start(pending);
    }
}

async fn run(context: Context, database: Arc<Database>, groups: Arc<Vec<Group>>, results: mpsc::UnboundedSender<Bypassed>) {
    let groups: Vec<&Group> = groups.iter().collect();
    let mut fallback = Fallback::new(&context, &database, &groups);
    let mut missed = MissedViews::default();
    let result = fallback.store(&mut missed).await.map(|()| fallback.has_stored());
    let has_locked = fallback.has_locked();
    let verdicts = fallback.verdicts().clone();
    // The receiver lives as long as the recorder.
    let _ = results.send(Bypassed { verdicts, missed, result: Some(result), is_last: !has_locked });
    if has_locked {
        let mut missed = MissedViews::default();
        // Whoever has an outcome does not wait for somebody else's lock.
        fallback.store_locked(&mut missed).await;
        let _ = results.send(Bypassed { verdicts: fallback.into_verdicts(), missed, result: None, is_last: true });
    }
}
