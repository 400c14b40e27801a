//! Going through Redis's keys: the sets and the hashes of all posts, page by page.

use std::collections::BTreeMap;

use views_core::{
    ids::PostId,
    keys::{Keys, ScannedKey},
};
use views_redis::{
    RedisError,
    resp::{Commands, List, Replies, Reply},
};

use super::throttle::Throttle;
use crate::{
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Keys that one `SCAN` looks at, whatever they are. In a key space of millions, Redis takes a microsecond for each.
const SCAN_COUNT: i64 = 32;
/// Keys of posts in a page, but for what the last `SCAN` brings too many. PostgreSQL is asked once a page, about half
/// of which are sets: a query for many more keeps a processor busy for longer than a view takes as a whole.
const PAGE_KEYS: usize = 64;

/// How far the keys have been gone through.
#[derive(Debug)]
pub(crate) struct Keyspace {
    /// `None` at the end.
    cursor: Option<String>,
    keys: Keys,
    commands: Commands,
    replies: Replies,
    /// How many keys look like a post's and are not, by what they look like.
    misnamed: BTreeMap<&'static str, u64>,
}

/// Some of the posts. A post's set and its hash are hardly ever in the same page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Those that have a set.
    pub(crate) sets: Vec<PostId>,
    /// Those that have a hash.
    pub(crate) hashes: Vec<PostId>,
}

impl Keyspace {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            cursor: Some("0".to_owned()),
            keys,
            commands: Commands::default(),
            replies: Replies::default(),
            misnamed: BTreeMap::new(),
        }
    }

    /// Logs what was passed over.
    pub(crate) fn log_misnamed(self) {
        for (pattern, keys) in self.misnamed {
            tracing::warn!(keys, "keys like {}{pattern} do not hold the id of a post and are passed over", self.keys.prefix());
        }
    }

    /// Returns the next page; `None` at the end.
    pub(crate) async fn next_page(
        &mut self,
        session: &mut OwnedSession,
        throttle: &mut Throttle,
    ) -> Result<Option<Page>, Failure> {
        let mut page = Page::default();
        while page.sets.len() + page.hashes.len() < PAGE_KEYS {
            let Some(cursor) = self.cursor.take() else { break };
            self.commands.clear();
            let pattern = self.keys.scan_pattern();
            self.commands.command("SCAN", 5).text(&cursor).text("MATCH").text(pattern).text("COUNT").number(SCAN_COUNT);
            let mut replies = std::mem::take(&mut self.replies);
            session.exchange_owned(&self.commands, &mut replies).await?;
            let (next, keys) = read(&replies)?;
            self.sort(keys, &mut page);
            self.cursor = (next != "0").then(|| next.to_owned());
            self.replies = replies;
            session.context.checkpoint()?;
            throttle.rest().await;
        }
        // Redis may name a key twice.
        for posts in [&mut page.sets, &mut page.hashes] {
            posts.sort_unstable();
            posts.dedup();
        }
        let is_over = self.cursor.is_none() && page.sets.is_empty() && page.hashes.is_empty();
        Ok((!is_over).then_some(page))
    }

    fn sort(&mut self, found: List<'_>, page: &mut Page) {
        for key in found.iter() {
            let kind = match key {
                Reply::Text(key) => self.keys.scanned(key),
                Reply::Bytes(key) => self.keys.scanned(&String::from_utf8_lossy(key)),
                _ => ScannedKey::Foreign,
            };
            match kind {
                ScannedKey::Views(post) => page.sets.push(post),
                ScannedKey::Meta(post) => page.hashes.push(post),
                ScannedKey::Misnamed(pattern) => *self.misnamed.entry(pattern).or_default() += 1,
                ScannedKey::Foreign => {}
            }
        }
    }
}

/// Reads the reply to `SCAN`: where to go on, and the keys.
fn read(replies: &Replies) -> Result<(&str, List<'_>), RedisError> {
    let reply = replies.iter().next();
    if let Some(Reply::List(list)) = reply {
        let mut parts = list.iter();
        if let (Some(Reply::Text(next)), Some(Reply::List(keys))) = (parts.next(), parts.next()) {
            return Ok((next, keys));
        }
    }
    Err(refusal(reply))
}
