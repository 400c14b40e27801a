//! The names of everything in Redis. No other file formats a key.
//!
//! All of them begin with the prefix of the installation, so that several installations can share one Redis database.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::{
    ids::PostId,
    partition::{Partition, slot},
    ttl::Ttl,
};

/// What a key is that [`Keys::scan_pattern`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScannedKey {
    /// The viewer set of a post.
    Views(PostId),
    /// The meta hash of a post.
    Meta(PostId),
    /// Looks like one of the two, of which this is the pattern behind the prefix, and does not hold the id of a post.
    Misnamed(&'static str),
    /// Somebody else's.
    Foreign,
}

const VIEWS_PATTERN: &str = "post:*:views";
const META_PATTERN: &str = "{post:*:views}:meta";

/// The fields of a post's meta hash.
pub mod field {
    /// The post's author, empty when the post has none.
    pub const AUTHOR: &str = "author";
    /// There as soon as the set has the viewers whom the ledger has, or these are too many for that. Whoever only reads
    /// does not bring them.
    pub const LOADED: &str = "loaded";
    /// The count in PostgreSQL at the last sync.
    pub const PERSISTED: &str = "persisted";
    /// How many pairs have been put into the outbox and the set.
    pub const RECORDED: &str = "recorded";
    /// How many of the recorded pairs PostgreSQL has taken or refused.
    pub const ACKED: &str = "acked";
    /// The last entry of the outbox up to which the post's pairs are acknowledged.
    pub const SETTLED: &str = "settled";
    /// How many pairs in which entries of the outbox `recorded` does not count, because two processes have recorded
    /// their viewers at once: `5-1=2 7-0=1`. Of many pairs, it names only the entries between which they are:
    /// `8-0..9-3=40`.
    pub const REPEATED: &str = "repeated";
    /// How often PostgreSQL has been found to have fewer views of the post than it had, since the set was compared with
    /// the ledger.
    pub const FALLEN: &str = "fallen";
}

const PREFIX: &str = "post:";
const SUFFIX: &str = ":views";

/// How long keys live where no setting says otherwise, as in tests.
const DEFAULT_TTL: Ttl = Ttl::new(Duration::from_secs(24 * 3600));

/// The longest prefix.
const LONGEST_PREFIX: usize = 64;
/// The length of the longest key of a set, in bytes.
const MAX_KEY: usize = LONGEST_PREFIX + PREFIX.len() + 64 + SUFFIX.len();

/// A prefix that keys cannot begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be at most {LONGEST_PREFIX} characters of A-Z, a-z, 0-9, '_', '.', ':', '/' and '-'")]
pub struct InvalidPrefix;

/// The names of one installation. Clones share their memory, and no view costs an allocation for its keys.
#[derive(Clone)]
pub struct Keys {
    names: Arc<Names>,
    ttl: Ttl,
}

struct Names {
    prefix: String,
    /// What stands before the post id in the key of a set.
    views: String,
    /// What stands before the post id in the key of a hash.
    meta: String,
    outbox: String,
    dead: String,
    updates: String,
    owner: String,
    scan_pattern: String,
    /// In a cluster, the outbox and the owner of each partition, by its number.
    partitions: Vec<(String, String)>,
}

impl Default for Keys {
    /// Without a prefix.
    fn default() -> Self {
        Self::of("")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.names.prefix).finish()
    }
}

