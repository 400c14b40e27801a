//! Going through Redis's keys: the sets and the hashes of all posts, page by page.
//!
//! In a cluster, one primary is gone through after the other. A slot that has another primary at the end than at the
//! beginning is gone through again there; a primary that does not answer costs its own posts. What is found of a slot that
//! is another primary's is on its way here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::sleep;
use views_core::{
    ids::PostId,
    keys::{Keys, ScannedKey},
    partition::{Partition, SLOTS},
};
use views_redis::{
    NodeId, RedisError,
    resp::{Commands, List, Replies, Reply},
};

use super::throttle::Throttle;
use crate::{
    context::Context,
    error::{Failure, refusal},
    owned_session::OwnedSession,
};

/// Keys that one `SCAN` looks at, whatever they are. In a key space of millions, Redis takes a microsecond for each.
const SCAN_COUNT: i64 = 32;
/// Keys of posts in a page, but for what the last `SCAN` brings too many. PostgreSQL is asked once a page, about half
/// of which are sets: a query for many more keeps a processor busy for longer than a view takes as a whole.
const PAGE_KEYS: usize = 64;
/// How often slots are gone through that have moved meanwhile, or whose primary did not answer. The rest has its turn with
/// the next scan.
const ROUNDS: usize = 3;
/// The pause before that: by then it is known where they are.
const ROUND_PAUSE: Duration = Duration::from_millis(250);

/// How far the keys have been gone through.
#[derive(Debug)]
pub(crate) struct Keyspace {
    keys: Keys,
    /// The primary whose keys are being gone through, and where.
    place: Option<Place>,
    /// The primaries that are next.
    next: Vec<NodeId>,
    round: usize,
    /// In a cluster, the slots whose posts have been found.
    seen: Vec<bool>,
    /// The primaries of this round that did not answer, and why.
    failures: BTreeMap<NodeId, String>,
    commands: Commands,
    replies: Replies,
    /// How many keys look like a post's and are not, by what they look like.
    misnamed: BTreeMap<&'static str, u64>,
}

