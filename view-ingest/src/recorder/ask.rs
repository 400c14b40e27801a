//! What is asked of a recorder, and what it answers.

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};
use views_core::ids::{PostId, ViewerId};

use crate::reads::Turn;

/// What became of the posts of a request, most of which are about one.
pub(crate) type Outcomes = SmallVec<[Outcome; 1]>;

/// What is asked of a recorder.
#[derive(Debug)]
pub(crate) struct Ask {
    /// Who views the posts; nobody where only the counts are wanted.
    pub(crate) viewer: Option<ViewerId>,
    /// The posts, without repetition.
    pub(crate) posts: SmallVec<[PostId; 1]>,
    /// The turn of a read, given back as soon as its posts are checked.
    pub(crate) turn: Option<Turn>,
    /// Where the outcomes go, in the order of the posts.
    pub(crate) reply: Reply,
    /// The worker that serves the request.
    pub(crate) home: usize,
}

/// The ways to a recorder. Views go before reads.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) views: mpsc::Sender<Ask>,
    pub(crate) reads: mpsc::Sender<Ask>,
}

/// What has come that way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) views: mpsc::Receiver<Ask>,
    pub(super) reads: mpsc::Receiver<Ask>,
}

/// A way to a recorder on which so many views may wait, and as many reads.
pub(crate) fn queue(length: usize) -> (Asking, Asked) {
    let ((views, viewed), (reads, read)) = (mpsc::channel(length), mpsc::channel(length));
    (Asking { views, reads }, Asked { views: viewed, reads: read })
}

/// Where the outcomes of a request go.
pub(crate) type Reply = oneshot::Sender<Result<Outcomes, Unavailable>>;

/// Outcomes on their way to another worker's requests.
pub(crate) type Parcel = Vec<(Reply, Result<Outcomes, Unavailable>)>;

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
