//! Recording views (section 3 of the design): what arrives while Redis is busy with one batch makes up the next (group commit).
//!
//! One recorder runs on each worker thread, and each post belongs to one of them. A recorder works on one batch at a time, so that
//! of two simultaneous views of one viewer the second finds the first. Posts that nobody has touched yet leave the batch, are looked
//! up in PostgreSQL, and come back with a later one; whoever asks for them meanwhile waits with them.

mod batch;
mod check;
mod first_touch;
mod record;
mod tickets;

use std::{collections::HashMap, sync::Arc, time::Duration};

use fred::clients::Client;
use moka::sync::Cache;
use shared::{
    ids::{PostId, ViewerId},
    postgres::Database,
};
use tokio::sync::{mpsc, oneshot};

use self::{
    batch::{Group, Item},
    first_touch::{FirstTouches, Touched},
    tickets::Tickets,
};
use crate::metrics::Metrics;

/// A command of the hot path that Redis does not answer within this time has failed.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(2);
/// How many views and reads make up a batch at most. More would make the first of them wait for the last.
const MAX_BATCH: usize = 1_024;

/// What is asked of a recorder.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Who views the posts; nobody where only the counts are wanted.
    pub(crate) viewer: Option<ViewerId>,
    /// The posts, without repetition.
    pub(crate) posts: Vec<PostId>,
    /// Where the outcomes go, in the order of the posts.
    pub(crate) reply: oneshot::Sender<Result<Vec<Outcome>, Unavailable>>,
}

/// What became of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is new, and recorded.
    Counted,
    /// The viewer has seen the post before.
    Duplicate,
    /// The viewer is the author.
    Own,
    /// There is no such post.
    NotFound,
    /// Only the count was asked for.
    Read,
}

/// What became of a view, and the post's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) views: i64,
}

impl Outcome {
    pub(crate) const NOT_FOUND: Self = Self { status: Status::NotFound, views: 0 };
}

/// No store took the view, or told the count. Nothing has been acknowledged; the client may ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// What a recorder works with.
#[derive(Clone)]
pub(crate) struct Stores {
    /// This recorder's own connection.
    pub(crate) redis: Client,
    /// The database, where there is one.
    pub(crate) database: Option<Arc<Database>>,
    /// Posts that were not found a moment ago, shared by all recorders, bounded in number and time.
    pub(crate) unknown: Cache<PostId, ()>,
    /// How long Redis keeps a post that nobody views.
    pub(crate) view_ttl: Duration,
    /// The process's numbers.
    pub(crate) metrics: Metrics,
}

/// Records batches, one after the other.
struct Recorder {
    stores: Stores,
    tickets: Tickets,
    touches: FirstTouches,
    /// The items of posts that are being looked up.
    waiting: HashMap<PostId, Vec<Item>>,
}

/// Runs until nobody can ask any more.
pub(crate) async fn run(stores: Stores, mut asks: mpsc::Receiver<Ask>) {
    let (touches, mut touched) = FirstTouches::new(stores.clone());
    let mut recorder = Recorder { stores, tickets: Tickets::default(), touches, waiting: HashMap::new() };
    let mut items = Vec::with_capacity(MAX_BATCH);
    loop {
        tokio::select! {
            Some(result) = touched.recv() => recorder.take_touched(result, &mut items),
            ask = asks.recv() => match ask {
                Some(ask) => recorder.tickets.open(ask, &mut items),
                None => return,
            },
        }
        while items.len() < MAX_BATCH {
            if let Ok(result) = touched.try_recv() {
                recorder.take_touched(result, &mut items);
            } else if let Ok(ask) = asks.try_recv() {
                recorder.tickets.open(ask, &mut items);
            } else {
                break;
            }
        }
        if !items.is_empty() {
            recorder.process(batch::group(&mut items)).await;
        }
    }
}

impl Recorder {
    /// Takes one batch through check and record, and gives everyone in it an answer, but for those who wait for a first touch.
    async fn process(&mut self, mut groups: Vec<Group>) {
        let started = std::time::Instant::now();
        let size: usize = groups.iter().map(|group| group.items.len()).sum();
        check::run(&self.stores.redis, &mut groups).await;
        groups.retain_mut(|group| !self.set_aside(group));
        let recorded = record::run(&self.stores, &mut groups).await;
        for group in &groups {
            batch::settle(group, &recorded, &mut self.tickets, &self.stores.metrics);
        }
        self.touches.start();
        self.stores.metrics.batch_size.observe(size as f64);
        self.stores.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Puts a post that nobody has touched yet aside, to be looked up. Gives whether that was so.
    fn set_aside(&mut self, group: &mut Group) -> bool {
        if !group.needs_first_touch() || self.stores.database.is_none() {
            return false;
        }
        if self.stores.unknown.contains_key(&group.post) {
            self.refuse(std::mem::take(&mut group.items));
            return true;
        }
        let items = std::mem::take(&mut group.items);
        let waiting = self.waiting.entry(group.post).or_default();
        if waiting.is_empty() {
            self.touches.want(group.post);
        }
        waiting.extend(items);
        true
    }

    /// Takes what a first touch has found and brings those who waited for it back into a batch.
    fn take_touched(&mut self, touched: Touched, items: &mut Vec<Item>) {
        self.touches.finished(touched.answer);
        for (post, result) in touched.posts {
            let waiting = self.waiting.remove(&post).unwrap_or_default();
            match result {
                first_touch::Found::Yes | first_touch::Found::Unknown => {
                    items.extend(waiting.into_iter().map(|item| Item { touched: true, ..item }));
                }
                first_touch::Found::No => {
                    self.stores.unknown.insert(post, ());
                    self.refuse(waiting);
                }
            }
        }
        self.touches.start();
    }

    /// Tells those who asked for a post that there is none.
    fn refuse(&mut self, items: Vec<Item>) {
        for item in items {
            if item.viewer.is_some() {
                self.stores.metrics.not_found.inc();
            }
            self.tickets.settle(&item, Ok(Outcome::NOT_FOUND));
        }
    }
}
