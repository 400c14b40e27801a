//! Slots that move from node to node while views come in.

use std::collections::BTreeSet;

use testkit::{
    SOON,
    cluster::{Node, slot_of},
    eventually,
    traffic::Traffic,
};

use crate::{
    cluster::{ClusterWorld, post},
    support::{SECRET, set},
};

impl ClusterWorld {
    /// A primary that does not have a slot.
    async fn other(&self, slot: u16) -> &Node {
        let owner = self.cluster.primary_of(slot).await.id();
        self.cluster.primaries().await.into_iter().find(|node| node.id() != owner).unwrap()
    }
}

#[tokio::test]
async fn slots_move_while_views_come_in_and_none_is_refused_or_lost() {
    let world = ClusterWorld::new().await;
    let posts = world.posts(40).await;
    let app = world.ingest().await;
    let traffic = Traffic::start(app.address, SECRET, posts.clone(), 8);
    traffic.goes_on(200).await;
    let outboxes = posts.iter().map(|id| slot_of(world.keys.outbox_of(world.keys.partition(&post(id)))));
    let slots: BTreeSet<u16> = posts.iter().map(|id| slot_of(&set(id))).chain(outboxes).collect();
    for slot in slots {
        world.cluster.move_slot(slot, world.other(slot).await).await;
    }
    traffic.goes_on(200).await;
    let views = traffic.stop().await;
    let refused: Vec<_> = views.iter().filter(|view| !view.is_acknowledged()).collect();
    assert!(refused.is_empty(), "{} of {}: {:?}", refused.len(), views.len(), refused.first());
    let (recorded, ledger) = (world.recorded().await, world.ledger().await);
    for view in &views {
        let pair = (view.post.clone(), view.viewer.to_string());
        assert!(recorded.contains(&pair) || ledger.contains(&pair), "{pair:?}");
    }
    assert!(
        app.daemon.lines_with("CROSSSLOT").is_empty() && app.daemon.lines_with("MOVED").is_empty(),
        "{:?}",
        app.daemon.output()
    );
    // What has moved is found where it is.
    for (number, id) in posts.iter().enumerate() {
        let members = world.members(id).await;
        let own = views.iter().filter(|view| &view.post == id).count();
        assert!(members.len() <= own && members.len() * 10 >= own * 9, "{number}: {} of {own}", members.len());
    }
}

#[tokio::test]
async fn primaries_that_replicas_take_the_place_of_by_hand_cost_no_view() {
    let world = ClusterWorld::new().await;
    let posts = world.posts(60).await;
    let app = world.ingest().await;
    let traffic = Traffic::start(app.address, SECRET, posts.clone(), 8);
    traffic.goes_on(200).await;
    for place in 0..3 {
        let primary = world.cluster.node(place);
        let replica = world.cluster.replicas_of(primary).await[0];
        world.cluster.fail_over(replica).await;
        eventually("the old one follows", SOON, async || !primary.is_primary().await.unwrap_or(true)).await;
        traffic.goes_on(100).await;
    }
    let views = traffic.stop().await;
    let refused: Vec<_> = views.iter().filter(|view| !view.is_acknowledged()).collect();
    assert!(refused.is_empty(), "{} of {}: {:?}", refused.len(), views.len(), refused.first());
    let (recorded, ledger) = (world.recorded().await, world.ledger().await);
    for view in &views {
        let pair = (view.post.clone(), view.viewer.to_string());
        assert!(recorded.contains(&pair) || ledger.contains(&pair), "{pair:?}");
    }
    let before = ledger.len();
    for post in &posts {
        assert!(app.verdict("last", post).await.starts_with("counted"), "{post}");
    }
    assert_eq!(world.ledger().await.len(), before, "all is in Redis again");
}

#[tokio::test]
async fn a_slot_that_was_left_half_moved_refuses_no_view() {
    let world = ClusterWorld::new().await;
    let posts = world.posts(200).await;
    let app = world.ingest().await;
    // The one has been viewed before, and its set moves without its hash; the other has not, and neither has its slot.
    let known = &posts[0];
    assert_eq!(app.verdict("ann", known).await, "counted 1");
    let slot = slot_of(&set(known));
    let target = world.other(slot).await;
    world.cluster.half_move_slot(slot, target, 1).await;
    assert_eq!(app.verdict("ann", known).await, "duplicate 1");
    assert_eq!(app.verdict("bob", known).await, "counted 2");
    let new = &posts[1];
    let slot = slot_of(&set(new));
    world.cluster.half_move_slot(slot, world.other(slot).await, 1).await;
    for (number, viewer) in ["ann", "bob", "carl"].into_iter().enumerate() {
        assert_eq!(app.verdict(viewer, new).await, format!("counted {}", number + 1));
    }
    for post in &posts[2..60] {
        assert_eq!(app.verdict("ann", post).await, "counted 1");
    }
    // An outbox on its way.
    let id = &posts[60];
    let slot = slot_of(world.keys.outbox_of(world.keys.partition(&post(id))));
    world.cluster.half_move_slot(slot, world.other(slot).await, 1).await;
    assert_eq!(app.verdict("ann", id).await, "counted 1");
    assert_eq!(app.admin.get("/readyz").await.status, 200);
    assert_eq!(app.metric("view_ingest_recorders_in_fallback").await, 0.0);

    world.cluster.mend().await;
    for (post, viewers) in [(known, vec!["ann", "bob"]), (new, vec!["ann", "bob", "carl"]), (id, vec!["ann"])] {
        for viewer in &viewers {
            eventually("it is known", SOON, async || app.verdict(viewer, post).await == format!("duplicate {}", viewers.len()))
                .await;
        }
        eventually("Redis knows all viewers", SOON, async || world.members(post).await.len() == viewers.len()).await;
    }
    let (recorded, ledger) = (world.recorded().await, world.ledger().await);
    assert_eq!(recorded.union(&ledger).count(), 2 + 3 + 58 + 1);
}
