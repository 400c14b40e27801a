//! A batch: what is read from the outbox, page by page and in its order, and has not been stored yet.

use std::{collections::HashMap, sync::Arc, time::Instant};

use views_core::{
    ids::{PostId, ViewerId},
    partition::Partition,
};
use views_postgres::{Database, DatabaseError, schema::Schema};
use views_redis::{
    RedisError,
    resp::{Commands, List, Replies, Reply},
};

use super::{
    dead_letter::DeadLetter,
    entries::{Entries, Span},
    pairs::Pairs,
};
use crate::{
    entry_id::{EntryId, now_ms},
    error::refusal,
    owned_session::OwnedSession,
};

/// Entries in one page. An entry of view-ingest holds up to 128 pairs: a page takes Redis about a millisecond at the
/// most, and is small beside a full batch.
const PAGE_ENTRIES: usize = 50;

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
    /// The number of the connection by which they were read or, while there are none, are to be read; zero for any.
    /// Another one may lead to another server, which has other entries of the same ids.
    pub(crate) connection: u64,
    /// Whether it is of posts that were deferred: then it has no more than a part of its entries.
    pub(crate) is_retry: bool,
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
    /// Returns an empty batch that is to be read from the start of the outbox, over a certain connection.
    pub(crate) fn over(connection: u64) -> Self {
        Self { connection, ..Self::default() }
    }

    /// Returns an empty batch that is to be read from the start up to an entry, over a certain connection.
    pub(crate) fn until(until: EntryId, connection: u64) -> Self {
        Self { part: Part { until: Some(until), ..Part::default() }, connection, ..Self::default() }
    }

    /// Returns an empty batch that is to be read behind an entry, over the connection by which that one was read.
    pub(crate) fn after(entry: EntryId, connection: u64) -> Self {
        Self { part: Part { after: Some(entry), ..Part::default() }, connection, ..Self::default() }
    }

    /// Returns an empty batch of certain posts only, each from an entry on, up to another one, over the connection by
    /// which these were read.
    pub(crate) fn of(posts: HashMap<PostId, EntryId>, until: EntryId, connection: u64) -> Self {
        let part = Part { after: None, from: posts.values().min().copied(), until: Some(until), posts: Some(posts) };
        Self { part, connection, is_retry: true, ..Self::default() }
    }

    /// Returns an empty batch that is to be read behind this one.
    pub(crate) fn behind(&self) -> Self {
        let part = Part { after: self.read_to.or(self.part.after), until: self.part.until, ..Part::default() };
        Self { part, connection: self.connection, pairs: Pairs::like(&self.pairs), ..Self::default() }
    }

    /// Reads on in the outbox of a partition, behind the last entry that was read, until the batch has about `limit`
    /// pairs or there is no more to be read for it.
    pub(crate) async fn read_on(
        &mut self,
        session: &mut OwnedSession,
        partition: Partition,
        limit: usize,
    ) -> Result<(), RedisError> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        while self.size < limit && !self.is_prepared {
            let start = match (self.read_to.or(self.part.after), self.part.from) {
                (Some(last), _) => format!("({last}"),
                (None, Some(from)) => from.to_string(),
                (None, None) => "-".to_owned(),
            };
            let end = self.part.until.map_or_else(|| "+".to_owned(), |until| until.to_string());
            commands.clear();
            let outbox = session.context.keys.outbox_of(partition);
            commands.command("XRANGE", 5).text(outbox).text(&start).text(&end).text("COUNT").number(PAGE_ENTRIES as i64);
            if self.connection == 0 {
                session.redis.exchange(&commands, &mut replies).await?;
                self.connection = session.redis.number();
            } else {
                session.exchange_on(self.connection, &commands, &mut replies).await?;
            }
            let page = match replies.iter().next() {
                Some(Reply::List(page)) => page,
                other => return Err(refusal(other)),
            };
            self.is_at_end = page.len() < PAGE_ENTRIES;
            self.take(page);
            if self.is_at_end {
                break;
            }
        }
        Ok(())
    }

    /// Makes the pairs what PostgreSQL takes, as [`Self::prepare`] does. Where an id seems not to fit, the tables are
    /// looked up anew first: the application may have given a column another type. Returns what the tables look like.
    pub(crate) async fn prepare_for(&mut self, database: &Database) -> Result<Arc<Schema>, DatabaseError> {
        let mut schema = database.schema().await?;
        if !self.fits(&schema) {
            schema = database.schema_to_give_up().await?;
        }
        self.prepare(&schema);
        Ok(schema)
    }

    /// Sorts the pairs as PostgreSQL takes them, and turns those into dead letters that do not fit. From then on,
    /// nothing can be added.
    pub(crate) fn prepare(&mut self, schema: &Schema) {
        if !self.is_prepared {
            self.is_prepared = true;
            self.dead.extend(self.pairs.prepare(schema).into_iter().map(|(place, dead_letter)| (Some(place), dead_letter)));
        }
    }

    /// Returns whether every id fits its column's type.
    pub(crate) fn fits(&self, schema: &Schema) -> bool {
        self.is_prepared || self.pairs.fits(schema)
    }

    /// Returns which of the entries behind one name a post, and with how many pairs.
    pub(crate) fn span_of(&self, post: &PostId, behind: EntryId) -> Option<Span> {
        let place = self.pairs.posts().get_index_of(post).and_then(|place| u32::try_from(place).ok())?;
        self.entries.span_behind(place, behind)
    }

    /// Adds the entries of a reply to `XRANGE`.
    pub(crate) fn take(&mut self, page: List<'_>) {
        let now_ms = now_ms();
        for entry in page.iter() {
            let Reply::List(entry) = entry else { continue };
            let mut parts = entry.iter();
            // Redis gives every entry an id of this form.
            let Some(id) = parts.next().and_then(|id| if let Reply::Text(id) = id { id.parse().ok() } else { None }) else {
                continue;
            };
            let fields = if let Some(Reply::List(fields)) = parts.next() { Some(fields) } else { None };
            let names_posts = fields.is_some_and(|fields| self.take_fields(fields, id, now_ms));
            self.read_to = Some(id);
            if !self.is_retry || names_posts {
                self.since.get_or_insert_with(Instant::now);
                self.entries.push(id);
            }
        }
    }

    /// Adds the fields of an entry. Returns whether they name posts of which pairs are wanted.
    fn take_fields(&mut self, fields: List<'_>, id: EntryId, now_ms: i64) -> bool {
        let mut names_posts = false;
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
                self.add_dead_letter(None, post, Reply::Null, "the post has no viewer", at_ms);
                continue;
            };
            let Some(post_id) = post_id else {
                self.add_dead_letter(None, post, viewer, "not the id of a post", at_ms);
                continue;
            };
            let place = match text(viewer).and_then(|text| ViewerId::parse(text).ok()) {
                Some(viewer) => self.pairs.add(post_id, &viewer, at_ms),
                None => {
                    let place = self.pairs.place(post_id);
                    self.add_dead_letter(Some(place), post, viewer, "not the id of a viewer", at_ms);
                    place
                }
            };
            self.entries.name(place);
            names_posts = true;
        }
        names_posts
    }

    fn add_dead_letter(&mut self, place: Option<u32>, post: Reply<'_>, viewer: Reply<'_>, reason: &'static str, at_ms: i64) {
        self.dead.push((place, DeadLetter::new(bytes(post), bytes(viewer), reason, at_ms)));
    }
}

/// Reads a post id. In another spelling than its canonical one it belongs to no post: nobody counts under that key.
fn canonical_post(post: Reply<'_>) -> Option<PostId> {
    let text = text(post)?;
    PostId::parse(text).ok().filter(|post| post.as_str() == text)
}

fn text(reply: Reply<'_>) -> Option<&str> {
    if let Reply::Text(text) = reply { Some(text) } else { None }
}

/// Returns the bytes of a field.
fn bytes(reply: Reply<'_>) -> &[u8] {
    match reply {
        Reply::Text(text) => text.as_bytes(),
        Reply::Bytes(bytes) => bytes,
        _ => &[],
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::batch::properties::page;

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
}
