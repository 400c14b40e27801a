//! Reading the outbox: entries in their order, page by page, and what each of them says.

use std::{collections::HashMap, fmt, str::FromStr, time::Instant};

use bytes::Bytes;
use fred::{clients::Client, error::Error, interfaces::StreamsInterface, types::Value};
use shared::{
    ids::{PostId, ViewerId},
    keys,
    ledger::Pair,
};

use crate::dead::DeadLetter;

/// Entries in one page. An entry of view-ingest holds up to 128 pairs: a page takes Redis a few milliseconds at the very most,
/// and is small beside a full batch.
pub(crate) const PAGE_ENTRIES: u64 = 50;

/// The id of a stream entry. Orders as the stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since 1970, by the clock of Redis.
    pub ms: u64,
    /// A number among the entries of one millisecond.
    pub sequence: u64,
}

/// An entry of the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    /// The pairs whose ids are ids.
    pub(crate) pairs: Vec<Pair>,
    /// The rest.
    pub(crate) dead: Vec<DeadLetter>,
    /// How many pairs, dead ones too, the entry has of each post: as many will be acknowledged.
    pub(crate) posts: HashMap<PostId, usize>,
}

/// What has been read and not been stored yet.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) entries: Vec<Entry>,
    /// The entry before them, where the batch before this one had not been acknowledged when this one was read.
    pub(crate) after: Option<EntryId>,
    /// Pairs in these entries, dead ones too.
    pub(crate) pairs: usize,
    /// When the first of them was read.
    pub(crate) since: Option<Instant>,
    /// By which connection the first of them was read. Another one may lead to another server, which has other entries of the same ids.
    pub(crate) connection: u64,
}

impl Gathered {
    /// What is to be gathered next, behind this.
    pub(crate) fn behind(&self) -> Self {
        Self { after: self.entries.last().map(|entry| entry.id).or(self.after), connection: self.connection, ..Self::default() }
    }

