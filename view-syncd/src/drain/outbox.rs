//! One outbox as this process works on it, how much there is in it, and the deletion of what is done.

use std::sync::Arc;

use views_core::{failpoints, partition::Partition};
use views_redis::{
    NodeId, RedisError,
    resp::{Commands, Replies, Reply},
};

use super::{deferred::DeferredPosts, shared::Shared};
use crate::{context::Context, entry_id::EntryId, error::refusal, owned_session::OwnedSession};

/// Entries that are deleted with one command.
const DELETED_ENTRIES: usize = 200;

/// One outbox: the session by which it is read and acknowledged, and the posts of which it keeps pairs for later.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// What belongs to the process.
    pub(crate) context: Arc<Context>,
    pub(crate) partition: Partition,
    pub(crate) session: OwnedSession,
    pub(crate) deferred: DeferredPosts,
    pub(crate) shared: Shared,
}

impl Outbox {
    pub(crate) fn new(context: &Arc<Context>, shared: &Shared, partition: Partition) -> Self {
        Self {
            context: Arc::clone(context),
            partition,
            session: OwnedSession::of(context, partition),
            deferred: DeferredPosts::default(),
            shared: shared.clone(),
        }
    }

    /// Turns to another partition, of which nothing is deferred.
    pub(crate) fn turn_to(&mut self, partition: Partition) {
        (self.partition, self.deferred) = (partition, DeferredPosts::default());
        self.session.turn_to(partition);
    }

    /// Returns what a node has of the partition's outbox although the owner of its slot does not know that.
    pub(crate) fn of_hidden(context: &Arc<Context>, shared: &Shared, partition: Partition, node: NodeId) -> Self {
        Self { session: OwnedSession::of_hidden(context, partition, node), ..Self::new(context, shared, partition) }
    }

    /// Deletes entries of which every post is acknowledged, over the connection by which they were read.
    pub(crate) async fn delete(&mut self, entries: &[EntryId], connection: u64) -> Result<(), RedisError> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in entries.chunks(DELETED_ENTRIES) {
            failpoints::at("delete::before");
            commands.clear();
            commands.command("XDEL", 1 + chunk.len()).text(self.context.keys.outbox_of(self.partition));
            for entry in chunk {
                commands.text(&entry.to_string());
            }
            self.session.exchange_on(connection, &commands, &mut replies).await?;
            self.context.progress.made();
            let reply = replies.iter().next();
            if !matches!(reply, Some(Reply::Integer(_))) {
                return Err(refusal(reply));
            }
        }
        Ok(())
    }
}

/// Returns the id of the newest entry of a partition; none where its outbox is empty.
pub(crate) async fn newest(context: &Context, partition: Partition) -> Result<Option<EntryId>, RedisError> {
    let page = context.redis.send(&["XREVRANGE", context.keys.outbox_of(partition), "+", "-", "COUNT", "1"]).await?;
    let entry = page.into_array().into_iter().next();
    Ok(entry.and_then(|entry| entry.into_array().into_iter().next()?.into_string()?.parse().ok()))
}

/// What is in an outbox, and beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// How many entries there are.
    pub(crate) entries: i64,
    /// The first of them.
    pub(crate) oldest: Option<EntryId>,
    /// How many dead letters there are; nothing where Redis does not tell, or they are another partition's.
    pub(crate) dead_letters: Option<i64>,
}

/// Returns what is in the outbox of a partition.
pub(crate) async fn measure(session: &mut OwnedSession, partition: Partition) -> Result<Measured, RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let keys = &session.context.keys;
    commands.command("XLEN", 1).text(keys.outbox_of(partition));
    commands.command("XRANGE", 5).text(keys.outbox_of(partition)).text("-").text("+").text("COUNT").number(1);
    // The node of the dead letters is in no other partition's way.
    if partition == keys.partition_of_dead() {
        commands.command("XLEN", 1).text(keys.dead());
    }
    session.redis.exchange(&commands, &mut replies).await?;
    let mut all = replies.iter();
    let (length, first) = (all.next(), all.next());
    // That a dead letter can be added is found out when there is one.
    let dead_letters = all.next().and_then(Reply::number);
    let (Some(Reply::Integer(entries)), Some(Reply::List(page))) = (length, first) else {
        return Err(refusal(length.filter(|reply| matches!(reply, Reply::Error(_))).or(first)));
    };
    let first = page.iter().next().and_then(|entry| if let Reply::List(entry) = entry { entry.iter().next() } else { None });
    let oldest = first.and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None });
    Ok(Measured { entries, oldest, dead_letters })
}

/// Returns the number of entries of a partition.
pub(crate) async fn length(context: &Context, partition: Partition) -> Result<i64, RedisError> {
    Ok(context.redis.send(&["XLEN", context.keys.outbox_of(partition)]).await?.convert()?)
}
