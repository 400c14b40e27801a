//! Looking: what Redis knows of posts, asked in exchanges that keep the server busy for a fraction of a millisecond each.

use std::collections::HashMap;

use fred::error::{Error, ErrorKind};
use views_core::{ids::PostId, keys::field};
use views_redis::resp::{Commands, Replies, Reply};

use super::ScanReport;
use crate::engine::{Engine, Failure};

/// Commands in one exchange. Redis takes one to two microseconds for each, in which it hears nobody else.
pub(super) const EXCHANGE_COMMANDS: usize = 30;
/// Commands for one post's [`Look`].
const LOOK_COMMANDS: usize = 3;
/// What `TTL` says of a key that is there for ever.
const FOR_EVER: i64 = -1;
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
    /// Whether one of the keys is known to be there for ever.
    pub(crate) without_ttl: bool,
}

impl PostState {
    /// Whether the post has been looked up.
    pub(crate) fn has_author(&self) -> bool {
        self.author.is_some()
    }

    /// Whether somebody else than view-ingest seems to have written the set.
    pub(crate) fn has_foreign_members(&self) -> bool {
        self.members != self.recorded
    }
}

/// What became of the sets that belong to hashes.
#[derive(Debug, Default)]
pub(super) struct SetsBeside {
    /// Posts without a set.
    pub(super) missing: Vec<PostId>,
    /// Posts whose set is there for ever.
    pub(super) without_ttl: Vec<PostId>,
}

impl Engine {
    /// Asks Redis for what it knows of posts. A post whose keys are of another type is an error of its own, and left out.
    pub(crate) async fn read_states(
        &mut self,
        posts: &[PostId],
        scanned: &mut ScanReport,
    ) -> Result<HashMap<PostId, PostState>, Failure> {
        let mut states = HashMap::with_capacity(posts.len());
        for (post, state) in self.try_read_states(posts).await? {
            match state {
                Ok(state) => {
                    states.insert(post, state);
                }
                Err(error) => scanned.fail(&post, &error),
            }
        }
        Ok(states)
    }

    /// The same, with Redis's own words where a key is of another type.
    pub(super) async fn try_read_states(
        &mut self,
        posts: &[PostId],
    ) -> Result<Vec<(PostId, Result<PostState, String>)>, Failure> {
        let mut states = Vec::with_capacity(posts.len());
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in posts.chunks(EXCHANGE_COMMANDS / LOOK_COMMANDS) {
            commands.clear();
            for post in chunk {
                let meta = self.keys.meta_parts(post);
                commands.command("SCARD", 1).parts(&self.keys.views_parts(post));
                commands.command("HMGET", 6).parts(&meta);
                commands.text(field::AUTHOR).text(field::PERSISTED).text(field::RECORDED).text(field::ACKED).text(field::FALLEN);
                commands.command("TTL", 1).parts(&meta);
            }
            self.exchange(&commands, &mut replies).await?;
            let mut all = replies.iter();
            states.extend(chunk.iter().map(|post| {
                // All three are taken before the first error is looked at, so that the next post finds its own.
                let own = [all.next(), all.next(), all.next()];
                (*post, read(own))
            }));
        }
        Ok(states)
    }

    /// Looks for the sets of posts that have a hash. Whether a set is there for ever is asked here, as that says, too, whether it is there.
    pub(super) async fn sets_beside(&mut self, posts: &[PostId]) -> Result<SetsBeside, Failure> {
        let mut sets = SetsBeside::default();
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        for chunk in posts.chunks(EXCHANGE_COMMANDS) {
            commands.clear();
            for post in chunk {
                commands.command("TTL", 1).parts(&self.keys.views_parts(post));
            }
            self.exchange(&commands, &mut replies).await?;
            for (post, ttl) in chunk.iter().zip(replies.iter()) {
                match ttl.number() {
                    Some(NO_KEY) => sets.missing.push(*post),
                    Some(FOR_EVER) => sets.without_ttl.push(*post),
                    _ => {}
                }
            }
        }
        Ok(sets)
    }

    /// Sends commands over the link by which the keys were found to be ours; where that is gone, they are looked at again first. Fails, too, where an error is about the server: no other reply is to be relied on then.
    pub(super) async fn exchange(&mut self, commands: &Commands, replies: &mut Replies) -> Result<(), Failure> {
        match self.line.exchange_over(self.owned, commands, replies).await {
            Err(error) if *error.kind() == ErrorKind::Canceled => {
                self.check_owner().await?;
                self.line.exchange_over(self.owned, commands, replies).await?;
            }
            result => result?,
        }
        self.progress.made();
        match replies.iter().find_map(refusal_of_the_server) {
            Some(text) => Err(Error::new(ErrorKind::Unknown, text.to_owned()).into()),
            None => Ok(()),
        }
    }
}

/// What the server says that refuses a command for another reason than what the key holds.
fn refusal_of_the_server(reply: Reply<'_>) -> Option<&str> {
    match reply {
        Reply::Error(text) if !text.starts_with("WRONGTYPE") && !text.starts_with("ERR ") => Some(text),
        _ => None,
    }
}

/// Reads the replies about a post: size, fields, and the hash's time to live.
fn read(replies: [Option<Reply<'_>>; LOOK_COMMANDS]) -> Result<PostState, String> {
    let error = |reply: &Option<Reply<'_>>| if let Some(Reply::Error(text)) = reply { Some((*text).to_owned()) } else { None };
    if let Some(text) = replies.iter().find_map(error) {
        return Err(text);
    }
    let [Some(members), Some(Reply::List(fields)), Some(ttl)] = replies else {
        return Err("a reply is missing".to_owned());
    };
    let mut has_meta = false;
    let mut fields = fields.iter().inspect(|field| has_meta |= *field != Reply::Null);
    let author = match fields.next() {
        Some(Reply::Text(author)) => Some(author.into()),
        Some(Reply::Bytes(author)) => Some(String::from_utf8_lossy(author).into()),
        _ => None,
    };
    let mut number = || fields.next().and_then(Reply::number);
    let (persisted, recorded, acked, regressed) = (number(), number(), number(), number());
    Ok(PostState {
        members: members.number().unwrap_or(0),
        author,
        has_meta,
        persisted,
        recorded: recorded.unwrap_or(0),
        acked: acked.unwrap_or(0),
        regressed: regressed.is_some_and(|regressions| regressions > 0),
        without_ttl: ttl.number() == Some(FOR_EVER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &str) -> Result<PostState, String> {
        let replies = Replies::decode(bytes.as_bytes().to_vec(), LOOK_COMMANDS).unwrap();
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
    fn a_key_of_another_type_is_the_post_s_error_and_any_other_one_the_server_s() {
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(read_all(&format!("-{wrong}\r\n*0\r\n:5\r\n")).unwrap_err(), wrong);
        assert_eq!(refusal_of_the_server(Reply::Error(wrong)), None);
        assert_eq!(refusal_of_the_server(Reply::Error("ERR hash value is not an integer")), None);
        assert_eq!(refusal_of_the_server(Reply::Error("NOPERM no")), Some("NOPERM no"));
    }
}
