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
    api::{messages, surface::Surface, viewer_rate::ViewerRate},
    cli::Limits,
    http::phase_timer::PhaseTimer,
    metrics::Metrics,
    record::{
        read_limit::{ReadLimit, ReadPermit},
        request::{Outcome, Outcomes, Request, RequestSender, Seen, Unavailable, ViewedRequest},
    },
};

/// Who asks for posts.
pub(crate) enum Caller {
    /// Somebody who views them.
    Viewer(ViewerId),
    /// Somebody who reads their counts. The turn ends when they are checked.
    Reader(ReadPermit),
}

/// The process, as a request sees it from the worker that serves it.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    pub(super) surface: Arc<Surface>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Metrics,
    viewer_rate: Option<Arc<ViewerRate>>,
    database: Option<Arc<Database>>,
    recorders: Vec<RequestSender>,
    /// The reads of this worker.
    reads: ReadLimit,
    /// The same for all workers, who must agree on whose a post is.
    hasher: RandomState,
    worker_id: usize,
}

impl App {
    pub(crate) fn new(
        limits: Limits,
        surface: Surface,
        verifier: Arc<Verifier>,
        readiness: Arc<Readiness>,
        metrics: Metrics,
        database: Option<Arc<Database>>,
        recorders: Vec<RequestSender>,
    ) -> Self {
        let viewer_rate = limits.viewer_rate.map(|rate| Arc::new(ViewerRate::new(rate)));
        let (reads, hasher) = (ReadLimit::default(), RandomState::default());
        let surface = Arc::new(surface);
        Self { limits, surface, verifier, readiness, metrics, viewer_rate, database, recorders, reads, hasher, worker_id: 0 }
    }

    /// Returns the same for another worker.
    pub(crate) fn at(&self, worker_id: usize) -> Self {
        Self { worker_id, reads: ReadLimit::default(), metrics: self.metrics.at(worker_id), ..self.clone() }
    }

    /// Asks who sends a request; the error is the answer to give.
    pub(crate) async fn identify(&self, token: Option<&[u8]>, timer: &PhaseTimer) -> Result<Identity, Answer> {
        match self.verifier.identify_token(token) {
            Ok(identity) => Ok(identity),
            // In a box, so that the futures of all other requests are not as large: they are moved.
            Err(error) => Box::pin(self.identify_later(token, error, timer)).await,
        }
    }

    /// Waits for keys where they may let in a token that was not known to be good.
    async fn identify_later(&self, token: Option<&[u8]>, error: AuthError, timer: &PhaseTimer) -> Result<Identity, Answer> {
        let error = if error == AuthError::Pending {
            let _waits = timer.waits();
            match self.verifier.identify_later(token).await {
                Ok(identity) => return Ok(identity),
                Err(error) => error,
            }
        } else {
            error
        };
        Err(match error {
            AuthError::Missing => respond::unauthorized(messages::TOKEN_MISSING, false),
            AuthError::Expired => respond::unauthorized(messages::TOKEN_EXPIRED, true),
            AuthError::Invalid => respond::unauthorized(messages::TOKEN_INVALID, true),
            AuthError::Pending | AuthError::Unavailable => respond::unavailable(messages::UNAVAILABLE),
        })
    }

    /// Asks who sends views, and turns away a viewer whose views could never be stored; the error is the answer to give.
    pub(crate) async fn viewer(&self, token: Option<&[u8]>, timer: &PhaseTimer) -> Result<ViewerId, Answer> {
        let Identity { viewer, .. } = self.identify(token, timer).await?;
        match &self.database {
            Some(database) if ledger::refuses(database, &viewer).await => {
                self.verifier.refuse(Reason::UnfitViewer);
                Err(respond::unauthorized(messages::VIEWER_UNFIT, true))
            }
            _ => Ok(viewer),
        }
    }

    /// Records a view; the error is the answer to give.
    pub(crate) async fn view_one(&self, viewer: ViewerId, post: PostId) -> Result<Outcome, Answer> {
        self.charge(&viewer, 1)?;
        let outcome = self.request_one(Caller::Viewer(viewer), post).await;
        outcome.map_err(|error| self.not_recorded(&viewer, 1, error))
    }

    /// Records views of posts; the error is the answer to give.
    pub(crate) async fn view(&self, viewer: ViewerId, posts: &[PostId]) -> Result<Vec<Outcome>, Answer> {
        self.charge(&viewer, posts.len())?;
        let outcomes = self.request(Caller::Viewer(viewer), posts).await;
        outcomes.map_err(|error| self.not_recorded(&viewer, posts.len(), error))
    }

