//! The last stage: each item of a batch gets its outcome.

use crate::{
    metrics::Metrics,
    record::{
        context::Context,
        group::{Count, Group, Membership, Viewer, Written},
        pending::{Item, PendingRequests},
        request::{Outcome, Status, Unavailable},
    },
};

/// The verdicts of a batch, to be added to the process's numbers at once.
#[derive(Default)]
struct Tally {
    counted: u64,
    duplicate: u64,
    own: u64,
    reads: u64,
}

impl Tally {
    fn add_to(&self, metrics: &Metrics) {
        metrics.counted.inc_by(self.counted);
        metrics.duplicate.inc_by(self.duplicate);
        metrics.own.inc_by(self.own);
        metrics.reads.inc_by(self.reads);
    }
}

/// Gives each item of what Redis has taken its verdict.
pub(super) fn respond(groups: Vec<Written<'_>>, pending: &mut PendingRequests, metrics: &Metrics) {
    let mut tally = Tally::default();
    for Written { group, count } in groups {
        let Count { views, was_raced } = count;
        for item in &group.items {
            let status = match pending.viewer(item) {
                Some(id) => match group.viewers.binary_search_by(|viewer| viewer.id.cmp(id)) {
                    Ok(place) => verdict(&mut group.viewers[place], was_raced),
                    Err(_) => Status::Read,
                },
                None => Status::Read,
            };
            match status {
                Status::Counted => tally.counted += 1,
                Status::Duplicate => tally.duplicate += 1,
                Status::Own => tally.own += 1,
                Status::Read | Status::NotFound => tally.reads += 1,
            }
            pending.respond(item, Ok(Outcome { status, views }));
        }
    }
    tally.add_to(metrics);
}

/// Returns the verdict on one view. The first view of a new viewer counts, unless another process was first; the others
/// are its repetitions.
fn verdict(viewer: &mut Viewer, was_raced: bool) -> Status {
    match viewer.membership {
        Membership::Author => Status::Own,
        Membership::Member => Status::Duplicate,
        Membership::New => {
            viewer.membership = Membership::Member;
            if was_raced { Status::Duplicate } else { Status::Counted }
        }
    }
}

/// Tells those who asked for a post that no store took it.
pub(super) fn respond_unavailable(group: &Group, pending: &mut PendingRequests, metrics: &Metrics) {
    refuse(&group.items, pending, metrics);
}

/// Has the clients come again.
pub(super) fn refuse(items: &[Item], pending: &mut PendingRequests, metrics: &Metrics) {
    metrics.failed.inc_by(items.len() as u64);
    for item in items {
        pending.respond(item, Err(Unavailable));
    }
}

/// Tells those who asked for a post that there is none.
pub(super) fn respond_not_found(items: &[Item], pending: &mut PendingRequests, context: &Context) {
    for item in items {
        if pending.viewer(item).is_some() {
            context.metrics.not_found.inc();
        }
        pending.respond(item, Ok(Outcome::NOT_FOUND));
    }
}

#[cfg(test)]
mod tests {
    use views_core::ids::ViewerId;

    use super::*;

    #[test]
    fn only_the_first_view_of_a_new_viewer_counts() {
        let viewer = |membership| Viewer { id: ViewerId::parse("x").unwrap(), membership };
        let mut new = viewer(Membership::New);
        assert_eq!([verdict(&mut new, false), verdict(&mut new, false)], [Status::Counted, Status::Duplicate]);
        assert_eq!(verdict(&mut viewer(Membership::New), true), Status::Duplicate, "another process was first");
        assert_eq!(verdict(&mut viewer(Membership::Author), false), Status::Own);
    }
}