    /// Reads on, behind the last entry that was read, until about `limit` pairs are held or the stream ends.
    pub(crate) async fn read_on(&mut self, redis: &Client, limit: usize) -> Result<(), Error> {
        while self.pairs < limit {
            let last = self.entries.last().map(|entry| entry.id).or(self.after);
            let start = last.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
            let page = read(redis, &start, PAGE_ENTRIES).await?;
            let is_last = (page.len() as u64) < PAGE_ENTRIES;
            for entry in page {
                self.pairs += entry.pairs.len() + entry.dead.len();
                self.entries.push(entry);
            }
            if !self.entries.is_empty() {
                self.since.get_or_insert_with(Instant::now);
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }
}

async fn read(redis: &Client, start: &str, count: u64) -> Result<Vec<Entry>, Error> {
    // Not as a map: a post's id is a field as many times as the post was viewed.
    let page: Value = redis.xrange(keys::OUTBOX, start, "+", Some(count)).await?;
    Ok(entries(page))
}

/// Reads the reply of `XRANGE`.
pub(crate) fn entries(page: Value) -> Vec<Entry> {
    let now_ms = now_ms();
    array(page).into_iter().filter_map(|entry| parse(entry, now_ms)).collect()
}

/// The id of the newest entry; none where the outbox is empty.
pub(crate) async fn newest(redis: &Client) -> Result<Option<EntryId>, Error> {
    let page: Value = redis.xrevrange(keys::OUTBOX, "+", "-", Some(1)).await?;
    Ok(entries(page).first().map(|entry| entry.id))
}

/// The number of entries.
pub(crate) async fn length(redis: &Client) -> Result<i64, Error> {
    redis.xlen(keys::OUTBOX).await
}

fn parse(entry: Value, now_ms: i64) -> Option<Entry> {
    let mut parts = array(entry).into_iter();
    // Redis gives every entry an id of this form.
    let id: EntryId = parts.next()?.as_str()?.parse().ok()?;
    // An id may be set by hand, but nobody has viewed anything in the future.
    let at_ms = i64::try_from(id.ms).unwrap_or(i64::MAX).min(now_ms);
    let mut entry = Entry { id, pairs: Vec::new(), dead: Vec::new(), posts: HashMap::new() };
    let mut fields = parts.next().map(array).unwrap_or_default().into_iter();
    while let Some(post) = fields.next() {
        entry.add(post, fields.next(), at_ms);
    }
    Some(entry)
}

impl Entry {
    fn add(&mut self, post: Value, viewer: Option<Value>, at_ms: i64) {
        let Some(viewer) = viewer else {
            return self.bury(post, Value::Null, "the post has no viewer");
        };
        let Some(post_id) = canonical_post(&post) else {
            return self.bury(post, viewer, "not the id of a post");
        };
        *self.posts.entry(post_id).or_default() += 1;
        match viewer.as_str().and_then(|text| ViewerId::parse(&text).ok()) {
            Some(viewer) => self.pairs.push(Pair { post: post_id, viewer, at_ms }),
            None => self.bury(post, viewer, "not the id of a viewer"),
        }
    }

    fn bury(&mut self, post: Value, viewer: Value, reason: &str) {
        self.dead.push(DeadLetter { post: text(post), viewer: text(viewer), reason: reason.to_owned() });
    }
}

/// A post id in another spelling than its canonical one belongs to no post: nobody counts under that key.
fn canonical_post(value: &Value) -> Option<PostId> {
    let text = value.as_str()?;
    PostId::parse(&text).ok().filter(|post| post.as_str() == text)
}

/// What a value's bytes are, whatever they are.
pub(crate) fn text(value: Value) -> Bytes {
    value.into_bytes().unwrap_or_default()
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

impl FromStr for EntryId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, sequence) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self { ms: ms.parse()?, sequence: sequence.parse()? })
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, fields: &[&str]) -> Entry {
        let fields = fields.iter().map(|field| Value::from(*field)).collect();
        parse(Value::Array(vec![id.into(), Value::Array(fields)]), 1_000_000).unwrap()
    }

    #[test]
    fn a_post_may_be_named_many_times_in_one_entry() {
        let entry = entry("5-1", &["7", "anna", "7", "boris", "8", "anna"]);
        assert_eq!(entry.id, EntryId { ms: 5, sequence: 1 });
        assert_eq!(entry.pairs.len(), 3);
        assert_eq!(entry.posts[&PostId::parse("7").unwrap()], 2);
        assert!(entry.pairs.iter().all(|pair| pair.at_ms == 5));
    }

    #[test]
    fn what_is_no_pair_of_ids_is_dead_and_hides_nothing() {
        let entry =
            entry("5-1", &["a b", "anna", "7", "two words", "550E8400-E29B-41D4-A716-446655440000", "x", "7", "ok", "odd"]);
        let reasons: Vec<_> = entry.dead.iter().map(|dead| dead.reason.as_str()).collect();
        assert_eq!(reasons, ["not the id of a post", "not the id of a viewer", "not the id of a post", "the post has no viewer"]);
        assert_eq!(entry.pairs.len(), 1);
        // The dead pair of a real post was recorded like any other, so it is acknowledged like any other.
        assert_eq!(entry.posts[&PostId::parse("7").unwrap()], 2);
    }

    #[test]
    fn a_viewer_keeps_one_spelling() {
        let entry = entry("5-1", &["7", "550E8400-E29B-41D4-A716-446655440000"]);
        assert_eq!(entry.pairs[0].viewer.as_str(), "550e8400-e29b-41d4-a716-446655440000");
    }

    #[test]
    fn an_id_set_by_hand_is_no_view_in_the_future() {
        assert_eq!(entry("18446744073709551615-1", &["7", "anna"]).pairs[0].at_ms, 1_000_000);
    }

    #[test]
    fn ids_order_as_the_stream_does() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-9") < id("10-0") && id("10-2") < id("10-10"));
        assert_eq!(id("10-2").to_string(), "10-2");
    }
}
