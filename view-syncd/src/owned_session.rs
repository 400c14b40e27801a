//! A session with Redis over which it is known whose the keys are: looked at before anything is taken out of them, or
//! deleted.
//!
//! The look and what follows it go over the same connection, so that no other server comes in between.

use std::{sync::Arc, time::Duration};

use views_core::{ids::PostId, owner::Owner, partition::Partition};
use views_redis::{
    Code, RedisError, ServerError, Session,
    ownership::NO_TEXT,
    resp::{Commands, Replies, Reply},
};

use crate::{
    context::Context,
    error::{Failure, refusal},
};

/// The longest that an exchange may take. None of ours takes the server more than a few milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A session with Redis.
#[derive(Debug)]
pub(crate) struct OwnedSession {
    pub(crate) context: Arc<Context>,
    /// The connection for whole pipelines. It is the same one only as long as its number is.
    pub(crate) redis: Session,
    /// The number of the connection over which the keys were last found to be this ledger's.
    pub(crate) owned_over: u64,
    /// The partition whose owner is looked at; that of all keys where it is none.
    partition: Option<Partition>,
}

impl OwnedSession {
    /// Returns a session that connects when it is first used.
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        let redis = Session::new(&context.redis, TIMEOUT, Arc::clone(&context.reconnections));
        Self { context: Arc::clone(context), redis, owned_over: 0, partition: None }
    }

    /// Returns a session for the keys of a partition, whose owner stands beside its outbox.
    pub(crate) fn of(context: &Arc<Context>, partition: Partition) -> Self {
        Self { partition: Some(partition), ..Self::new(context) }
    }

    /// Turns to the keys of another partition.
    pub(crate) fn turn_to(&mut self, partition: Partition) {
        (self.partition, self.owned_over) = (Some(partition), 0);
    }

    /// Returns whether it is a session for a post: for those of its partition or, where it has none, for all. What is left
    /// from before a cluster is of posts of all partitions.
    pub(crate) fn is_for(&self, post: &PostId) -> bool {
        let is_of = |partition| partition == Partition::LEGACY || partition == self.context.keys.partition(post);
        self.partition.is_none_or(is_of)
    }

    /// Returns the key of the owner that is looked at.
    pub(crate) fn owner_key(&self) -> &str {
        self.partition.map_or_else(|| self.context.keys.owner(), |partition| self.context.keys.owner_of(partition))
    }

    /// Demands that the keys are this ledger's. Where they have no owner (Redis is new, or has lost everything), they
    /// become so.
    ///
    /// # Errors
    /// [`Failure::Foreign`] where they are another one's.
    pub(crate) async fn check_owner(&mut self) -> Result<(), Failure> {
        let owner = self.context.database.owner().await?;
        let found = self.find_owner(&owner).await?;
        let result = found.map_or(Ok(()), |found| owner.check(&self.context.keys, &found));
        self.context.redis_watch.note_owner(result.is_err());
        if result.is_err() {
            // No step comes as far as to meet a connection that is gone, behind which there may be another server by now.
            self.context.database.invalidate_owner();
        }
        self.owned_over = self.redis.number();
        Ok(result?)
    }

    /// Returns the owner's name, after it has been written where there was none.
    async fn find_owner(&mut self, own: &Owner) -> Result<Option<String>, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("GET", 1).text(self.owner_key());
        self.redis.exchange(&commands, &mut replies).await?;
        if replies.iter().next() == Some(Reply::Null) {
            if self.owner_key() != self.context.keys.owner() {
                // A partition that is nobody's yet is not taken where the rest is somebody else's.
                commands.clear();
                commands.command("GET", 1).text(self.context.keys.owner());
                self.redis.exchange(&commands, &mut replies).await?;
                match owner_in(replies.iter().next())? {
                    Some(found) if own.check(&self.context.keys, &found).is_err() => return Ok(Some(found)),
                    _ => {}
                }
            }
            commands.clear();
            commands.command("SET", 3).text(self.owner_key()).text(own.as_str()).text("NX");
            commands.command("GET", 1).text(self.owner_key());
            self.redis.exchange(&commands, &mut replies).await?;
            if let Some(Reply::Error(error)) = replies.iter().next()
                && error.code != Code::OutOfMemory
            {
                return Err(refusal(replies.iter().next()).into());
            }
        }
        owner_in(replies.iter().last())
    }

    /// Sends commands about an outbox over the connection of that number or not at all: on another server, the same id
    /// is another entry.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], and those of any exchange.
    pub(crate) async fn exchange_on(
        &mut self,
        number: u64,
        commands: &Commands,
        replies: &mut Replies,
    ) -> Result<(), RedisError> {
        self.redis.exchange_on(number, commands, replies).await
    }

    /// Sends commands over the connection over which the keys were found to be this ledger's; where that is gone, the
    /// owner is checked again first.
    ///
    /// # Errors
    /// [`Failure`], also where a reply is an error about the server: no other reply is to be relied on then.
    pub(crate) async fn exchange_owned(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), Failure> {
        match self.redis.exchange_over(self.owned_over, commands, replies).await {
            Err(RedisError::OtherConnection) => {
                self.check_owner().await?;
                self.redis.exchange_over(self.owned_over, commands, replies).await?;
            }
            result => result?,
        }
        self.context.progress.made();
        match replies.iter().find_map(refusal_of_the_server) {
            Some(error) => Err(RedisError::from(error).into()),
            None => Ok(()),
        }
    }
}

/// Reads the reply about an owner's name.
fn owner_in(reply: Option<Reply<'_>>) -> Result<Option<String>, Failure> {
    match reply {
        Some(Reply::Null) => Ok(None),
        Some(Reply::Text(found)) => Ok(Some(found.to_owned())),
        Some(Reply::Bytes(found)) => Ok(Some(String::from_utf8_lossy(found).into_owned())),
        Some(Reply::Error(error)) if error.code == Code::WrongType => Ok(Some(NO_TEXT.to_owned())),
        other => Err(refusal(other).into()),
    }
}

/// Returns the error of a server that refuses a command for another reason than what the key holds.
fn refusal_of_the_server(reply: Reply<'_>) -> Option<ServerError<'_>> {
    reply.error().filter(|error| !error.code.is_about_the_key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_type_is_the_post_s_error_and_any_other_one_the_server_s() {
        let refusal = |text| refusal_of_the_server(Reply::Error(ServerError::parse(text))).map(|error| error.code);
        assert_eq!(refusal("WRONGTYPE Operation against a key holding the wrong kind of value"), None);
        assert_eq!(refusal("ERR hash value is not an integer"), None);
        assert_eq!(refusal("NOPERM no"), Some(Code::NoPermission));
    }
}
