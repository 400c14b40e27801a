//! Who waits for which outcomes: a request for many posts is answered when the last of them is settled.
//!
//! To wake a request on another worker's thread takes a call to the system, so all of a batch that go to one worker travel together.

use slab::Slab;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use views_core::ids::{PostId, ViewerId};

use super::{
    Ask, Outcome, Outcomes, Parcel, Reply, Unavailable,
    batch::{Item, Touch},
};

/// The requests that a recorder has not answered yet.
pub(super) struct Tickets {
    open: Slab<Ticket>,
    home: usize,
    couriers: Vec<mpsc::UnboundedSender<Parcel>>,
    /// What is to go to each worker.
    parcels: Vec<Parcel>,
}

struct Ticket {
    viewer: Option<ViewerId>,
    posts: SmallVec<[PostId; 1]>,
    outcomes: Outcomes,
    missing: usize,
    failed: bool,
    /// Whether some of its posts wait to be looked up for a read.
    waits: bool,
    reply: Reply,
    home: usize,
}

/// Hands out what other workers' recorders send to this worker's requests.
pub(crate) async fn deliver(mut parcels: mpsc::UnboundedReceiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        for (reply, outcomes) in parcel {
            // A client that has gone away needs no answer.
            let _ = reply.send(outcomes);
        }
    }
}

impl Tickets {
    pub(super) fn new(home: usize, couriers: Vec<mpsc::UnboundedSender<Parcel>>) -> Self {
        let parcels = couriers.iter().map(|_| Parcel::new()).collect();
        Self { open: Slab::new(), home, couriers, parcels }
    }

    /// Takes a request in: one item for each of its posts.
    pub(super) fn open(&mut self, ask: Ask, items: &mut Vec<Item>) {
        let count = ask.posts.len();
        let ticket = Ticket {
            viewer: ask.viewer,
            posts: ask.posts,
            outcomes: Outcomes::from_elem(Outcome::NOT_FOUND, count),
            missing: count,
            failed: false,
            waits: false,
            reply: ask.reply,
            home: ask.home,
        };
        let ticket = self.open.insert(ticket);
        items.extend((0..count).map(|place| Item { ticket, place, touch: Touch::None }));
    }

    /// The post of an item that is not settled yet, and who views it; nobody where only the count is wanted.
    pub(super) fn subject(&self, item: &Item) -> Option<(&PostId, Option<&ViewerId>)> {
        let ticket = self.open.get(item.ticket)?;
        Some((ticket.posts.get(item.place)?, ticket.viewer.as_ref()))
    }

    /// Whether an item of a read may wait to be looked up where so many may. A request waits as a whole or not at all: looking up a part of what
    /// is refused would be in vain.
    pub(super) fn may_wait(&mut self, item: &Item, room: usize) -> bool {
        let Some(ticket) = self.open.get_mut(item.ticket).filter(|ticket| !ticket.failed) else { return false };
        ticket.waits |= ticket.missing <= room;
        ticket.waits
    }

    /// Settles one item, and answers the request when it was the last one. A request fails as a whole: what of it was recorded is a
    /// duplicate when the client asks again, and harmless.
    pub(super) fn settle(&mut self, item: &Item, outcome: Result<Outcome, Unavailable>) {
        let Some(ticket) = self.open.get_mut(item.ticket) else { return };
        match outcome {
            Ok(outcome) => ticket.outcomes[item.place] = outcome,
            Err(Unavailable) => ticket.failed = true,
        }
        ticket.missing -= 1;
        if ticket.missing == 0 {
            let ticket = self.open.remove(item.ticket);
            let outcomes = if ticket.failed { Err(Unavailable) } else { Ok(ticket.outcomes) };
            if ticket.home == self.home {
                // A client that has gone away needs no answer.
                let _ = ticket.reply.send(outcomes);
            } else {
                self.parcels[ticket.home].push((ticket.reply, outcomes));
            }
        }
    }

    /// Sends off what goes to other workers. They listen as long as anybody records.
    pub(super) fn dispatch(&mut self) {
        for (parcel, courier) in self.parcels.iter_mut().zip(&self.couriers).filter(|(parcel, _)| !parcel.is_empty()) {
            let _ = courier.send(std::mem::take(parcel));
        }
    }
}
