//! Reading the outbox: entries in their order, page by page, and what each of them says.

use std::{collections::HashMap, fmt, str::FromStr, time::Instant};

use fred::{clients::Client, error::Error, interfaces::StreamsInterface, types::Value};
use views_core::{
    ids::{PostId, ViewerId},
    keys::Keys,
};
use views_postgres::schema::Schema;
use views_redis::resp::{Commands, List, Replies, Reply};

use crate::{dead_letters::DeadLetter, engine::refusal, line::Line, pairs::Pairs};

/// Entries in one page. An entry of view-ingest holds up to 128 pairs: a page takes Redis about a millisecond at the most, and is small
/// beside a full batch.
pub(crate) const PAGE_ENTRIES: usize = 50;

/// The id of a stream entry. Orders as the stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since 1970, by the clock of Redis.
    pub ms: u64,
    /// A number among the entries of one millisecond.
    pub sequence: u64,
}

/// What is to be acknowledged of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) id: EntryId,
    /// Where the list of the posts that it names ends, which begins where that of the entry before it ends.
    end: usize,
}

/// The entries that name a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first of them.
    pub(crate) first: EntryId,
    /// The last of them.
    pub(crate) last: EntryId,
    /// How many pairs of the post they have.
    pub(crate) pairs: u64,
}

/// Entries, and the posts they name.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    marks: Vec<Mark>,
    /// The places of the named posts, as often as each of them is named: as many pairs, dead ones too, will be acknowledged.
    named: Vec<u32>,
}

impl Entries {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Option<EntryId> {
        self.marks.last().map(|mark| mark.id)
    }

    /// How many pairs name each of `posts` posts, and the first and the last of the entries that do; nothing for a post that none names.
    pub(crate) fn spans(&self, posts: usize) -> Vec<Option<Span>> {
        let mut spans: Vec<Option<Span>> = vec![None; posts];
        for (id, named) in self.iter() {
            for place in named {
                let span = spans[*place as usize].get_or_insert(Span { first: id, last: id, pairs: 0 });
                (span.last, span.pairs) = (id, span.pairs + 1);
            }
        }
        spans
    }

    /// The same for one post, and only for entries behind one.
    pub(crate) fn span_behind(&self, place: u32, behind: EntryId) -> Option<Span> {
        let mut span: Option<Span> = None;
        for (id, named) in self.iter().filter(|(id, _)| *id > behind) {
            let pairs = named.iter().filter(|named| **named == place).count() as u64;
            if pairs > 0 {
                let span = span.get_or_insert(Span { first: id, last: id, pairs: 0 });
                (span.last, span.pairs) = (id, span.pairs + pairs);
            }
        }
        span
    }

    /// Each entry with the places of the posts that it names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EntryId, &[u32])> {
        self.marks.iter().scan(0, |start, mark| {
            let named = &self.named[*start..mark.end];
            *start = mark.end;
            Some((mark.id, named))
        })
    }

    /// The places of all named posts.
    #[cfg(test)]
    pub(crate) fn named(&self) -> &[u32] {
        &self.named
    }
}

/// A dead letter, with the place of the post that it names, where it names one.
pub(crate) type FoundDead = (Option<u32>, DeadLetter);

/// What has been read and not been stored yet.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: Entries,
    /// The pairs whose ids are ids.
    pub(crate) pairs: Pairs,
    /// The rest.
    pub(crate) dead: Vec<FoundDead>,
    /// Pairs in these entries, dead ones too.
    pub(crate) size: usize,
    /// When the first of them was read.
    pub(crate) since: Option<Instant>,
    /// By which link they were read or, while there are none, are to be read; zero for any. Another one may lead to another server, which
    /// has other entries of the same ids.
    pub(crate) link: u64,
    /// What is to be read.
    part: Part,
    /// The last entry that was read, also where nothing of it was wanted.
    pub(crate) read_to: Option<EntryId>,
    /// Whether all is read that is to be read.
    pub(crate) is_at_end: bool,
    /// Whether nothing is added any more and the pairs are as PostgreSQL takes them.
    is_prepared: bool,
}

