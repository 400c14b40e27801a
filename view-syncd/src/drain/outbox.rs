//! One outbox as this process works on it, how much there is in it, and the deletion of what is done.

use std::sync::Arc;

use fred::{interfaces::StreamsInterface, types::Value};
use views_core::failpoints;
use views_redis::{
    RedisError,
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
    pub(crate) session: OwnedSession,
    pub(crate) deferred: DeferredPosts,
    pub(crate) shared: Shared,
}

impl Outbox {
    pub(crate) fn new(context: &Arc<Context>, shared: &Shared) -> Self {
        Self {
            context: Arc::clone(context),
            session: OwnedSession::new(context),
            deferred: DeferredPosts::default(),
            shared: shared.clone(),
        }
    }

    /// Deletes entries of which every post is acknowledged, over the connection by which they were read.
    pub(crate) async fn delete(&mut self, entries: &[EntryId], connection: u64) -> Result<(), RedisError> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in entries.chunks(DELETED_ENTRIES) {
            failpoints::at("delete::before");
            commands.clear();
            commands.command("XDEL", 1 + chunk.len()).text(self.context.keys.outbox());
            for entry in chunk {
                commands.text(&entry.to_string());
            }
            self.session.redis.exchange_over(connection, &commands, &mut replies).await?;
            self.context.progress.made();
            let reply = replies.iter().next();
            if !matches!(reply, Some(Reply::Integer(_))) {
                return Err(refusal(reply));
            }
        }
        Ok(())
    }
}

/// Returns the id of the newest entry; none where the outbox is empty.
pub(crate) async fn newest(context: &Context) -> Result<Option<EntryId>, RedisError> {
    let page: Vec<(String, Value)> = context.redis.xrevrange(context.keys.outbox(), "+", "-", Some(1)).await?;
    Ok(page.first().and_then(|(id, _)| id.parse().ok()))
}

/// Returns the number of entries, and the first of them.
pub(crate) async fn measure(session: &mut OwnedSession) -> Result<(i64, Option<EntryId>), RedisError> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    let outbox = session.context.keys.outbox();
    commands.command("XLEN", 1).text(outbox);
    commands.command("XRANGE", 5).text(outbox).text("-").text("+").text("COUNT").number(1);
    session.redis.exchange(&commands, &mut replies).await?;
    let mut all = replies.iter();
    let (length, first) = (all.next(), all.next());
    let (Some(Reply::Integer(length)), Some(Reply::List(page))) = (length, first) else {
        return Err(refusal(length.filter(|reply| matches!(reply, Reply::Error(_))).or(first)));
    };
    let first = page.iter().next().and_then(|entry| if let Reply::List(entry) = entry { entry.iter().next() } else { None });
    Ok((length, first.and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None })))
}

/// Returns the number of entries.
pub(crate) async fn length(context: &Context) -> Result<i64, RedisError> {
    Ok(context.redis.xlen(context.keys.outbox()).await?)
}