    /// Returns the answer to views that no store took, which cost their viewer nothing.
    fn not_recorded(&self, viewer: &ViewerId, views: usize, error: Unavailable) -> Answer {
        if let Some(rate) = &self.viewer_rate {
            rate.give_back(viewer, views);
        }
        unavailable(error)
    }

    /// Charges a viewer for views that are about to be recorded; the error is the answer to give where there were too many.
    fn charge(&self, viewer: &ViewerId, views: usize) -> Result<(), Answer> {
        let Some(rate) = &self.viewer_rate else { return Ok(()) };
        rate.take(viewer, views).map_err(|wait| {
            self.metrics.rate_limited.inc_by(views as u64);
            respond::too_many_requests(messages::TOO_MANY_VIEWS, wait)
        })
    }

    /// Waits until it is the turn of a read of so many posts, unless too many wait already.
    pub(crate) async fn read_permit(&self, posts: usize) -> Result<ReadPermit, Unavailable> {
        self.reads.permit(posts).await.ok_or_else(|| {
            self.metrics.turned_away.inc();
            Unavailable
        })
    }

    /// Has one post viewed, or its count read.
    pub(crate) async fn request_one(&self, caller: Caller, post: PostId) -> Result<Outcome, Unavailable> {
        let outcomes = self.send(self.recorder_of(&post), &caller, smallvec![post])?;
        drop(caller);
        let outcomes = outcomes.await;
        outcomes.unwrap_or(Err(Unavailable))?.pop().ok_or(Unavailable)
    }

    /// Has posts viewed, or their counts read; the outcomes are in the order of the posts.
    pub(crate) async fn request(&self, caller: Caller, posts: &[PostId]) -> Result<Vec<Outcome>, Unavailable> {
        let mut shares: Vec<(Vec<usize>, SmallVec<[PostId; 1]>)> = vec![(Vec::new(), SmallVec::new()); self.recorders.len()];
        for (place, post) in posts.iter().enumerate() {
            let share = &mut shares[self.recorder_of(post)];
            share.0.push(place);
            share.1.push(*post);
        }
        // All shares are under way before the first answer is awaited.
        let mut waiting = Vec::with_capacity(shares.len());
        for (recorder, (places, posts)) in shares.into_iter().enumerate().filter(|(_, share)| !share.0.is_empty()) {
            waiting.push((places, self.send(recorder, &caller, posts)?));
        }
        drop(caller);
        let mut outcomes = vec![Outcome::NOT_FOUND; posts.len()];
        for (places, answer) in waiting {
            let share = answer.await.unwrap_or(Err(Unavailable))?;
            for (place, outcome) in places.into_iter().zip(share) {
                outcomes[place] = outcome;
            }
        }
        Ok(outcomes)
    }

    /// Asks which of the posts a viewer has seen; the answers are in the order of the posts.
    pub(crate) async fn viewed(&self, viewer: ViewerId, posts: &[PostId], permit: ReadPermit) -> Result<Vec<Seen>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let request = ViewedRequest { viewer, posts: posts.to_vec(), permit: Some(permit), reply };
        self.recorders[self.worker_id].viewed.try_send(request).map_err(|_| {
            self.metrics.turned_away.inc();
            Unavailable
        })?;
        answer.await.unwrap_or(Err(Unavailable))
    }

    /// A post belongs to one recorder, so that within this process nothing happens to it twice at once.
    fn recorder_of(&self, post: &PostId) -> usize {
        if self.recorders.len() == 1 {
            return 0;
        }
        let hash = self.hasher.hash_one(post);
        usize::try_from(hash % self.recorders.len() as u64).unwrap_or(0)
    }

    fn send(
        &self,
        recorder: usize,
        caller: &Caller,
        posts: SmallVec<[PostId; 1]>,
    ) -> Result<oneshot::Receiver<Result<Outcomes, Unavailable>>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let RequestSender { views, reads, .. } = &self.recorders[recorder];
        let (way, viewer, permit) = match caller {
            Caller::Viewer(viewer) => (views, Some(*viewer), None),
            Caller::Reader(permit) => (reads, None, Some(ReadPermit::clone(permit))),
        };
        way.try_send(Request { viewer, posts, permit, reply, worker_id: self.worker_id }).map_err(|_| {
            self.metrics.turned_away.inc();
            Unavailable
        })?;
        Ok(answer)
    }
}

/// Returns the answer to what no store took, or told.
pub(super) fn unavailable(_: Unavailable) -> Answer {
    respond::unavailable(messages::UNAVAILABLE)
}
