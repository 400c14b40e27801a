//! A recorder: records views and tells counts, one batch after the other.
//!
//! Each worker has one. While a batch is with Redis, the next one gathers: what has come by then is one pipeline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use views_core::{failpoints, ids::PostId, ticks};
use views_postgres::Database;
use views_redis::{Pipeline, Session, scripts::Depth};

use crate::record::{
    breaker::REDIS_TIMEOUT,
    bypass::{Bypass, Bypassed},
    check::{self, Checked, Next},
    context::Context,
    fallback::Fallback,
    group::{Group, Item, Items, Lookup, LookupResult},
    lookup::{FinishedLookup, Found, Lookups, Wanted},
    missed::{Missed, MissedViews},
    mode::{Cause, Mode},
    parked::{Parked, ParkedItems},
    pending::PendingRequests,
    read_limit::ReadPermit,
    refusing_nodes::RefusingNodes,
    request::{Request, RequestReceiver},
    write,
};

/// How many views and reads make up a batch at most. More would make the first of them wait for the last.
const MAX_BATCH: usize = 1_024;
/// How many of these may be reads, about: a view that comes while a batch is under way waits for the whole of it.
const MAX_BATCH_READS: usize = 256;
/// How often, after an outage of Redis, posts that it has missed views of are brought up to date.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(250);
/// How soon after none of them could be, for the sake of nodes that are away, they are gone through again.
const CATCH_UP_PAUSE: Duration = Duration::from_secs(2);
/// How many posts are brought up to date at a time.
const CATCH_UP_POSTS: usize = 256;

/// How long reads are refused at once after neither store has answered.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Records batches, one after the other.
struct Recorder {
    context: Context,
    pipeline: Pipeline,
    pending: PendingRequests,
    lookups: Lookups,
    /// The items of posts that are being looked up.
    parked: ParkedItems,
    /// The items of posts whose nodes of a cluster are away.
    bypass: Bypass,
    /// What PostgreSQL has taken while Redis was away.
    missed: MissedViews,
    /// Until when no post of these can be told Redis, as far as is known.
    catch_up_at: Option<Instant>,
    mode: Mode,
    /// Which nodes of a cluster take no views.
    nodes: RefusingNodes,
    /// Until when reads that Redis did not answer are refused without asking PostgreSQL, which has just not answered either.
    away_until: Option<Instant>,
}

/// A batch that is being gathered.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    /// Of the reads, until they have been checked.
    permits: Vec<ReadPermit>,
    reads: usize,
}

/// Runs until nobody can send requests any more.
pub(crate) async fn run(context: Context, mut requests: RequestReceiver) {
    let (lookups, mut finished) = Lookups::new(context.clone());
    let (bypass, mut bypassed) = Bypass::new(context.clone());
    let breaker = Arc::clone(&context.breaker);
    let session = Session::new(&context.redis, REDIS_TIMEOUT, breaker.epoch()).with_breaker(breaker);
    let mut recorder = Recorder {
        pipeline: Pipeline::new(session),
        pending: PendingRequests::new(context.worker_id, context.mailboxes.clone()),
        lookups,
        parked: ParkedItems::default(),
        bypass,
        missed: MissedViews::default(),
        catch_up_at: None,
        mode: Mode::default(),
        nodes: RefusingNodes::default(),
        away_until: None,
        context,
    };
    let mut catch_up = ticks::every(CATCH_UP_INTERVAL);
    // A process that has just started is not yet connected, which is no reason to write past Redis.
    recorder.context.breaker.wait().await;
    let mut batch = Batch::default();
    loop {
        tokio::select! {
            Some(lookup) = finished.recv() => recorder.take_finished_lookup(lookup, &mut batch.items),
            Some(bypassed) = bypassed.recv() => recorder.take_bypassed(bypassed),
            request = requests.views.recv() => match request {
                Some(request) => batch.add(request, &mut recorder.pending),
                None => return,
            },
            Some(request) = requests.reads.recv() => batch.add(request, &mut recorder.pending),
            _ = catch_up.tick(), if recorder.mode.is_fallback() || !recorder.missed.is_empty() => recorder.catch_up(),
        }
        recorder.gather(&mut batch, &mut requests, &mut finished);
        recorder.process_all(&mut batch).await;
    }
}

