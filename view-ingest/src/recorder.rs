//! Recording views (section 3 of the design): what arrives while Redis is busy with one batch makes up the next (group commit).
//!
//! One recorder runs on each worker thread, and each post belongs to one of them. A recorder works on one batch at a time, so that
//! of two simultaneous views of one viewer the second finds the first. Posts that nobody has touched yet leave the batch, are looked
//! up in PostgreSQL, and come back with a later one; whoever asks for them meanwhile waits with them. What Redis does not take goes
//! straight into PostgreSQL.

mod ask;
mod batch;
mod check;
mod fallback;
pub(crate) mod first_touch;
pub(crate) mod gate;
pub(crate) mod health;
mod lane;
mod record;
pub(crate) mod tickets;
pub(crate) mod unknown;
pub(crate) mod unseen;
mod waiting;

use std::{sync::Arc, time::Duration};

use fred::clients::Client;
use tokio::sync::{Semaphore, mpsc};
use views_core::{
    failpoints,
    ids::{PostId, ViewerId},
    keys::Keys,
    ticks,
    ttl::Ttl,
};
use views_postgres::{Database, ledger};
use views_redis::scripts::Depth;

pub(crate) use self::ask::{Ask, Asked, Asking, Outcome, Outcomes, Parcel, Reply, Status, Unavailable, queue};
use self::{
    batch::{Group, Item, Items, Tally, Touch},
    fallback::{Bypassed, Fallback, Missed},
    first_touch::{FirstTouches, Found, Touched, Wanted},
    gate::Gate,
    health::Health,
    lane::Lane,
    tickets::Tickets,
    unknown::UnknownPosts,
    unseen::UnseenPosts,
    waiting::{Added, Waiting},
};
use crate::{metrics::Metrics, reads::Turn};

/// A command of the hot path that Redis does not answer within this time has failed.
pub(crate) const REDIS_TIMEOUT: Duration = Duration::from_secs(1);
/// How many views and reads make up a batch at most. More would make the first of them wait for the last.
const MAX_BATCH: usize = 1_024;
/// How many of these may be reads, about: a view that comes while a batch is under way waits for the whole of it.
const MAX_BATCH_READS: usize = 256;
/// How often, after an outage of Redis, posts that it has missed views of are brought up to date.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(250);
/// How many posts are brought up to date at a time.
const CATCH_UP_POSTS: usize = 256;

/// What a recorder works with.
#[derive(Clone)]
pub(crate) struct Stores {
    /// This recorder's own connection.
    pub(crate) redis: Client,
    /// The names of all keys.
    pub(crate) keys: Keys,
    /// Whether Redis is the one to write to.
    pub(crate) gate: Arc<Gate>,
    /// The database, where there is one.
    pub(crate) database: Option<Arc<Database>>,
    /// Posts that were not found a moment ago, shared by all recorders, bounded in number and time.
    pub(crate) unknown: UnknownPosts,
    /// How many posts may be accepted that nobody could look up, shared by all recorders.
    pub(crate) unseen: UnseenPosts,
    /// The share that reads have of the connections to PostgreSQL, for all recorders together.
    pub(crate) read_queries: Arc<Semaphore>,
    /// How long Redis keeps a post that nobody views.
    pub(crate) view_ttl: Ttl,
    /// Which store takes the process's views.
    pub(crate) health: Arc<Health>,
    /// The process's numbers.
    pub(crate) metrics: Metrics,
    /// Which worker this is.
    pub(crate) home: usize,
    /// The ways to all workers' requests.
    pub(crate) couriers: Vec<mpsc::UnboundedSender<Parcel>>,
}

impl Stores {
    /// Remembers that there is no such post. An id that does not fit the column's type costs no query, and may fit as soon as the type is
    /// another one, so it is not remembered.
    fn remember_unknown(&self, post: PostId, depth: Depth) {
        let schema = self.database.as_ref().map(|database| database.last_known_schema());
        let schema = schema.as_ref().and_then(|schema| schema.as_ref());
        if schema.is_none_or(|schema| schema.accepts_post(&post)) {
            self.unknown.insert(post, depth);
        }
    }

    /// Whether the ledger can hold a viewer, as far as is known.
    fn can_hold(&self, viewer: &ViewerId) -> bool {
        self.database.as_ref().is_none_or(|database| ledger::seems_to_fit(database, viewer))
    }
}

/// Records batches, one after the other.
struct Recorder {
    stores: Stores,
    lane: Lane,
    tickets: Tickets,
    touches: FirstTouches,
    /// The items of posts that are being looked up.
    waiting: Waiting,
    /// What PostgreSQL has taken while Redis was away.
    bypassed: Bypassed,
    /// Whether this recorder's last new views went into PostgreSQL.
    in_fallback: bool,
    /// Whether that was for the gate's sake: then an open gate ends it, and not only a new view that Redis takes.
    shut_out: bool,
}

