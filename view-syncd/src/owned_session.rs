//! A session with Redis over which it is known whose the keys are: looked at before anything is taken out of them, or
//! deleted.
//!
//! The look and what follows it go over the same connection, so that no other server comes in between.

use std::{sync::Arc, time::Duration};

use views_core::{ids::PostId, owner::Owner, partition::Partition};
use views_redis::{
    Code, NodeId, RedisError, ServerError, Session,
    ownership::NO_TEXT,
    resp::{Commands, Replies, Reply},
    scripts,
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
    /// The node that has an outbox of which the owner of its slot does not know.
    hidden_at: Option<NodeId>,
}

impl OwnedSession {
    /// Returns a session that connects when it is first used.
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        let redis = Session::new(&context.redis, TIMEOUT, Arc::clone(&context.reconnections));
        Self { context: Arc::clone(context), redis, owned_over: 0, partition: None, hidden_at: None }
    }

    /// Returns a session for the keys of a partition, whose owner stands beside its outbox.
    pub(crate) fn of(context: &Arc<Context>, partition: Partition) -> Self {
        Self { partition: Some(partition), ..Self::new(context) }
    }

    /// Returns a session for what a node has of a partition's outbox although the owner of its slot does not know that: the
    /// slot is half moved.
    pub(crate) fn of_hidden(context: &Arc<Context>, partition: Partition, node: NodeId) -> Self {
        Self { hidden_at: Some(node), ..Self::of(context, partition) }
    }

    /// Returns whether it is for what the owner of a slot does not know of.
    pub(crate) fn is_of_hidden(&self) -> bool {
        self.hidden_at.is_some()
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
    /// become so. In a cluster, each partition has its own owner's name, and those are asked whose nodes answer.
    ///
    /// # Errors
    /// [`Failure::Foreign`] where they are another one's.
    pub(crate) async fn check_owner(&mut self) -> Result<(), Failure> {
        let owner = self.context.database.owner().await?;
        let keys = self.context.keys.clone();
        let names: Vec<&str> = match self.partition {
            Some(partition) => vec![keys.owner_of(partition)],
            None => keys.owners().collect(),
        };
        let mut result = self.check_owners(&names, &owner).await;
        if result.is_ok() {
            result = self.go_to_outbox().await.map_err(Failure::from);
        }
        let is_foreign = matches!(result, Err(Failure::Foreign(_)));
        if is_foreign || result.is_ok() {
            self.context.redis_watch.note_owner(is_foreign);
            self.owned_over = self.own_connection();
        }
        if is_foreign {
            // No step comes as far as to meet a connection that is gone, behind which there may be another server by now.
            self.context.database.invalidate_owner();
        }
        result
    }

    /// In a cluster, looks at the outbox of the partition, so that the last connection is that to the node that has it: a slot
    /// that is half moved has some of its keys elsewhere.
    async fn go_to_outbox(&mut self) -> Result<(), RedisError> {
        let keys = &self.context.keys;
        let Some(partition) = self.partition.filter(|_| keys.are_in_cluster()) else { return Ok(()) };
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("XLEN", 1).text(keys.outbox_of(partition));
        match self.hidden_at {
            Some(node) => self.redis.exchange_asking(node, &commands, &mut replies).await?,
            None => self.redis.exchange(&commands, &mut replies).await?,
        }
        match replies.iter().next() {
            Some(Reply::Error(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// In a cluster, demands that the outbox of the partition is where the connection of that number leads. It may have gone
    /// to another node that has lost its last entries since: posts that are settled by these would never settle others of
    /// the same ids.
    ///
    /// # Errors
    /// [`RedisError::OtherConnection`], and those of any exchange.
    pub(crate) async fn check_outbox_on(&mut self, number: u64) -> Result<(), RedisError> {
        let keys = &self.context.keys;
        let Some(partition) = self.partition.filter(|_| keys.are_in_cluster()) else { return Ok(()) };
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("XLEN", 1).text(keys.outbox_of(partition));
        self.redis.exchange_on(number, &commands, &mut replies).await?;
        replies.iter().find_map(Reply::error).map_or(Ok(()), |error| Err(error.into()))
    }

    /// Removes what is left of an outbox of which the owner of its slot does not know, where nothing is in it any more: as a
    /// key, it would keep the slot from being moved as a whole.
    ///
    /// # Errors
    /// Those of any exchange.
    pub(crate) async fn remove_hidden_outbox(&mut self) -> Result<(), RedisError> {
        let (Some(node), Some(partition)) = (self.hidden_at, self.partition) else { return Ok(()) };
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        scripts::remove_empty(&mut commands, self.context.keys.outbox_of(partition));
        self.redis.exchange_asking(node, &commands, &mut replies).await
    }

    /// Returns the number of the connection by which it is known whose the keys are: in a cluster, of the last one that was
    /// opened to any of the nodes, or that to the node of the only partition.
    fn own_connection(&self) -> u64 {
        if self.partition.is_some() { self.redis.number() } else { self.redis.newest() }
    }

    /// Demands that the keys with the owners' names have this one, after it has been written where there was none.
    async fn check_owners(&mut self, names: &[&str], own: &Owner) -> Result<(), Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        ask(&mut commands, names);
        self.redis.exchange(&commands, &mut replies).await?;
        let mut open = Vec::new();
        for (name, reply) in names.iter().zip(replies.iter()) {
            if reply == Reply::Null {
                open.push(*name);
            }
            self.check_reply(own, reply)?;
        }
        if open.is_empty() {
            return Ok(());
        }
        // What is nobody's yet is not taken where the rest is somebody else's.
        let keys = self.context.keys.clone();
        if !open.contains(&keys.owner()) {
            commands.clear();
            ask(&mut commands, &[keys.owner()]);
            self.redis.exchange(&commands, &mut replies).await?;
            match replies.iter().next() {
                Some(reply @ Reply::Error(error)) if error.code != Code::WrongType => return Err(refusal(Some(reply)).into()),
                Some(reply) => self.check_reply(own, reply)?,
                None => {}
            }
        }
        commands.clear();
        for name in &open {
            commands.command("SET", 3).text(name).text(own.as_str()).text("NX");
            commands.command("GET", 1).text(name);
        }
        self.redis.exchange(&commands, &mut replies).await?;
        let mut all = replies.iter();
        while let (Some(set), Some(get)) = (all.next(), all.next()) {
            // A full Redis is emptied all the same: that nobody owns the keys is no reason to leave them.
            if let Reply::Error(error) = set
                && error.code != Code::OutOfMemory
                && !self.passes_over(error.code)
            {
                return Err(refusal(Some(set)).into());
            }
            self.check_reply(own, get)?;
        }
        Ok(())
    }

    /// Checks an owner's name. Of several, those are passed over whose nodes do not answer.
    fn check_reply(&self, own: &Owner, reply: Reply<'_>) -> Result<(), Failure> {
        let found = match reply {
            Reply::Null => return Ok(()),
            Reply::Text(found) => found.to_owned(),
            Reply::Bytes(found) => String::from_utf8_lossy(found).into_owned(),
            Reply::Error(error) if error.code == Code::WrongType => NO_TEXT.to_owned(),
            Reply::Error(error) if self.passes_over(error.code) => return Ok(()),
            other => return Err(refusal(Some(other)).into()),
        };
        Ok(own.check(&self.context.keys, &found)?)
    }

    fn passes_over(&self, code: Code) -> bool {
        self.partition.is_none() && self.context.is_of_some_nodes(code)
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

    /// Sends commands whosever the keys are. In a cluster, what a node does not answer is the error of the single reply.
    ///
    /// # Errors
    /// [`RedisError`]: no node has answered.
    pub(crate) async fn exchange(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), RedisError> {
        match self.redis.exchange(commands, replies).await {
            // Each reply is that error, and other nodes may answer.
            Err(_) if self.context.redis.is_clustered() && self.context.redis.is_connected() => Ok(()),
            result => result,
        }
    }

    /// Sends commands over connections over which the keys were found to be this ledger's; where there is another one, the
    /// owner is checked again first.
    ///
    /// # Errors
    /// [`Failure`], also where a reply is an error about the server: no other reply is to be relied on then. In a cluster,
    /// what one of its nodes refuses, or does not answer, is the error of the single reply.
    pub(crate) async fn exchange_owned(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), Failure> {
        if self.context.redis.is_clustered() && self.partition.is_none() {
            if self.redis.newest() != self.owned_over {
                self.check_owner().await?;
            }
            self.exchange(commands, replies).await?;
        } else {
            match self.redis.exchange_over(self.owned_over, commands, replies).await {
                Err(RedisError::OtherConnection) => {
                    self.check_owner().await?;
                    self.redis.exchange_over(self.owned_over, commands, replies).await?;
                }
                result => result?,
            }
        }
        self.check_replies(replies)
    }

    /// Sends commands to one of the servers that take writes, likewise.
    ///
    /// # Errors
    /// As of [`exchange_owned`](Self::exchange_owned), also where that server is away.
    pub(crate) async fn exchange_owned_at(
        &mut self,
        node: NodeId,
        commands: &Commands,
        replies: &mut Replies,
    ) -> Result<(), Failure> {
        if !self.context.redis.is_clustered() {
            return self.exchange_owned(commands, replies).await;
        }
        if self.redis.newest() != self.owned_over {
            self.check_owner().await?;
        }
        self.redis.exchange_at(node, commands, replies).await?;
        self.check_replies(replies)
    }

    fn check_replies(&self, replies: &Replies) -> Result<(), Failure> {
        self.context.progress.made();
        let is_clustered = self.context.redis.is_clustered();
        match replies.iter().find_map(|reply| refusal_of_the_server(reply, is_clustered)) {
            Some(error) => Err(RedisError::from(error).into()),
            None => Ok(()),
        }
    }
}

fn ask(commands: &mut Commands, names: &[&str]) {
    for name in names {
        commands.command("GET", 1).text(name);
    }
}

/// Returns the error of a server that refuses a command for another reason than what the key holds; in a cluster, for one
/// that says nothing of the one node alone.
fn refusal_of_the_server(reply: Reply<'_>, is_clustered: bool) -> Option<ServerError<'_>> {
    let is_of_one_post = |code: Code| code.is_about_the_key() || (is_clustered && code.is_about_a_node());
    reply.error().filter(|error| !is_of_one_post(error.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_type_is_the_post_s_error_and_any_other_one_the_server_s() {
        let refusal = |text| refusal_of_the_server(Reply::Error(ServerError::parse(text)), false).map(|error| error.code);
        assert_eq!(refusal("WRONGTYPE Operation against a key holding the wrong kind of value"), None);
        assert_eq!(refusal("ERR hash value is not an integer"), None);
        assert_eq!(refusal("NOPERM no"), Some(Code::NoPermission));
        assert_eq!(refusal("OOM command not allowed when used memory > 'maxmemory'."), Some(Code::OutOfMemory));
    }

    #[test]
    fn in_a_cluster_a_node_that_is_away_is_the_error_of_its_posts() {
        let refusal = |text| refusal_of_the_server(Reply::Error(ServerError::parse(text)), true).map(|error| error.code);
        for text in ["AWAY 10.0.0.1:6379: no answer", "CLUSTERDOWN The cluster is down", "OOM no", "WRONGTYPE no"] {
            assert_eq!(refusal(text), None, "{text}");
        }
        assert_eq!(refusal("NOPERM no"), Some(Code::NoPermission));
        assert_eq!(refusal("CROSSSLOT Keys in request don't hash to the same slot"), Some(Code::CrossSlot));
    }
}