impl Batch {
    fn add(&mut self, mut request: Request, pending: &mut PendingRequests) {
        if let Some(permit) = request.permit.take() {
            self.permits.push(permit);
            self.reads += request.posts.len();
        }
        pending.add(request, &mut self.items);
    }
}

impl Recorder {
    /// Adds to a batch what has come already: look-ups that have ended before views, and views before reads.
    fn gather(
        &mut self,
        batch: &mut Batch,
        requests: &mut RequestReceiver,
        finished: &mut mpsc::UnboundedReceiver<FinishedLookup>,
    ) {
        while batch.items.len() < MAX_BATCH {
            if let Ok(lookup) = finished.try_recv() {
                self.take_finished_lookup(lookup, &mut batch.items);
            } else if let Ok(request) = requests.views.try_recv() {
                batch.add(request, &mut self.pending);
            } else if batch.reads < MAX_BATCH_READS
                && let Ok(request) = requests.reads.try_recv()
            {
                batch.add(request, &mut self.pending);
            } else {
                return;
            }
        }
    }

    /// Processes all that has been gathered, which leaves the batch empty. Those who have waited for a look-up may be
    /// more than a batch.
    async fn process_all(&mut self, batch: &mut Batch) {
        let mut rest = batch.items.drain(..);
        while rest.len() > 0 {
            let groups = self.pending.group(rest.by_ref().take(MAX_BATCH));
            self.process(groups).await;
        }
        drop(rest);
        self.pending.flush();
        batch.permits.clear();
        batch.reads = 0;
    }

    /// Takes one batch through its stages, and gives everyone in it an outcome, but for those who wait for a look-up.
    async fn process(&mut self, mut groups: Vec<Group>) {
        let started = Instant::now();
        let size: usize = groups.iter().map(|group| group.items.len()).sum();
        let is_open = !self.context.breaker.takes_views();
        if is_open && self.mode.is_fallback() {
            self.mode = Mode::Fallback(Cause::BreakerOpen);
        }

        let (checked, mut refused, own_faults) = check::run(&self.context, &mut self.pipeline, &mut groups).await;
        let checked = self.admit(checked, &mut refused);
        let outcome = write::run(&self.context, &mut self.pipeline, checked).await;
        refused.extend(outcome.refused);
        let is_partly_taken = self.nodes.note(&self.context, &outcome.written, &refused);
        failpoints::at("answer::before");
        self.pending.respond_written(outcome.written, &self.context.metrics);
        // Whoever has an outcome does not wait for what PostgreSQL is to do for the others.
        self.pending.flush();
        failpoints::at("answer::after");

        let is_taken = refused.len() == own_faults || is_partly_taken;
        if is_partly_taken {
            refused.into_iter().for_each(|group| self.go_past(group));
            self.bypass.start(&self.pending);
        } else if !refused.is_empty() {
            let cause = match is_open || self.mode.is_for_breaker() {
                true => Cause::BreakerOpen,
                false if is_taken => Cause::Posts,
                false => Cause::Refused,
            };
            self.fall_back(refused, cause).await;
        }
        if is_taken && outcome.has_stored {
            self.context.health.redis_has_stored();
            self.enter(Mode::Redis);
        }
        self.lookups.start();
        self.context.metrics.worker.batch_size.observe(size as u64);
        self.context.metrics.worker.batch_took(started.elapsed());
    }

    /// Returns the groups that can be written as they are. The others wait for a look-up, or have their outcome; those
    /// of which Redis did not take what PostgreSQL knows are added to `refused`.
    fn admit<'b>(&mut self, checked: Vec<Checked<'b>>, refused: &mut Vec<&'b mut Group>) -> Vec<Checked<'b>> {
        let mut admitted = Vec::with_capacity(checked.len());
        let has_database = self.context.database.is_some();
        for checked in checked {
            if self.bypass.has(&checked.group.post) {
                // Redis, which is back, has not heard yet of what is on its way past it.
                self.go_past(checked.group);
                continue;
            }
            let has_missed = self.missed.get(&checked.group.post).is_some();
            match checked.next(has_missed, has_database) {
                Next::Refuse => refused.push(checked.group),
                Next::LookUp => self.park(checked.group),
                Next::WriteUnverified => {
                    if self.context.unverified.take() {
                        admitted.push(checked);
                    } else {
                        self.refuse(&checked.group.items);
                    }
                }
                Next::Write => admitted.push(checked),
            }
        }
        admitted
    }

