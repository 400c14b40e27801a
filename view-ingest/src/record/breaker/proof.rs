//! Having Redis prove that it takes writes: nothing else tells where nobody writes.

use std::{collections::BTreeSet, time::Duration};

use views_core::{keys::Keys, partition};
use views_redis::{
    Code, Epoch, Redis, RedisError, Session,
    resp::{Commands, Replies},
    scripts,
};

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    /// Whether Redis takes writes: of a cluster, any of its nodes.
    pub(crate) takes_writes: bool,
    /// Why it does not, though it answers; in a cluster with the addresses of the nodes.
    pub(crate) refusals: Vec<(Option<String>, RedisError)>,
}

/// Has each node prove it, over connections of its own. A user who may not do what the proof takes is believed.
pub(super) async fn prove(redis: &Redis, keys: &Keys, patience: Duration) -> Proof {
    let mut session = Session::new(redis, patience, Epoch::default());
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let (mut asked, mut nodes) = (BTreeSet::new(), Vec::new());
    for owner in keys.partitions().map(|partition| keys.owner_of(partition)) {
        // A node is asked for one of its partitions.
        let node = redis.node_of_slot(partition::slot(owner.as_bytes()));
        if let Some(node) = node.filter(|node| asked.insert(*node)) {
            scripts::prove_writable_at(&mut commands, owner);
            nodes.push(redis.address(node));
        }
    }
    let sent = tokio::time::timeout(patience, session.exchange(&commands, &mut replies)).await;
    if let Err(error) = sent.unwrap_or(Err(RedisError::Timeout)) {
        let refusals = error.code().map(|_| (None, error));
        return Proof { takes_writes: false, refusals: refusals.into_iter().filter(|(_, error)| !error.is_away()).collect() };
    }
    let mut proof = Proof::default();
    for (node, reply) in nodes.into_iter().zip(replies.iter()) {
        match reply.error() {
            Some(error) if error.code == Code::Away => {}
            Some(error) if error.code != Code::NoPermission => proof.refusals.push((node, error.into())),
            _ => proof.takes_writes = true,
        }
    }
    proof
}