/// A part of the outbox.
#[derive(Debug, Default)]
struct Part {
    /// The entry before it; it begins with the first where there is none.
    after: Option<EntryId>,
    /// The first entry.
    from: Option<EntryId>,
    /// The last entry, where that is known.
    until: Option<EntryId>,
    /// The posts of which pairs are wanted, each from an entry on; of all, where this is not given.
    posts: Option<HashMap<PostId, EntryId>>,
}

impl Batch {
    /// Nothing yet, to be read over a certain link.
    pub(crate) fn over(link: u64) -> Self {
        Self { link, ..Self::default() }
    }

    /// What is to be gathered behind an entry, over the link by which that one was read.
    pub(crate) fn after(entry: EntryId, link: u64) -> Self {
        Self { part: Part { after: Some(entry), ..Part::default() }, link, ..Self::default() }
    }

    /// What is to be gathered of certain posts, each from an entry on, up to another one, over the link by which these were read.
    pub(crate) fn of(posts: HashMap<PostId, EntryId>, until: EntryId, link: u64) -> Self {
        let part = Part { after: None, from: posts.values().min().copied(), until: Some(until), posts: Some(posts) };
        Self { part, link, ..Self::default() }
    }

    /// What is to be gathered next, behind this.
    pub(crate) fn behind(&self) -> Self {
        let part = Part { after: self.read_to.or(self.part.after), ..Part::default() };
        Self { part, link: self.link, pairs: Pairs::like(&self.pairs), ..Self::default() }
    }

    /// Whether it is of certain posts only.
    pub(crate) fn is_of_some_posts(&self) -> bool {
        self.part.posts.is_some()
    }

    /// Reads on, behind the last entry that was read, until about `limit` pairs are held or the part ends.
    pub(crate) async fn read_on(&mut self, line: &mut Line, keys: &Keys, limit: usize) -> Result<(), Error> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        while self.size < limit && !self.is_prepared {
            let last = self.read_to.or(self.part.after);
            let start = match (last, self.part.from) {
                (Some(last), _) => format!("({last}"),
                (None, Some(from)) => from.to_string(),
                (None, None) => "-".to_owned(),
            };
            let end = self.part.until.map_or_else(|| "+".to_owned(), |until| until.to_string());
            commands.clear();
            commands.command("XRANGE", 5).text(keys.outbox()).text(&start).text(&end).text("COUNT").number(PAGE_ENTRIES as i64);
            if self.link == 0 {
                line.exchange(&commands, &mut replies).await?;
                self.link = line.number();
            } else {
                line.exchange_over(self.link, &commands, &mut replies).await?;
            }
            let page = match replies.iter().next() {
                Some(Reply::List(page)) => page,
                other => return Err(refusal(other)),
            };
            self.is_at_end = page.len() < PAGE_ENTRIES;
            self.take(page);
            if !self.entries.is_empty() {
                self.since.get_or_insert_with(Instant::now);
            }
            if self.is_at_end {
                break;
            }
        }
        Ok(())
    }

    /// Makes the pairs what PostgreSQL takes. From then on, nothing can be added.
    pub(crate) fn prepare(&mut self, schema: &Schema) {
        if !self.is_prepared {
            self.is_prepared = true;
            self.dead.extend(self.pairs.prepare(schema).into_iter().map(|(place, dead_letter)| (Some(place), dead_letter)));
        }
    }

    /// Whether every id fits its column's type.
    pub(crate) fn fits(&self, schema: &Schema) -> bool {
        self.is_prepared || self.pairs.fits(schema)
    }

    /// Takes the entries of a reply to `XRANGE`.
    pub(crate) fn take(&mut self, page: List<'_>) {
        let now_ms = now_ms();
        for entry in page.iter() {
            let Reply::List(entry) = entry else { continue };
            let mut parts = entry.iter();
            // Redis gives every entry an id of this form.
            let Some(id) = parts.next().and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None }) else {
                continue;
            };
            let before = self.entries.named.len();
            if let Some(Reply::List(fields)) = parts.next() {
                self.take_fields(fields, id, now_ms);
            }
            self.read_to = Some(id);
            if self.part.posts.is_none() || self.entries.named.len() > before {
                self.entries.marks.push(Mark { id, end: self.entries.named.len() });
            }
        }
    }

    fn take_fields(&mut self, fields: List<'_>, id: EntryId, now_ms: i64) {
        // An id may be set by hand, but nobody has viewed anything in the future.
        let at_ms = i64::try_from(id.ms).unwrap_or(i64::MAX).min(now_ms);
        let mut fields = fields.iter();
        while let Some(post) = fields.next() {
            let viewer = fields.next();
            let post_id = canonical_post(post);
            if let Some(wanted) = &self.part.posts
                && post_id.and_then(|post| wanted.get(&post)).is_none_or(|first| id < *first)
            {
                continue;
            }
            self.size += 1;
            let Some(viewer) = viewer else {
                self.add_dead_letters(None, post, Reply::Null, "the post has no viewer", at_ms);
                continue;
            };
            let Some(post_id) = post_id else {
                self.add_dead_letters(None, post, viewer, "not the id of a post", at_ms);
                continue;
            };
            let place = self.pairs.place(post_id);
            self.entries.named.push(place);
            match text(viewer).and_then(|text| ViewerId::parse(text).ok()) {
                Some(viewer) => self.pairs.push(place, &viewer, at_ms),
                None => self.add_dead_letters(Some(place), post, viewer, "not the id of a viewer", at_ms),
            }
        }
    }

    fn add_dead_letters(&mut self, place: Option<u32>, post: Reply<'_>, viewer: Reply<'_>, reason: &'static str, at_ms: i64) {
        self.dead.push((place, DeadLetter::new(bytes(post), bytes(viewer), reason, at_ms)));
    }
}

