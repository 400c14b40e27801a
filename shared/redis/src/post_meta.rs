//! The meta hash of a post: which of its fields are asked for, and what the reply says.

use views_core::{
    ids::PostId,
    keys::{Keys, field},
};

use crate::{
    RedisError,
    resp::{Commands, List, Reply},
};

/// A field of the hash; [`field`] says what each of them means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// [`field::AUTHOR`].
    Author,
    /// [`field::LOADED`].
    Loaded,
    /// [`field::PERSISTED`].
    Persisted,
    /// [`field::RECORDED`].
    Recorded,
    /// [`field::ACKED`].
    Acked,
    /// [`field::SETTLED`].
    Settled,
    /// [`field::REPEATED`].
    Repeated,
    /// [`field::FALLEN`].
    Fallen,
}

/// What the hash says, as far as it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PostMeta<'a> {
    /// Whether any of the fields is there.
    pub exists: bool,
    /// The author; empty when the post has none.
    pub author: Option<&'a str>,
    /// Whether the set has the viewers that the ledger has, as far as they were few enough.
    pub is_loaded: bool,
    /// The count in PostgreSQL, where it is known.
    pub persisted: Option<i64>,
    /// How many views have been recorded in Redis.
    pub recorded: i64,
    /// How many of them PostgreSQL has taken or refused.
    pub acked: i64,
    /// The entry of the outbox up to which the post's pairs are acknowledged.
    pub settled: Option<&'a str>,
    /// How many pairs of the outbox `recorded` does not count.
    pub repeated: i64,
    /// How often PostgreSQL has been found to have fewer views than it had; zero where it has not.
    pub fallen: i64,
}

/// What stands for an author that is no text. No viewer has this id.
const UNREADABLE: &str = "\u{fffd}";

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Author => field::AUTHOR,
            Self::Loaded => field::LOADED,
            Self::Persisted => field::PERSISTED,
            Self::Recorded => field::RECORDED,
            Self::Acked => field::ACKED,
            Self::Settled => field::SETTLED,
            Self::Repeated => field::REPEATED,
            Self::Fallen => field::FALLEN,
        }
    }
}

/// Writes the command that asks for fields of a post's hash.
pub fn ask(commands: &mut Commands, keys: &Keys, post: &PostId, fields: &[Field]) {
    commands.command("HMGET", 1 + fields.len()).parts(&keys.meta_parts(post));
    for field in fields {
        commands.text(field.name());
    }
}

impl<'a> PostMeta<'a> {
    /// Reads the reply to [`ask`] with the same fields.
    ///
    /// # Errors
    /// [`RedisError`]: the server's error, or that it is no such reply.
    pub fn read(reply: Reply<'a>, fields: &[Field]) -> Result<Self, RedisError> {
        let values: List<'a> = match reply {
            Reply::List(values) if values.len() == fields.len() => values,
            Reply::Error(error) => return Err(error.into()),
            _ => return Err(RedisError::UnexpectedReply),
        };
        let mut meta = Self::default();
        for (field, value) in fields.iter().zip(values.iter()) {
            meta.exists |= value != Reply::Null;
            let number = || value.number().unwrap_or(0);
            match field {
                Field::Author => meta.author = author(value),
                Field::Loaded => meta.is_loaded = value.number().is_some(),
                Field::Persisted => meta.persisted = value.number(),
                Field::Recorded => meta.recorded = number(),
                Field::Acked => meta.acked = number(),
                Field::Settled => meta.settled = value.text(),
                Field::Repeated => meta.repeated = value.text().map_or(0, repeated_pairs),
                Field::Fallen => meta.fallen = number(),
            }
        }
        Ok(meta)
    }

    /// Returns the live count: PostgreSQL's, and what it has not taken yet.
    #[must_use]
    pub fn live(&self) -> i64 {
        live(self.persisted, self.recorded, self.acked)
    }
}

/// Returns the live count of a post: what PostgreSQL has, and what it has not taken yet.
#[must_use]
pub fn live(persisted: Option<i64>, recorded: i64, acked: i64) -> i64 {
    (persisted.unwrap_or(0) + recorded - acked).max(0)
}

fn author(value: Reply<'_>) -> Option<&str> {
    match value {
        Reply::Text(author) => Some(author),
        Reply::Bytes(_) => Some(UNREADABLE),
        _ => None,
    }
}

/// Returns how many pairs [`field::REPEATED`] names in all.
fn repeated_pairs(list: &str) -> i64 {
    list.split(' ').filter_map(|item| item.split_once('=')?.1.parse::<i64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, resp::Replies};

    fn read(bytes: &str, fields: &[Field]) -> Result<(Option<String>, i64, i64, bool), RedisError> {
        let replies = Replies::decode(bytes.as_bytes().to_vec(), 1).unwrap();
        let meta = PostMeta::read(replies.iter().next().unwrap(), fields)?;
        Ok((meta.author.map(str::to_owned), meta.live(), meta.repeated, meta.exists))
    }

    #[test]
    fn fields_are_read_in_the_order_in_which_they_were_asked_for() {
        let fields = [Field::Author, Field::Persisted, Field::Recorded, Field::Acked, Field::Repeated];
        let all = "*5\r\n$3\r\nann\r\n$2\r\n10\r\n$1\r\n5\r\n$1\r\n2\r\n$11\r\n5-1=2 7-0=1\r\n";
        assert_eq!(read(all, &fields).unwrap(), (Some("ann".to_owned()), 13, 3, true));
        let none = "*5\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n";
        assert_eq!(read(none, &fields).unwrap(), (None, 0, 0, false));
    }

    #[test]
    fn a_count_is_never_below_zero() {
        assert_eq!(live(None, 1, 3), 0);
    }

    #[test]
    fn an_error_keeps_its_code() {
        let error = read("-WRONGTYPE Operation against a key\r\n", &[Field::Author]).unwrap_err();
        assert_eq!(error.code(), Some(Code::WrongType));
        assert!(matches!(read(":1\r\n", &[Field::Author]), Err(RedisError::UnexpectedReply)));
    }
}