/// Runs until nobody can ask any more.
pub(crate) async fn run(stores: Stores, mut asked: Asked) {
    let (touches, mut touched) = FirstTouches::new(stores.clone());
    let tickets = Tickets::new(stores.home, stores.couriers.clone());
    let mut recorder = Recorder {
        stores,
        lane: Lane::default(),
        tickets,
        touches,
        waiting: Waiting::default(),
        bypassed: Bypassed::default(),
        in_fallback: false,
        shut_out: false,
    };
    let mut catch_up = ticks::every(CATCH_UP_INTERVAL);
    // A process that has just started is not yet connected, which is no reason to write past Redis.
    recorder.stores.gate.wait().await;
    let mut items = Vec::with_capacity(MAX_BATCH);
    // Of the reads in the batch that is made up.
    let mut turns: Vec<Turn> = Vec::new();
    let mut reads = 0;
    loop {
        tokio::select! {
            Some(result) = touched.recv() => recorder.take_touched(result, &mut items),
            ask = asked.views.recv() => match ask {
                Some(ask) => recorder.tickets.open(ask, &mut items),
                None => return,
            },
            Some(mut ask) = asked.reads.recv() => {
                turns.extend(ask.turn.take());
                reads = ask.posts.len();
                recorder.tickets.open(ask, &mut items);
            }
            _ = catch_up.tick(), if recorder.in_fallback || !recorder.bypassed.is_empty() => recorder.catch_up(),
        }
        while items.len() < MAX_BATCH {
            if let Ok(result) = touched.try_recv() {
                recorder.take_touched(result, &mut items);
            } else if let Ok(ask) = asked.views.try_recv() {
                recorder.tickets.open(ask, &mut items);
            } else if reads < MAX_BATCH_READS
                && let Ok(mut ask) = asked.reads.try_recv()
            {
                turns.extend(ask.turn.take());
                reads += ask.posts.len();
                recorder.tickets.open(ask, &mut items);
            } else {
                break;
            }
        }
        // Those who have waited for a first touch may be more than a batch.
        let mut rest = items.drain(..);
        while rest.len() > 0 {
            let groups = batch::group(rest.by_ref().take(MAX_BATCH), &recorder.tickets);
            recorder.process(groups).await;
        }
        drop(rest);
        recorder.tickets.dispatch();
        turns.clear();
        reads = 0;
    }
}

impl Recorder {
    /// Takes one batch through check and record, and gives everyone in it an answer, but for those who wait for a first touch.
    async fn process(&mut self, mut groups: Vec<Group>) {
        let started = std::time::Instant::now();
        let size: usize = groups.iter().map(|group| group.items.len()).sum();
        self.shut_out = !self.stores.gate.is_open() || (self.in_fallback && self.shut_out);
        check::run(&self.stores, &mut self.lane, &mut groups).await;
        for group in groups.iter_mut().filter(|group| group.was_refused()) {
            group.meta = Err(Unavailable);
        }
        groups.retain_mut(|group| !self.set_aside(group) && !self.refuse_unseen(group));
        let wrote = record::run(&self.stores, &mut self.lane, &mut groups).await;
        failpoints::at("answer::before");
        let mut tally = Tally::default();
        groups.retain_mut(|group| {
            let refused = record::count(group).is_err();
            if !refused {
                batch::settle(group, &mut self.tickets, &mut tally);
            }
            refused
        });
        let refused = groups;
        tally.add_to(&self.stores.metrics);
        // Whoever has an answer does not wait for what PostgreSQL is to do for the others.
        self.tickets.dispatch();
        failpoints::at("answer::after");
        if wrote && refused.is_empty() {
            self.stores.health.redis_has_stored();
        }
        if refused.is_empty() {
            self.enter_fallback(self.in_fallback && !wrote);
        } else {
            self.fall_back(refused).await;
        }
        self.touches.start();
        self.stores.metrics.batch_size.observe(size as f64);
        self.stores.metrics.batch_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Has PostgreSQL take what Redis did not. Whoever views does not wait for what others read.
    async fn fall_back(&mut self, groups: Vec<Group>) {
        let (views, reads): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.depth() == Depth::View);
        let mut is_there = self.stores.database.is_some();
        for groups in [views, reads].iter().filter(|groups| !groups.is_empty()) {
            match self.stores.database.clone().filter(|_| is_there) {
                Some(database) => is_there = self.store_past_redis(&database, groups).await,
                None => {
                    self.stores.health.database_has_failed(groups.iter().any(|group| group.depth() == Depth::View));
                    for group in groups {
                        batch::fail(group, &mut self.tickets, &self.stores.metrics);
                    }
                }
            }
            self.tickets.dispatch();
        }
    }