/// A post id in another spelling than its canonical one belongs to no post: nobody counts under that key.
fn canonical_post(post: Reply<'_>) -> Option<PostId> {
    let text = text(post)?;
    PostId::parse(text).ok().filter(|post| post.as_str() == text)
}

fn text(reply: Reply<'_>) -> Option<&str> {
    if let Reply::Text(text) = reply { Some(text) } else { None }
}

/// What a field's bytes are, whatever they are.
fn bytes(reply: Reply<'_>) -> &[u8] {
    match reply {
        Reply::Text(text) => text.as_bytes(),
        Reply::Bytes(bytes) => bytes,
        _ => &[],
    }
}

/// The id of the newest entry; none where the outbox is empty.
pub(crate) async fn newest(redis: &Client, keys: &Keys) -> Result<Option<EntryId>, Error> {
    let page: Vec<(String, Value)> = redis.xrevrange(keys.outbox(), "+", "-", Some(1)).await?;
    Ok(page.first().and_then(|(id, _)| id.parse().ok()))
}

/// The number of entries, and the first of them.
pub(crate) async fn measure(line: &mut Line, keys: &Keys) -> Result<(i64, Option<EntryId>), Error> {
    let (mut commands, mut replies) = (Commands::default(), Replies::default());
    commands.command("XLEN", 1).text(keys.outbox());
    commands.command("XRANGE", 5).text(keys.outbox()).text("-").text("+").text("COUNT").number(1);
    line.exchange(&commands, &mut replies).await?;
    let mut all = replies.iter();
    let (length, first) = (all.next(), all.next());
    let (Some(Reply::Integer(length)), Some(Reply::List(page))) = (length, first) else {
        return Err(refusal(length.filter(|reply| matches!(reply, Reply::Error(_))).or(first)));
    };
    let mut first = Batch::default();
    first.take(page);
    Ok((length, first.read_to))
}