    /// Parks the items of a post that has to be looked up: nobody has done so yet, or it has been viewed past Redis.
    fn park(&mut self, group: &mut Group) {
        let depth = group.depth();
        if self.context.not_found.has(&group.post, depth) {
            self.pending.respond_not_found(&group.items, &self.context.metrics);
            return;
        }
        // What Redis has missed, only one look-up tells it, whoever asks.
        let missed = self.missed.get(&group.post).cloned();
        let depth = if missed.is_some() { Depth::View } else { depth };
        let room = self.parked.read_room();
        let mut items = std::mem::take(&mut group.items);
        items.retain(|item| {
            let has_room = self.pending.viewer(item).is_some() || self.pending.may_park(item, room);
            if !has_room {
                self.pending.respond_unavailable(&[*item], &self.context.metrics);
            }
            has_room
        });
        if !items.is_empty() {
            self.look_up(group.post, depth, missed, items);
        }
    }

    /// Has items wait until a post is looked up.
    fn look_up(&mut self, post: PostId, depth: Depth, missed: Option<Missed>, items: Items) {
        let reads = items.iter().filter(|item| self.pending.viewer(item).is_none()).count();
        match self.parked.add(post, depth, items, reads) {
            Parked::First => self.lookups.add(depth, Wanted { post, missed }),
            Parked::More => {}
            Parked::NoRoom(items) => self.refuse(&items),
        }
    }

    /// Has the clients come again.
    fn refuse(&mut self, items: &[Item]) {
        self.pending.respond_unavailable(items, &self.context.metrics);
    }

    /// Has PostgreSQL take what a node of a cluster did not, beside the batches.
    fn go_past(&mut self, group: &mut Group) {
        let is_away = self.away_until.is_some_and(|until| Instant::now() < until);
        let is_in_vain = self.context.database.is_none() || (is_away && group.depth() == Depth::Read);
        let refused =
            if is_in_vain { std::mem::take(&mut group.items) } else { self.bypass.add(group).err().unwrap_or_default() };
        self.refuse(&refused);
    }

    /// Takes what PostgreSQL says of what went past a node of a cluster.
    fn take_bypassed(&mut self, mut bypassed: Bypassed) {
        // Before anybody is answered: from then on, Redis is not believed before it has been told.
        self.missed.absorb(std::mem::take(&mut bypassed.missed));
        match &bypassed.result {
            Some(Ok(has_stored)) => {
                self.away_until = None;
                if *has_stored {
                    self.context.health.database_has_stored();
                }
            }
            Some(Err(error)) => {
                self.away_until = error.is_away().then(|| Instant::now() + PAUSE_AFTER_FAILURE);
                // Redis takes all others.
                self.context.health.database_has_failed(false);
            }
            None => {}
        }
        self.bypass.answer(&bypassed, &mut self.pending);
        self.pending.flush();
    }

    /// Has PostgreSQL take what Redis did not. Whoever views does not wait for what others read.
    async fn fall_back(&mut self, groups: Vec<&mut Group>, cause: Cause) {
        let groups = groups.into_iter().map(|group| &*group);
        let (views, reads): (Vec<&Group>, Vec<&Group>) = groups.partition(|group| group.depth() == Depth::View);
        let is_away = self.away_until.is_some_and(|until| Instant::now() < until);
        let mut answers = self.context.database.is_some() && !(is_away && views.is_empty());
        for groups in [views, reads].iter().filter(|groups| !groups.is_empty()) {
            match self.context.database.clone().filter(|_| answers) {
                Some(database) => answers = self.store_past_redis(&database, groups, cause).await,
                None => {
                    let has_views = groups.iter().any(|group| group.depth() == Depth::View);
                    self.context.health.database_has_failed(has_views && cause != Cause::Posts);
                    for group in groups {
                        self.refuse(&group.items);
                    }
                }
            }
            self.pending.flush();
        }
    }

