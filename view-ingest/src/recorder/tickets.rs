//! Who waits for which outcomes: a request for many posts is answered when the last of them is settled.

use slab::Slab;
use tokio::sync::oneshot;

use super::{
    Ask, Outcome, Outcomes, Unavailable,
    batch::{Item, Touch},
};

/// The requests that a recorder has not answered yet.
#[derive(Default)]
pub(super) struct Tickets(Slab<Ticket>);

struct Ticket {
    outcomes: Outcomes,
    missing: usize,
    failed: bool,
    reply: oneshot::Sender<Result<Outcomes, Unavailable>>,
}

impl Tickets {
    /// Takes a request in: one item for each of its posts.
    pub(super) fn open(&mut self, ask: Ask, items: &mut Vec<Item>) {
        let count = ask.posts.len();
        let ticket =
            Ticket { outcomes: Outcomes::from_elem(Outcome::NOT_FOUND, count), missing: count, failed: false, reply: ask.reply };
        let ticket = self.0.insert(ticket);
        let posts = ask.posts.into_iter().enumerate();
        items.extend(posts.map(|(place, post)| Item { ticket, place, post, viewer: ask.viewer, touch: Touch::None }));
    }

    /// Settles one item, and answers the request when it was the last one. A request fails as a whole: what of it was recorded is a
    /// duplicate when the client asks again, and harmless.
    pub(super) fn settle(&mut self, item: &Item, outcome: Result<Outcome, Unavailable>) {
        let Some(ticket) = self.0.get_mut(item.ticket) else { return };
        match outcome {
            Ok(outcome) => ticket.outcomes[item.place] = outcome,
            Err(Unavailable) => ticket.failed = true,
        }
        ticket.missing -= 1;
        if ticket.missing == 0 {
            let ticket = self.0.remove(item.ticket);
            // A client that has gone away needs no answer.
            let _ = ticket.reply.send(if ticket.failed { Err(Unavailable) } else { Ok(ticket.outcomes) });
        }
    }
}
