//! Requests that are not replied to yet: a request for many posts is replied to when the last of them has its outcome.
//!
//! To wake a request on another worker's thread takes a call to the system, so all replies of a batch that go to one
//! worker travel together.

use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use views_core::ids::{PostId, ViewerId};
use views_redis::scripts::Depth;

use crate::record::request::{Outcome, Outcomes, ReplyBatch, ReplySender, Request, Unavailable};

/// One post of one request: so small that it may be moved about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// The request.
    pub(super) request: usize,
    /// The post's place in the request.
    pub(super) place: usize,
    /// The last look-up of the post for this item, if any.
    pub(super) lookup: Option<Lookup>,
}

/// Items of one post, most often a single one.
pub(super) type Items = SmallVec<[Item; 1]>;

/// A look-up of a post in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookup {
    /// What was looked up: what a read needs is not enough for a view.
    pub(super) depth: Depth,
    pub(super) result: LookupResult,
}

/// What came of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupResult {
    /// The item is taken even if Redis knows nothing of the post.
    Done,
    /// PostgreSQL could not be asked: the item is taken without knowing whether the post exists.
    Unavailable,
    /// Redis did not take what PostgreSQL knows: what Redis says of the post cannot be used.
    Refused,
}

/// The requests that a recorder has not replied to yet.
pub(super) struct PendingRequests {
    requests: Slab<PendingRequest>,
    worker_id: usize,
    mailboxes: Vec<mpsc::UnboundedSender<ReplyBatch>>,
    /// What is to go to each worker.
    replies: Vec<ReplyBatch>,
}

struct PendingRequest {
    viewer: Option<ViewerId>,
    posts: SmallVec<[PostId; 1]>,
    outcomes: Outcomes,
    missing: usize,
    is_unavailable: bool,
    /// Whether some of its posts wait to be looked up for a read.
    is_parked: bool,
    reply: ReplySender,
    worker_id: usize,
}

/// Hands out what other workers' recorders send to this worker's requests.
pub(crate) async fn deliver(mut mailbox: mpsc::UnboundedReceiver<ReplyBatch>) {
    while let Some(replies) = mailbox.recv().await {
        for (sender, reply) in replies {
            // A client that has gone away needs no reply.
            let _ = sender.send(reply);
        }
    }
}

impl PendingRequests {
    pub(super) fn new(worker_id: usize, mailboxes: Vec<mpsc::UnboundedSender<ReplyBatch>>) -> Self {
        let replies = mailboxes.iter().map(|_| ReplyBatch::new()).collect();
        Self { requests: Slab::new(), worker_id, mailboxes, replies }
    }

    /// Takes a request in: one item for each of its posts.
    pub(super) fn add(&mut self, request: Request, items: &mut Vec<Item>) {
        let count = request.posts.len();
        let pending = PendingRequest {
            viewer: request.viewer,
            posts: request.posts,
            outcomes: Outcomes::from_elem(Outcome::NOT_FOUND, count),
            missing: count,
            is_unavailable: false,
            is_parked: false,
            reply: request.reply,
            worker_id: request.worker_id,
        };
        let request = self.requests.insert(pending);
        items.extend((0..count).map(|place| Item { request, place, lookup: None }));
    }

    /// Returns the post of an item that has no outcome yet, and who views it; nobody where only the count is wanted.
    pub(super) fn subject(&self, item: &Item) -> Option<(&PostId, Option<&ViewerId>)> {
        let pending = self.requests.get(item.request)?;
        Some((pending.posts.get(item.place)?, pending.viewer.as_ref()))
    }

    /// Returns who views the post of an item.
    pub(super) fn viewer(&self, item: &Item) -> Option<&ViewerId> {
        self.requests.get(item.request)?.viewer.as_ref()
    }

    /// Returns whether an item of a read may wait to be looked up where `room` items more may. A request waits as a
    /// whole or not at all: looking up a part of what is refused would be in vain.
    pub(super) fn may_park(&mut self, item: &Item, room: usize) -> bool {
        let Some(pending) = self.requests.get_mut(item.request).filter(|pending| !pending.is_unavailable) else { return false };
        pending.is_parked |= pending.missing <= room;
        pending.is_parked
    }

    /// Notes the outcome of one item, and replies to the request when it was the last one. A request fails as a whole:
    /// what of it was recorded is a duplicate when the client asks again, and harmless.
    pub(super) fn respond(&mut self, item: &Item, outcome: Result<Outcome, Unavailable>) {
        let Some(pending) = self.requests.get_mut(item.request) else { return };
        match outcome {
            Ok(outcome) => pending.outcomes[item.place] = outcome,
            Err(Unavailable) => pending.is_unavailable = true,
        }
        pending.missing -= 1;
        if pending.missing == 0 {
            let pending = self.requests.remove(item.request);
            let reply = if pending.is_unavailable { Err(Unavailable) } else { Ok(pending.outcomes) };
            if pending.worker_id == self.worker_id {
                // A client that has gone away needs no reply.
                let _ = pending.reply.send(reply);
            } else {
                self.replies[pending.worker_id].push((pending.reply, reply));
            }
        }
    }

    /// Sends off what goes to other workers. They listen as long as anybody records.
    pub(super) fn flush(&mut self) {
        for (replies, mailbox) in self.replies.iter_mut().zip(&self.mailboxes).filter(|(replies, _)| !replies.is_empty()) {
            let _ = mailbox.send(std::mem::take(replies));
        }
    }
}