    /// Returns whether PostgreSQL answers.
    async fn store_past_redis(&mut self, database: &Database, groups: &[&Group], cause: Cause) -> bool {
        let has_views = groups.iter().any(|group| group.depth() == Depth::View);
        let context = self.context.clone();
        let mut fallback = Fallback::new(&context, database, groups);
        let result = fallback.store(&mut self.missed).await;
        let (is_there, is_away) = (result.is_ok(), result.is_err_and(|error| error.is_away()));
        self.away_until = is_away.then(|| Instant::now() + PAUSE_AFTER_FAILURE);
        if !is_there {
            // Redis takes all others.
            context.health.database_has_failed(has_views && cause != Cause::Posts);
        } else if fallback.has_stored() {
            context.health.database_has_stored();
        }
        // A single read that Redis could not be trusted with is no outage.
        let begins = is_there
            && match cause {
                Cause::BreakerOpen => true,
                Cause::Refused => has_views && !self.missed.is_empty(),
                Cause::Posts => false,
            };
        // The replies come last: whoever has one and looks sees which store has taken the view.
        if begins && !self.mode.is_fallback() {
            self.enter(Mode::Fallback(cause));
        }
        let rest = fallback.answer(groups.to_vec(), &mut self.pending);
        if fallback.has_locked() {
            // Whoever has an outcome does not wait for somebody else's lock.
            self.pending.flush();
            fallback.store_locked(&mut self.missed).await;
            fallback.answer(rest, &mut self.pending);
        }
        !is_away
    }

    fn enter(&mut self, mode: Mode) {
        if self.mode.is_fallback() != mode.is_fallback() {
            self.context.health.fallback(mode.is_fallback(), &self.context.metrics);
        }
        self.mode = mode;
    }

    /// After an outage of Redis: has the posts that it has missed views of brought up to date, also those that nobody
    /// asks for.
    fn catch_up(&mut self) {
        if !self.context.breaker.takes_views() || self.catch_up_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Context { keys, breaker, .. } = &self.context;
        let posts =
            self.missed.some(CATCH_UP_POSTS, |post| !keys.are_in_cluster() || breaker.takes_views_of_slot(keys.slot(post)));
        if self.mode.is_for_breaker() && posts.is_empty() {
            self.enter(Mode::Redis);
        }
        let is_in_vain = posts.is_empty() && !self.missed.is_empty();
        self.catch_up_at = is_in_vain.then(|| Instant::now() + CATCH_UP_PAUSE);
        for post in posts {
            let missed = self.missed.get(&post).cloned();
            self.look_up(post, Depth::View, missed, Items::new());
        }
        self.lookups.start();
    }

    /// Takes what a look-up has found and brings those who waited for it back into a batch.
    fn take_finished_lookup(&mut self, finished: FinishedLookup, items: &mut Vec<Item>) {
        let depth = finished.depth;
        self.lookups.finished(&finished);
        for (Wanted { post, missed }, found) in finished.posts {
            let parked = self.parked.take(&post, depth);
            if let Some(missed) = missed
                && matches!(found, Found::Yes | Found::No)
            {
                self.missed.refreshed(&post, missed.generation);
                // Redis has taken what it missed, so it will take what is new. A node of a cluster that does not is no reason.
                if self.missed.is_empty() || self.context.keys.are_in_cluster() {
                    self.enter(Mode::Redis);
                }
            }
            let result = match found {
                Found::Yes => LookupResult::Done,
                Found::Unknown => LookupResult::Unavailable,
                Found::Refused => LookupResult::Refused,
                Found::NeedsViewers => {
                    self.look_up(post, Depth::View, None, parked);
                    continue;
                }
                Found::No => {
                    self.context.remember_not_found(post, depth);
                    self.pending.respond_not_found(&parked, &self.context.metrics);
                    continue;
                }
            };
            if found == Found::Yes && depth == Depth::View {
                self.context.not_found.found(&post);
            }
            let lookup = Some(Lookup { depth, result });
            items.extend(parked.into_iter().map(|item| Item { lookup, ..item }));
        }
        self.lookups.start();
    }
}
