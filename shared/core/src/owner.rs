//! Whom the keys in Redis belong to: which ledger their views are to go into.
//!
//! Two installations that share their keys by mistake take each other's acknowledged views for views of posts that do
//! not exist. So the keys have an owner, whose name is kept among them, and nobody else takes anything out of them.

use std::{fmt, sync::Arc};

use crate::keys::Keys;

/// How much of a foreign owner's name is repeated: whatever stands there was written by somebody else.
const LONGEST_NAME: usize = 256;

/// A ledger's name: the server, its database, the table of posts and the ledger. It stays the same for as long as the
/// ledger does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(Arc<str>);

/// The keys belong to another ledger than this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the keys in Redis belong to another database: {key} is {found:?}, and this database is {owner:?}. Give one of the two another \
     --redis-prefix (REDIS_PREFIX) or another database of Redis; where the keys are this one's, because it was moved, restored, upgraded \
     or renamed, run `view-syncd claim`"
)]
pub struct Foreign {
    key: String,
    found: String,
    owner: String,
}

impl Owner {
    /// Returns the ledger of `posts`, both spelled as no other tables are, on a server and in a database that `server`
    /// tells apart from all others.
    #[must_use]
    pub fn new(server: &str, posts: &str, ledger: &str) -> Self {
        Self(format!("{server}/{posts}/{ledger}").into())
    }

    /// Returns the name, as it is kept in Redis.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares this ledger with the name that was found in Redis.
    ///
    /// # Errors
    /// [`Foreign`] where it is another one's.
    pub fn check(&self, keys: &Keys, found: &str) -> Result<(), Foreign> {
        if found == self.as_str() {
            return Ok(());
        }
        let found = found.chars().take(LONGEST_NAME).collect();
        Err(Foreign { key: keys.owner().to_owned(), found, owner: self.as_str().to_owned() })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_server_the_database_and_both_tables() {
        assert_eq!(Owner::new("7301/16384", "blog.Post", "public.post_views").as_str(), "7301/16384/blog.Post/public.post_views");
    }

    #[test]
    fn a_foreign_owner_is_told_in_one_line_with_what_to_do() {
        let (keys, own) = (Keys::with_prefix("shop:").unwrap(), Owner::new("7301/16384", "public.posts", "public.post_views"));
        assert_eq!(own.check(&keys, own.as_str()), Ok(()));
        let told = own.check(&keys, &format!("elsewhere\n\u{1b}[31m{}", "x".repeat(10_000))).unwrap_err().to_string();
        for part in ["shop:views:owner is \"elsewhere\\n", own.as_str(), "--redis-prefix (REDIS_PREFIX)", "`view-syncd claim`"] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
        assert!(told.len() < 1_000 && !told.contains(['\n', '\u{1b}']), "{told}");
        assert!(own.check(&keys, "").is_err());
    }
}
