//! What a worker's recorder is asked, or asked beside it, and what it replies.

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};
use views_core::ids::{PostId, ViewerId};

use crate::record::read_limit::ReadPermit;

/// The outcomes of a request's posts, most of which are about one.
pub(crate) type Outcomes = SmallVec<[Outcome; 1]>;

/// A request to record views of posts, or to tell their counts.
#[derive(Debug)]
pub(crate) struct Request {
    /// Who views the posts; nobody where only the counts are wanted.
    pub(crate) viewer: Option<ViewerId>,
    /// The posts, without repetition.
    pub(crate) posts: SmallVec<[PostId; 1]>,
    /// The permit of a read, given back as soon as its posts are checked.
    pub(crate) permit: Option<ReadPermit>,
    /// Where the outcomes go, in the order of the posts.
    pub(crate) reply: ReplySender,
    /// The worker that serves the request.
    pub(crate) worker_id: usize,
}

/// A question which of the posts a viewer has seen.
#[derive(Debug)]
pub(crate) struct ViewedRequest {
    pub(crate) viewer: ViewerId,
    /// The posts, without repetition.
    pub(crate) posts: Vec<PostId>,
    /// The permit of the read, given back as soon as Redis has been asked.
    pub(crate) permit: Option<ReadPermit>,
    /// Where the answers go, in the order of the posts.
    pub(crate) reply: oneshot::Sender<Result<Vec<Seen>, Unavailable>>,
}

/// Whether a viewer has seen a post; nothing where there is no such post.
pub(crate) type Seen = Option<bool>;

/// How many questions which posts were seen may wait, per worker. They wait for PostgreSQL, where it is slow.
const MAX_VIEWED_REQUESTS: usize = 256;

/// The sending ends of a worker's queues.
#[derive(Debug, Clone)]
pub(crate) struct RequestSender {
    pub(crate) views: mpsc::Sender<Request>,
    pub(crate) reads: mpsc::Sender<Request>,
    pub(crate) viewed: mpsc::Sender<ViewedRequest>,
}

impl RequestSender {
    /// Returns how many views, reads and questions which posts were seen wait.
    pub(crate) fn lengths(&self) -> [usize; 3] {
        [length(&self.views), length(&self.reads), length(&self.viewed)]
    }
}

fn length<T>(queue: &mpsc::Sender<T>) -> usize {
    queue.max_capacity() - queue.capacity()
}

/// The receiving ends of a recorder. Views go before reads.
#[derive(Debug)]
pub(crate) struct RequestReceiver {
    pub(super) views: mpsc::Receiver<Request>,
    pub(super) reads: mpsc::Receiver<Request>,
}

/// Returns the ends of queues in which `length` views may wait, and as many reads.
pub(crate) fn queue(length: usize) -> (RequestSender, (RequestReceiver, mpsc::Receiver<ViewedRequest>)) {
    let ((views, views_end), (reads, reads_end)) = (mpsc::channel(length), mpsc::channel(length));
    let (viewed, viewed_end) = mpsc::channel(MAX_VIEWED_REQUESTS);
    (RequestSender { views, reads, viewed }, (RequestReceiver { views: views_end, reads: reads_end }, viewed_end))
}

/// What a request is replied.
pub(crate) type Reply = Result<Outcomes, Unavailable>;

/// Where the reply to a request goes.
pub(crate) type ReplySender = oneshot::Sender<Reply>;

/// Replies on their way to another worker's requests.
pub(crate) type ReplyBatch = Vec<(ReplySender, Reply)>;

/// The verdict on a view.
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

impl Status {
    /// Returns the status as the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Duplicate => "duplicate",
            Self::Own => "own",
            Self::NotFound => "not_found",
            Self::Read => "read",
        }
    }
}

/// The verdict on a view, and the post's count.
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