impl Keys {
    /// Returns the names that begin with a prefix.
    ///
    /// # Errors
    /// [`InvalidPrefix`]: braces would move the hash tag, by which a set and its hash share a slot, and `*`, `?`, `[`
    /// and `\` mean something in the pattern of a `SCAN`.
    pub fn with_prefix(prefix: &str) -> Result<Self, InvalidPrefix> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
        if prefix.len() > LONGEST_PREFIX || !prefix.bytes().all(is_allowed) {
            return Err(InvalidPrefix);
        }
        Ok(Self::of(prefix))
    }

    /// Returns the same names, as they are in a cluster: each partition has its own outbox, and the slot of a set is the
    /// slot of its hash, whatever the prefix is.
    #[must_use]
    pub fn in_cluster(self) -> Self {
        let prefix = self.prefix();
        let meta = format!("{prefix}{{{prefix}{PREFIX}");
        let of_partition = |partition: Partition| {
            // What is left in the outbox from before the cluster has its owner beside it, too.
            let tag = partition.tag().map_or_else(|| self.outbox().to_owned(), str::to_owned);
            let outbox = partition.tag().map_or_else(|| self.outbox().to_owned(), |tag| format!("{}:{{{tag}}}", self.outbox()));
            (outbox, format!("{}:{{{tag}}}", self.owner()))
        };
        let partitions = Partition::of_cluster().chain([Partition::LEGACY]).map(of_partition).collect();
        let Self { names, ttl } = &self;
        let names = Names {
            prefix: names.prefix.clone(),
            views: names.views.clone(),
            meta,
            outbox: names.outbox.clone(),
            dead: names.dead.clone(),
            updates: names.updates.clone(),
            owner: names.owner.clone(),
            scan_pattern: names.scan_pattern.clone(),
            partitions,
        };
        Self { names: Arc::new(names), ttl: *ttl }
    }

    fn of(prefix: &str) -> Self {
        let behind = |name: &str| format!("{prefix}{name}");
        let names = Arc::new(Names {
            prefix: prefix.to_owned(),
            views: behind(PREFIX),
            meta: behind("{post:"),
            outbox: behind("views:outbox"),
            dead: behind("views:dead"),
            updates: behind("views:updates"),
            owner: behind("views:owner"),
            scan_pattern: behind("*post:*:views*"),
            partitions: Vec::new(),
        });
        Self { names, ttl: DEFAULT_TTL }
    }

    /// Returns what all of them begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.names.prefix
    }

    /// Returns the same names, where Redis keeps a post that nobody views for so long.
    #[must_use]
    pub fn with_ttl(self, ttl: Ttl) -> Self {
        Self { ttl, ..self }
    }

    /// Returns how long Redis keeps the keys of a post that nobody views.
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Returns the stream of what has been recorded in Redis and is not yet in PostgreSQL: post id and viewer id in turn.
    /// In a cluster, it has only what was recorded before there was one.
    #[must_use]
    pub fn outbox(&self) -> &str {
        &self.names.outbox
    }

    /// Returns whether the names are those of a cluster.
    #[must_use]
    pub fn are_in_cluster(&self) -> bool {
        !self.names.partitions.is_empty()
    }

    /// Returns the partitions that views are recorded in: one, or those of a cluster.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        let (whole, cluster) =
            if self.are_in_cluster() { (None, Some(Partition::of_cluster())) } else { (Some(Partition::WHOLE), None) };
        whole.into_iter().chain(cluster.into_iter().flatten())
    }

    /// Returns the partitions that have an outbox to be drained: in a cluster, that from before it is one of them.
    pub fn drained_partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        let legacy = self.are_in_cluster().then_some(Partition::LEGACY);
        legacy.into_iter().chain(self.partitions())
    }

    /// Returns the partition of a post.
    #[must_use]
    pub fn partition(&self, post: &PostId) -> Partition {
        if self.are_in_cluster() { Partition::of_slot(self.slot(post)) } else { Partition::WHOLE }
    }

    /// Returns the slot of a post's keys in a cluster.
    #[must_use]
    pub fn slot(&self, post: &PostId) -> u16 {
        let mut key = arrayvec::ArrayString::<MAX_KEY>::new();
        // A prefix and an id have a greatest length.
        let fits = self.views_parts(post).iter().all(|part| key.try_push_str(part).is_ok());
        debug_assert!(fits, "the longest key fits");
        slot(key.as_bytes())
    }

    /// Returns the outbox of a partition.
    #[must_use]
    pub fn outbox_of(&self, partition: Partition) -> &str {
        self.of_partition(partition).map_or(&self.names.outbox, |(outbox, _)| outbox)
    }

    /// Returns the text that says which ledger a partition belongs to, in the slot of the partition's outbox.
    #[must_use]
    pub fn owner_of(&self, partition: Partition) -> &str {
        self.of_partition(partition).map_or(&self.names.owner, |(_, owner)| owner)
    }

    /// Returns the partition that the stream of dead letters is nearest to: whoever drains that one sees to them.
    #[must_use]
    pub fn partition_of_dead(&self) -> Partition {
        if self.are_in_cluster() { Partition::of_slot(slot(self.dead().as_bytes())) } else { Partition::WHOLE }
    }

    /// Returns all texts that say which ledger the keys belong to.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.owner()).chain(self.names.partitions.iter().map(|(_, owner)| &**owner))
    }

    fn of_partition(&self, partition: Partition) -> Option<&(String, String)> {
        self.names.partitions.get(usize::from(partition.number()))
    }

    /// Returns the stream of pairs that PostgreSQL can never take, with the reason.
    #[must_use]
    pub fn dead(&self) -> &str {
        &self.names.dead
    }

    /// The Pub/Sub channel of counts that a sync has changed.
    #[must_use]
    pub fn updates(&self) -> &str {
        &self.names.updates
    }

    /// Returns the text that says which ledger all these keys belong to.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.names.owner
    }

    /// Returns the `SCAN` pattern of all viewer sets and meta hashes, and of some keys that are neither:
    /// [`Self::scanned`] tells them apart.
    #[must_use]
    pub fn scan_pattern(&self) -> &str {
        &self.names.scan_pattern
    }

    /// Returns the set of a post's viewers.
    #[must_use]
    pub fn views(&self, post: &PostId) -> String {
        self.views_parts(post).concat()
    }

    /// Returns the pieces of [`Self::views`], for whoever writes them one after the other.
    #[must_use]
    pub fn views_parts<'a>(&'a self, post: &'a PostId) -> [&'a str; 3] {
        [&self.names.views, post.as_str(), SUFFIX]
    }

    /// The hash with a post's author and counts. In a cluster, its hash tag is the whole key of the set, so both live in
    /// one slot: with the prefix `shop:`, it is `shop:{shop:post:7:views}:meta`.
    #[must_use]
    pub fn meta(&self, post: &PostId) -> String {
        self.meta_parts(post).concat()
    }

    /// Returns the pieces of [`Self::meta`], for whoever writes them one after the other.
    #[must_use]
    pub fn meta_parts<'a>(&'a self, post: &'a PostId) -> [&'a str; 3] {
        [&self.names.meta, post.as_str(), ":views}:meta"]
    }

    /// Returns the post id inside the key of a viewer set, if the key is one and the id is spelled canonically.
    ///
    /// A set under another spelling (`post:550E8400-…:views`) belongs to no post: no reader would ever look there.
    #[must_use]
    pub fn post_of_views(&self, key: &str) -> Option<PostId> {
        post_of_views(key.strip_prefix(self.prefix())?)
    }

    /// Returns the post id inside the key of a meta hash, if the key is one and the id is spelled canonically.
    #[must_use]
    pub fn post_of_meta(&self, key: &str) -> Option<PostId> {
        post_of_meta(&self.bare_meta(key.strip_prefix(self.prefix())?)?)
    }

    /// Returns a hash's name behind the prefix as it is without any: in a cluster, its hash tag has the prefix once more.
    fn bare_meta<'a>(&self, name: &'a str) -> Option<Cow<'a, str>> {
        if !self.are_in_cluster() || self.prefix().is_empty() {
            return Some(Cow::Borrowed(name));
        }
        let rest = name.strip_prefix('{')?.strip_prefix(self.prefix())?;
        Some(Cow::Owned(format!("{{{rest}")))
    }

    /// Tells what a key is that [`Self::scan_pattern`] has found.
    #[must_use]
    pub fn scanned(&self, key: &str) -> ScannedKey {
        let Some(name) = key.strip_prefix(self.prefix()) else { return ScannedKey::Foreign };
        if is_like(name, VIEWS_PATTERN) {
            return post_of_views(name).map_or(ScannedKey::Misnamed(VIEWS_PATTERN), ScannedKey::Views);
        }
        let Some(name) = self.bare_meta(name) else { return ScannedKey::Foreign };
        if is_like(&name, META_PATTERN) {
            post_of_meta(&name).map_or(ScannedKey::Misnamed(META_PATTERN), ScannedKey::Meta)
        } else {
            ScannedKey::Foreign
        }
    }
}

fn is_like(name: &str, pattern: &str) -> bool {
    let (front, back) = pattern.split_once('*').unwrap_or((pattern, ""));
    name.len() >= front.len() + back.len() && name.starts_with(front) && name.ends_with(back)
}

fn post_of_views(name: &str) -> Option<PostId> {
    let id = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    PostId::parse(id).ok().filter(|post| post.as_str() == id)
}

fn post_of_meta(name: &str) -> Option<PostId> {
    post_of_views(name.strip_prefix('{')?.strip_suffix("}:meta")?)
}

#[cfg(test)]
mod tests;