    /// Returns whether PostgreSQL is there.
    async fn store_past_redis(&mut self, database: &Database, groups: &[Group]) -> bool {
        let has_views = groups.iter().any(|group| group.depth() == Depth::View);
        let mut fallback = Fallback::new(&self.stores, database, groups);
        let is_there = fallback.store(&mut self.bypassed).await;
        if !is_there {
            self.stores.health.database_has_failed(has_views);
        } else if fallback.has_stored() {
            self.stores.health.database_has_stored();
        }
        // A single read that Redis could not be trusted with is no outage.
        let begins = is_there && (self.shut_out || !self.bypassed.is_empty());
        // The answers come last: whoever has one and looks sees which store has taken the view.
        if self.in_fallback != (begins || self.in_fallback) {
            self.in_fallback = true;
            self.stores.health.fallback(true, &self.stores.metrics);
        }
        let rest = fallback.answer(groups.iter().collect(), &mut self.tickets);
        if fallback.has_locked() {
            // Whoever has an answer does not wait for somebody else's lock.
            self.tickets.dispatch();
            fallback.store_locked(&mut self.bypassed).await;
            fallback.answer(rest, &mut self.tickets);
        }
        is_there
    }

    fn enter_fallback(&mut self, now: bool) {
        if self.in_fallback != now {
            self.in_fallback = now;
            self.stores.health.fallback(now, &self.stores.metrics);
        }
    }

    /// Puts a post aside, to be looked up, that nobody has touched yet or that has been viewed past Redis. Gives whether that was so.
    fn set_aside(&mut self, group: &mut Group) -> bool {
        let missed = self.bypassed.get(&group.post);
        let stale = missed.is_some() && group.may_be_looked_up();
        if !(stale || group.needs_first_touch()) || self.stores.database.is_none() {
            return false;
        }
        let (items, depth) = (std::mem::take(&mut group.items), group.depth());
        if self.stores.unknown.has(&group.post, depth) {
            refuse(&items, &self.stores, &mut self.tickets);
            return true;
        }
        // What Redis has missed, only one look-up tells it, whoever asks.
        let depth = if missed.is_some() { Depth::View } else { depth };
        let missed = missed.cloned();
        let room = self.waiting.read_room();
        if depth == Depth::Read && !items.iter().any(|item| self.tickets.may_wait(item, room)) {
            self.turn_away(&items);
            return true;
        }
        self.look_up(group.post, depth, missed, items);
        true
    }

    /// Has items wait until a post is looked up.
    fn look_up(&mut self, post: PostId, depth: Depth, missed: Option<Missed>, items: Items) {
        match self.waiting.add(post, depth, items) {
            Added::First => self.touches.want(depth, Wanted { post, missed }),
            Added::More => {}
            Added::NoRoom(items) => self.turn_away(&items),
        }
    }

    /// Refuses the views of a post that could not be looked up and that Redis does not know, where as many as may be were accepted already.
    /// Gives whether that was so.
    fn refuse_unseen(&mut self, group: &mut Group) -> bool {
        if !group.is_unseen() || self.stores.unseen.take() {
            return false;
        }
        self.turn_away(&std::mem::take(&mut group.items));
        true
    }

    /// Has the clients come again.
    fn turn_away(&mut self, items: &[Item]) {
        self.stores.metrics.failed.inc_by(items.len() as u64);
        for item in items {
            self.tickets.settle(item, Err(Unavailable));
        }
    }

    /// After an outage of Redis: has the posts that it has missed views of brought up to date, also those that nobody asks for.
    fn catch_up(&mut self) {
        if !self.stores.gate.is_open() {
            return;
        }
        if self.shut_out && self.bypassed.is_empty() {
            self.enter_fallback(false);
        }
        for post in self.bypassed.some(CATCH_UP_POSTS) {
            let missed = self.bypassed.get(&post).cloned();
            self.look_up(post, Depth::View, missed, Items::new());
        }
        self.touches.start();
    }

    /// Takes what a first touch has found and brings those who waited for it back into a batch.
    fn take_touched(&mut self, touched: Touched, items: &mut Vec<Item>) {
        let depth = touched.depth;
        self.touches.finished(depth, touched.answer);
        for (Wanted { post, missed }, found) in touched.posts {
            let waiting = self.waiting.take(&post, depth);
            if let Some(missed) = missed
                && matches!(found, Found::Yes | Found::No)
            {
                self.bypassed.refreshed(&post, missed.generation);
                // Redis has taken what it missed, so it will take what is new.
                self.enter_fallback(self.in_fallback && !self.bypassed.is_empty());
            }
            if found == Found::NeedsViewers {
                self.look_up(post, Depth::View, None, waiting);
                continue;
            }
            let touch = match found {
                Found::Yes => Touch::Done,
                Found::Unknown | Found::NeedsViewers => Touch::Unseen,
                Found::Refused => Touch::Refused,
                Found::No => {
                    self.stores.remember_unknown(post, depth);
                    refuse(&waiting, &self.stores, &mut self.tickets);
                    continue;
                }
            };
            if found == Found::Yes && depth == Depth::View {
                self.stores.unknown.found(&post);
            }
            items.extend(waiting.into_iter().map(|item| Item { touch, ..item }));
        }
        self.touches.start();
    }
}

/// Tells those who asked for a post that there is none.
fn refuse(items: &[Item], stores: &Stores, tickets: &mut Tickets) {
    for item in items {
        if tickets.subject(item).is_some_and(|(_, viewer)| viewer.is_some()) {
            stores.metrics.not_found.inc();
        }
        tickets.settle(item, Ok(Outcome::NOT_FOUND));
    }
}
