//! What every request needs, made once per process.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;
use smallvec::{SmallVec, smallvec};
use tokio::sync::oneshot;
use views_auth::{AuthError, Identity, Reason, Verifier};
use views_core::ids::{PostId, ViewerId};
use views_postgres::{Database, ledger};
use views_service::{
    readiness::Readiness,
    respond::{self, Answer},
};

use crate::{
    cli::Limits,
    messages,
    metrics::Metrics,
    reads::{Reads, Turn},
    recorder::{Ask, Asking, Outcome, Outcomes, Unavailable},
    viewer_rate::ViewerRate,
};

/// Who asks for posts.
pub(crate) enum Asker {
    /// Somebody who views them.
    Viewer(ViewerId),
    /// Somebody who reads their counts. The turn ends when they are checked.
    Reader(Turn),
}

/// The process, as a request sees it from the worker that serves it.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Metrics,
    viewer_rate: Option<Arc<ViewerRate>>,
    database: Option<Arc<Database>>,
    recorders: Vec<Asking>,
    /// The reads of this worker.
    reads: Reads,
    /// The same for all workers, who must agree on whose a post is.
    hasher: RandomState,
    home: usize,
}

impl App {
    pub(crate) fn new(
        limits: Limits,
        verifier: Arc<Verifier>,
        readiness: Arc<Readiness>,
        metrics: Metrics,
        database: Option<Arc<Database>>,
        recorders: Vec<Asking>,
    ) -> Self {
        let viewer_rate = limits.viewer_rate.map(|rate| Arc::new(ViewerRate::new(rate)));
        let (reads, hasher) = (Reads::default(), RandomState::default());
        Self { limits, verifier, readiness, metrics, viewer_rate, database, recorders, reads, hasher, home: 0 }
    }

    /// The same for another worker.
    pub(crate) fn at(&self, home: usize) -> Self {
        Self { home, reads: Reads::default(), ..self.clone() }
    }

    /// Asks who sends a request; the error is the answer to give.
    pub(crate) fn identify(&self, authorization: Option<&[u8]>) -> Result<Identity, Answer> {
        self.verifier.identify(authorization).map_err(|error| match error {
            AuthError::Missing => respond::unauthorized(messages::TOKEN_MISSING, false),
            AuthError::Expired => respond::unauthorized(messages::TOKEN_EXPIRED, true),
            AuthError::Invalid => respond::unauthorized(messages::TOKEN_INVALID, true),
        })
    }

    /// Turns away a viewer whose views could never be stored; the error is the answer to give.
    pub(crate) async fn admit(&self, viewer: &ViewerId) -> Result<(), Answer> {
        match &self.database {
            Some(database) if ledger::refuses(database, viewer).await => {
                self.verifier.refuse(Reason::UnfitViewer);
                Err(respond::unauthorized(messages::VIEWER_UNFIT, true))
            }
            _ => Ok(()),
        }
    }

    /// Charges a viewer for views that are about to be recorded; the error is the answer to give where there were too many.
    pub(crate) fn charge(&self, viewer: &ViewerId, views: usize) -> Result<(), Answer> {
        let Some(rate) = &self.viewer_rate else { return Ok(()) };
        rate.take(viewer, views).map_err(|wait| {
            self.metrics.rate_limited.inc_by(views as u64);
            respond::too_many_requests(messages::TOO_MANY_VIEWS, wait)
        })
    }

    /// Waits until it is the turn of a read of so many posts, unless too many wait already.
    pub(crate) async fn read_turn(&self, posts: usize) -> Result<Turn, Unavailable> {
        self.reads.turn(posts).await.ok_or_else(|| {
            self.metrics.turned_away.inc();
            Unavailable
        })
    }

    /// Has one post viewed, or its count read.
    pub(crate) async fn ask_one(&self, asker: Asker, post: PostId) -> Result<Outcome, Unavailable> {
        let outcomes = self.ask_recorder(self.recorder_of(&post), &asker, smallvec![post])?;
        drop(asker);
        let outcomes = outcomes.await;
        outcomes.unwrap_or(Err(Unavailable))?.pop().ok_or(Unavailable)
    }

    /// Has posts viewed, or their counts read; the outcomes are in the order of the posts.
    pub(crate) async fn ask(&self, asker: Asker, posts: &[PostId]) -> Result<Vec<Outcome>, Unavailable> {
        let mut shares: Vec<(Vec<usize>, SmallVec<[PostId; 1]>)> = vec![(Vec::new(), SmallVec::new()); self.recorders.len()];
        for (place, post) in posts.iter().enumerate() {
            let share = &mut shares[self.recorder_of(post)];
            share.0.push(place);
            share.1.push(*post);
        }
        // All shares are under way before the first answer is awaited.
        let mut waiting = Vec::with_capacity(shares.len());
        for (recorder, (places, posts)) in shares.into_iter().enumerate().filter(|(_, share)| !share.0.is_empty()) {
            waiting.push((places, self.ask_recorder(recorder, &asker, posts)?));
        }
        drop(asker);
        let mut outcomes = vec![Outcome::NOT_FOUND; posts.len()];
        for (places, answer) in waiting {
            let share = answer.await.unwrap_or(Err(Unavailable))?;
            for (place, outcome) in places.into_iter().zip(share) {
                outcomes[place] = outcome;
            }
        }
        Ok(outcomes)
    }

    /// A post belongs to one recorder, so that within this process nothing happens to it twice at once.
    fn recorder_of(&self, post: &PostId) -> usize {
        if self.recorders.len() == 1 {
            return 0;
        }
        let hash = self.hasher.hash_one(post);
        usize::try_from(hash % self.recorders.len() as u64).unwrap_or(0)
    }

    fn ask_recorder(
        &self,
        recorder: usize,
        asker: &Asker,
        posts: SmallVec<[PostId; 1]>,
    ) -> Result<oneshot::Receiver<Result<Outcomes, Unavailable>>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let Asking { views, reads } = &self.recorders[recorder];
        let (way, viewer, turn) = match asker {
            Asker::Viewer(viewer) => (views, Some(*viewer), None),
            Asker::Reader(turn) => (reads, None, Some(Turn::clone(turn))),
        };
        way.try_send(Ask { viewer, posts, turn, reply, home: self.home }).map_err(|_| {
            self.metrics.turned_away.inc();
            Unavailable
        })?;
        Ok(answer)
    }
}