/// A place among the keys of a primary.
#[derive(Debug)]
struct Place {
    node: NodeId,
    cursor: String,
    /// The slots that it had at the beginning.
    slots: Vec<u16>,
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
        let slots = if keys.are_in_cluster() { usize::from(SLOTS) } else { 0 };
        Self {
            keys,
            place: None,
            next: Vec::new(),
            round: 0,
            seen: vec![false; slots],
            failures: BTreeMap::new(),
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

    /// Returns the primaries whose posts could not be found, and why.
    pub(crate) fn failures(&self) -> impl ExactSizeIterator<Item = &str> {
        self.failures.values().map(String::as_str)
    }

    /// Returns the next page of posts of those partitions that are wanted, which are all where none are given; `None` at the
    /// end.
    pub(crate) async fn next_page(
        &mut self,
        session: &mut OwnedSession,
        throttle: &mut Throttle,
        wanted: Option<&BTreeSet<Partition>>,
    ) -> Result<Option<Page>, Failure> {
        let mut page = Page::default();
        while page.sets.len() + page.hashes.len() < PAGE_KEYS {
            if self.place.is_none() && !self.begin_next(&session.context, wanted).await? {
                break;
            }
            let Some(Place { node, cursor, .. }) = &self.place else { break };
            self.commands.clear();
            let pattern = self.keys.scan_pattern();
            self.commands.command("SCAN", 5).text(cursor).text("MATCH").text(pattern).text("COUNT").number(SCAN_COUNT);
            let (node, mut replies) = (*node, std::mem::take(&mut self.replies));
            let result = session.exchange_owned_at(node, &self.commands, &mut replies).await;
            match result.and_then(|()| Ok(read(&replies)?)) {
                Ok((next, keys)) => {
                    self.sort(keys, &mut page, wanted);
                    self.go_on(&session.context, next).await;
                }
                Err(Failure::Redis(error)) if self.keys.are_in_cluster() => self.fail(&session.context, node, &error),
                Err(failure) => return Err(failure),
            }
            self.replies = replies;
            session.context.checkpoint()?;
            throttle.rest().await;
        }
        // Redis may name a key twice.
        for posts in [&mut page.sets, &mut page.hashes] {
            posts.sort_unstable();
            posts.dedup();
        }
        let is_over = self.place.is_none() && page.sets.is_empty() && page.hashes.is_empty();
        Ok((!is_over).then_some(page))
    }

    /// Begins with the next primary. Returns whether there is one.
    async fn begin_next(&mut self, context: &Context, wanted: Option<&BTreeSet<Partition>>) -> Result<bool, Failure> {
        if self.next.is_empty() {
            self.next = self.next_round(context, wanted).await?;
        }
        let Some(node) = self.next.pop() else { return Ok(false) };
        let slots = if self.keys.are_in_cluster() { slots_of(context, node).await } else { Vec::new() };
        self.place = Some(Place { node, cursor: "0".to_owned(), slots });
        Ok(true)
    }

    /// Returns the primaries of the next round: all of them at first, then those of slots that are not seen.
    async fn next_round(&mut self, context: &Context, wanted: Option<&BTreeSet<Partition>>) -> Result<Vec<NodeId>, Failure> {
        self.round += 1;
        if self.round == 1 {
            return Ok(context.redis.nodes());
        }
        let is_open = |slot: &u16| !self.seen[usize::from(*slot)] && is_wanted(wanted, Partition::of_slot(*slot));
        let open: Vec<u16> = (0..SLOTS).take(self.seen.len()).filter(is_open).collect();
        if open.is_empty() {
            // Who could not be asked has nothing that is wanted.
            self.failures.clear();
        }
        if open.is_empty() || self.round > ROUNDS {
            return Ok(Vec::new());
        }
        context.redis.reconnect().await;
        sleep(ROUND_PAUSE).await;
        context.checkpoint()?;
        self.failures.clear();
        let mut nodes: Vec<NodeId> = open.into_iter().filter_map(|slot| context.redis.node_of_slot(slot)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }

    /// Notes where the keys of the primary go on. At their end, the slots are seen that it had all the time.
    async fn go_on(&mut self, context: &Context, next: &str) {
        let Some(place) = &mut self.place else { return };
        next.clone_into(&mut place.cursor);
        if next != "0" {
            return;
        }
        if let Some(Place { node, slots, .. }) = self.place.take()
            && self.keys.are_in_cluster()
        {
            let now = slots_of(context, node).await;
            for slot in slots.iter().filter(|slot| now.binary_search(slot).is_ok()) {
                self.seen[usize::from(*slot)] = true;
            }
        }
    }

    /// Notes that a primary does not answer.
    fn fail(&mut self, context: &Context, node: NodeId, error: &RedisError) {
        let address = context.redis.address(node).unwrap_or_default();
        self.failures.insert(node, format!("{address}: {error}"));
        self.place = None;
    }

    fn sort(&mut self, found: List<'_>, page: &mut Page, wanted: Option<&BTreeSet<Partition>>) {
        for key in found.iter() {
            let kind = match key {
                Reply::Text(key) => self.keys.scanned(key),
                Reply::Bytes(key) => self.keys.scanned(&String::from_utf8_lossy(key)),
                _ => ScannedKey::Foreign,
            };
            match kind {
                ScannedKey::Views(post) if self.takes(&post, wanted) => page.sets.push(post),
                ScannedKey::Meta(post) if self.takes(&post, wanted) => page.hashes.push(post),
                ScannedKey::Misnamed(pattern) if self.round == 1 => *self.misnamed.entry(pattern).or_default() += 1,
                _ => {}
            }
        }
    }

    /// Returns whether a post that is found is one of those that are gone through now.
    fn takes(&self, post: &PostId, wanted: Option<&BTreeSet<Partition>>) -> bool {
        let is_new = || self.round == 1 || !self.seen[usize::from(self.keys.slot(post))];
        is_wanted(wanted, self.keys.partition(post)) && is_new()
    }
}

fn is_wanted(wanted: Option<&BTreeSet<Partition>>, partition: Partition) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(&partition))
}

/// Returns the slots that a primary has, in their order: by its own words or, where it may not be asked, as far as is known.
async fn slots_of(context: &Context, node: NodeId) -> Vec<u16> {
    match context.redis.view_of(node).await {
        Ok(Some(view)) => {
            let mut slots: Vec<u16> = view.slots.into_iter().flatten().collect();
            slots.sort_unstable();
            slots
        }
        Ok(None) => (0..SLOTS).filter(|slot| context.redis.node_of_slot(*slot) == Some(node)).collect(),
        Err(_) => Vec::new(),
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
