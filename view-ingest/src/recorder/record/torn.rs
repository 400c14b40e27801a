//! Recording cut short, and recording done wrong: only for proofs (see [`views_core::failpoints`]).

use views_core::failpoints;

use super::{Group, Lane, Stores, send_outbox, send_posts};

/// Dies on the way, or sends things in the wrong order, if either is wanted. Gives nothing where all is to be as it should.
pub(super) async fn exchange(stores: &Stores, lane: &mut Lane, groups: &[Group], pairs: usize) -> Option<bool> {
    if failpoints::is_broken(failpoints::SET_BEFORE_OUTBOX) {
        let sent = send_posts(stores, lane, groups).await;
        failpoints::at("record::between");
        // The replies of the sets are what is read, so the outbox has a lane of its own.
        return Some(sent && send_outbox(stores, &mut Lane::default(), groups, pairs).await);
    }
    if failpoints::hit("record::between") {
        send_outbox(stores, lane, groups, pairs).await;
        failpoints::abort("record::between");
    }
    if failpoints::hit("record::before_count") {
        if !send_outbox(stores, lane, groups, pairs).await {
            return Some(false);
        }
        lane.commands.clear();
        for group in groups {
            for viewer in group.new_viewers() {
                lane.commands.command("SADD", 2).parts(&stores.keys.views_parts(&group.post)).text(viewer.as_str());
            }
        }
        lane.exchange(stores).await;
        failpoints::abort("record::before_count");
    }
    None
}