/// The number of entries.
pub(crate) async fn length(redis: &Client, keys: &Keys) -> Result<i64, Error> {
    redis.xlen(keys.outbox()).await
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

impl EntryId {
    /// No entry has a lower id.
    pub(crate) const FIRST: Self = Self { ms: 0, sequence: 0 };
    /// No entry has a higher id.
    pub(crate) const LAST: Self = Self { ms: u64::MAX, sequence: u64::MAX };

    /// The id that follows.
    pub(crate) fn next(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { ms: self.ms.saturating_add(1), sequence: 0 },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

/// A text that is no id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an entry, such as 1700000000000-0")]
pub struct NoEntryId;

impl FromStr for EntryId {
    type Err = NoEntryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Without a sign, which the numbers' own reader would take.
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (ms, sequence) = text.split_once('-').unwrap_or((text, "0"));
        let (ms, sequence) = (number(ms).ok_or(NoEntryId)?, number(sequence).ok_or(NoEntryId)?);
        Ok(Self { ms, sequence })
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::properties::page;

    fn entry(id: &str, fields: &[&str]) -> Batch {
        let fields = fields.iter().map(|field| field.as_bytes().to_vec()).collect();
        page(&[(id.to_owned(), fields)])
    }

    fn viewers(batch: &Batch) -> Vec<String> {
        batch.pairs.iter().map(|(_, viewer, _)| viewer.to_owned()).collect()
    }

    #[test]
    fn a_post_may_be_named_many_times_in_one_entry() {
        let batch = entry("5-1", &["7", "anna", "7", "boris", "8", "anna"]);
        assert_eq!(batch.entries.last(), Some(EntryId { ms: 5, sequence: 1 }));
        assert_eq!((batch.pairs.iter().count(), batch.size), (3, 3));
        assert_eq!(batch.entries.named(), [0, 0, 1]);
        assert!(batch.pairs.iter().all(|(_, _, at_ms)| at_ms == 5));
    }

    #[test]
    fn what_is_no_pair_of_ids_is_dead_and_hides_nothing() {
        let fields = ["a b", "anna", "7", "two words", "550E8400-E29B-41D4-A716-446655440000", "x", "7", "ok", "odd"];
        let batch = entry("5-1", &fields);
        let reasons: Vec<_> = batch.dead.iter().map(|(_, dead)| &*dead.reason).collect();
        assert_eq!(reasons, ["not the id of a post", "not the id of a viewer", "not the id of a post", "the post has no viewer"]);
        assert_eq!(viewers(&batch), ["ok"]);
        // The dead pair of a real post was recorded like any other, so it is acknowledged like any other.
        assert_eq!(batch.entries.named(), [0, 0]);
    }

    #[test]
    fn a_viewer_keeps_one_spelling() {
        let batch = entry("5-1", &["7", "550E8400-E29B-41D4-A716-446655440000"]);
        assert_eq!(viewers(&batch), ["550e8400-e29b-41d4-a716-446655440000"]);
    }

    #[test]
    fn an_id_set_by_hand_is_no_view_in_the_future() {
        let batch = entry("18446744073709551615-1", &["7", "anna"]);
        assert!(batch.pairs.iter().all(|(_, _, at_ms)| (0..=now_ms()).contains(&at_ms)));
    }

    #[test]
    fn each_entry_has_its_own_posts() {
        let pages = [("5-1".to_owned(), vec![b"7".to_vec(), b"a".to_vec()]), ("5-2".to_owned(), Vec::new())];
        let mut pages = pages.to_vec();
        pages.push(("6-0".to_owned(), [&b"8"[..], b"a", b"7", b"b"].map(<[u8]>::to_vec).to_vec()));
        let batch = page(&pages);
        let named: Vec<(String, Vec<u32>)> = batch.entries.iter().map(|(id, named)| (id.to_string(), named.to_vec())).collect();
        assert_eq!(named, [("5-1".to_owned(), vec![0]), ("5-2".to_owned(), vec![]), ("6-0".to_owned(), vec![1, 0])]);
    }

    #[test]
    fn ids_order_as_the_stream_does() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-9") < id("10-0") && id("10-2") < id("10-10"));
        assert_eq!(id("10-2").to_string(), "10-2");
    }
}
