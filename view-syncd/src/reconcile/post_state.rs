//! What Redis knows of posts, asked in exchanges that keep the server busy for a fraction of a millisecond each.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_redis::{
    RedisError,
    post_meta::{self, Field, PostMeta},
    resp::{Commands, Replies, Reply},
};

use super::report::ScanReport;
use crate::{error::Failure, owned_session::OwnedSession};

/// Commands in one exchange. Redis takes one to two microseconds for each, in which it hears nobody else.
const EXCHANGE_COMMANDS: usize = 30;
/// What is asked of a hash.
const FIELDS: [Field; 5] = [Field::Author, Field::Persisted, Field::Recorded, Field::Acked, Field::Fallen];
/// Commands for one post's [`PostState`].
const STATE_COMMANDS: usize = 3;
/// What `TTL` says of a key that has none.
const NO_TTL: i64 = -1;
/// What `TTL` says where there is no key.
const NO_KEY: i64 = -2;

/// What Redis knows of a post.
#[derive(Debug, Clone, Default)]
pub(crate) struct PostState {
    /// The size of the set.
    pub(crate) members: i64,
    /// The author, if any is known; empty where it is known that the post has none.
    pub(crate) author: Option<Box<str>>,
    pub(crate) has_meta: bool,
    pub(crate) persisted: Option<i64>,
    pub(crate) recorded: i64,
    pub(crate) acked: i64,
    /// Whether PostgreSQL had fewer views at some time than before, and the set has not been compared with the ledger since.
    pub(crate) regressed: bool,
    /// Whether the hash is known to have no time to live.
    pub(crate) without_ttl: bool,
}

impl PostState {
    /// Returns whether the post has been looked up.
    pub(crate) fn has_author(&self) -> bool {
        self.author.is_some()
    }

    /// Returns whether somebody else than view-ingest seems to have written the set.
    pub(crate) fn has_foreign_members(&self) -> bool {
        self.members != self.recorded
    }
}

/// What became of the sets that belong to hashes.
#[derive(Debug, Default)]
pub(crate) struct SetsBeside {
    /// Posts without a set.
    pub(crate) missing: Vec<PostId>,
    /// Posts whose set has no time to live.
    pub(crate) without_ttl: Vec<PostId>,
}

/// Asks Redis for what it knows of posts. A post whose keys are of another type is an error of its own, and left out.
pub(crate) async fn read_states(
    session: &mut OwnedSession,
    posts: &[PostId],
    report: &mut ScanReport,
) -> Result<HashMap<PostId, PostState>, Failure> {
    let mut states = HashMap::with_capacity(posts.len());
    for (post, state) in try_read_states(session, posts).await? {
        match state {
            Ok(state) => {
                states.insert(post, state);
            }
            Err(error) => report.fail(&post, &error),
        }
    }
    Ok(states)
}

/// Asks the same, and returns Redis's own words where a key is of another type.
pub(crate) async fn try_read_states(
    session: &mut OwnedSession,
    posts: &[PostId],
) -> Result<Vec<(PostId, Result<PostState, RedisError>)>, Failure> {
    let mut states = Vec::with_capacity(posts.len());
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(EXCHANGE_COMMANDS / STATE_COMMANDS) {
        commands.clear();
        for post in chunk {
            let keys = &session.context.keys;
            commands.command("SCARD", 1).parts(&keys.views_parts(post));
            post_meta::ask(&mut commands, keys, post, &FIELDS);
            commands.command("TTL", 1).parts(&keys.meta_parts(post));
        }
        session.exchange_owned(&commands, &mut replies).await?;
        let mut all = replies.iter();
        states.extend(chunk.iter().map(|post| {
            // All three are taken before the first error is looked at, so that the next post finds its own.
            let own = [all.next(), all.next(), all.next()];
            (*post, read(own))
        }));
    }
    Ok(states)
}

/// Looks for the sets of posts that have a hash. Whether a set has no time to live is asked here, as that says, too,
/// whether it is there.
pub(crate) async fn sets_beside(session: &mut OwnedSession, posts: &[PostId]) -> Result<SetsBeside, Failure> {
    let mut sets = SetsBeside::default();
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    for chunk in posts.chunks(EXCHANGE_COMMANDS) {
        commands.clear();
        for post in chunk {
            commands.command("TTL", 1).parts(&session.context.keys.views_parts(post));
        }
        session.exchange_owned(&commands, &mut replies).await?;
        for (post, ttl) in chunk.iter().zip(replies.iter()) {
            match ttl.number() {
                Some(NO_KEY) => sets.missing.push(*post),
                Some(NO_TTL) => sets.without_ttl.push(*post),
                _ => {}
            }
        }
    }
    Ok(sets)
}

/// Returns a post's state from the replies about it: size, fields, and the hash's time to live.
fn read(replies: [Option<Reply<'_>>; STATE_COMMANDS]) -> Result<PostState, RedisError> {
    let [Some(members), Some(meta), Some(ttl)] = replies else { return Err(RedisError::NoReply) };
    if let Some(error) = [members, meta, ttl].into_iter().find_map(Reply::error) {
        return Err(error.into());
    }
    let PostMeta { exists, author, persisted, recorded, acked, fallen, .. } = PostMeta::read(meta, &FIELDS)?;
    Ok(PostState {
        members: members.number().unwrap_or(0),
        author: author.map(Box::from),
        has_meta: exists,
        persisted,
        recorded,
        acked,
        regressed: fallen > 0,
        without_ttl: ttl.number() == Some(NO_TTL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &str) -> Result<PostState, RedisError> {
        let replies = Replies::decode(bytes.as_bytes().to_vec(), STATE_COMMANDS).unwrap();
        let mut all = replies.iter();
        read([all.next(), all.next(), all.next()])
    }

    #[test]
    fn the_replies_about_a_post_are_read() {
        let state = read_all(":3\r\n*5\r\n$0\r\n\r\n$1\r\n7\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n:-1\r\n").unwrap();
        assert!(state.has_author() && state.has_meta && state.without_ttl && !state.regressed && !state.has_foreign_members());
        assert_eq!((state.members, state.persisted, state.recorded, state.acked), (3, Some(7), 3, 2));
        let nothing = read_all(":1\r\n*5\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n:-2\r\n").unwrap();
        assert!(!nothing.has_author() && !nothing.has_meta && !nothing.without_ttl && nothing.has_foreign_members());
        assert_eq!(nothing.persisted, None);
        let no_author = read_all(":0\r\n*5\r\n$-1\r\n$-1\r\n$4\r\nmany\r\n$-1\r\n$1\r\n1\r\n:5\r\n").unwrap();
        assert!(no_author.has_meta && !no_author.has_author() && no_author.regressed);
        assert_eq!(no_author.recorded, 0);
    }

    #[test]
    fn a_key_of_another_type_is_the_post_s_error() {
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(read_all(&format!("-{wrong}\r\n*0\r\n:5\r\n")).unwrap_err().to_string(), wrong);
    }
}
