//! The names of everything in Redis. No other file formats a key.
//!
//! All of them begin with the prefix of the installation, so that several installations can share one Redis database.

use std::{fmt, sync::Arc, time::Duration};

use crate::{ids::PostId, ttl::Ttl};

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
    #[must_use]
    pub fn outbox(&self) -> &str {
        &self.names.outbox
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

    /// The hash with a post's author and counts. Without a prefix, its hash tag is the whole key of the set, so both
    /// live in one slot.
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
        post_of_meta(key.strip_prefix(self.prefix())?)
    }

    /// Tells what a key is that [`Self::scan_pattern`] has found.
    #[must_use]
    pub fn scanned(&self, key: &str) -> ScannedKey {
        let Some(name) = key.strip_prefix(self.prefix()) else { return ScannedKey::Foreign };
        if is_like(name, VIEWS_PATTERN) {
            post_of_views(name).map_or(ScannedKey::Misnamed(VIEWS_PATTERN), ScannedKey::Views)
        } else if is_like(name, META_PATTERN) {
            post_of_meta(name).map_or(ScannedKey::Misnamed(META_PATTERN), ScannedKey::Meta)
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
mod tests {
    use super::*;

    fn prefixed() -> Keys {
        Keys::with_prefix("copy:").unwrap()
    }

    #[test]
    fn the_documented_layout_is_kept() {
        let post = PostId::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
        let keys = Keys::default();
        assert_eq!(keys.views(&post), "post:550e8400-e29b-41d4-a716-446655440000:views");
        assert_eq!(keys.meta(&post), "{post:550e8400-e29b-41d4-a716-446655440000:views}:meta");
        let others = [keys.outbox(), keys.dead(), keys.updates(), keys.owner()];
        assert_eq!(others, ["views:outbox", "views:dead", "views:updates", "views:owner"]);
    }

    #[test]
    fn all_names_begin_with_the_prefix() {
        let post = PostId::parse("42").unwrap();
        let keys = prefixed();
        assert_eq!(keys.prefix(), "copy:");
        assert_eq!((keys.views(&post), keys.meta(&post)), ("copy:post:42:views".into(), "copy:{post:42:views}:meta".into()));
        let others = [keys.outbox(), keys.dead(), keys.updates(), keys.owner()];
        assert_eq!(others, ["copy:views:outbox", "copy:views:dead", "copy:views:updates", "copy:views:owner"]);
        assert_eq!(keys.scan_pattern(), "copy:*post:*:views*");
    }

    #[test]
    fn a_prefix_is_short_and_of_plain_characters() {
        for prefix in ["", "a", "app-1/stage_2:v.3:", &"x".repeat(64)] {
            assert!(Keys::with_prefix(prefix).is_ok(), "{prefix}");
        }
        for prefix in ["{app}:", "a*", "a?", "[a]", "a\\", "a b", "a\n", "при", "^", &"x".repeat(65)] {
            assert_eq!(Keys::with_prefix(prefix).unwrap_err(), InvalidPrefix, "{prefix}");
        }
    }

    #[test]
    fn the_meta_hash_lives_in_the_slot_of_the_set() {
        let post = PostId::parse("42").unwrap();
        let meta = Keys::default().meta(&post);
        let tag = &meta[meta.find('{').unwrap() + 1..meta.find('}').unwrap()];
        assert_eq!(tag, Keys::default().views(&post));
    }

    #[test]
    fn a_scanned_key_gives_its_post_back() {
        let post = PostId::parse("Post_7").unwrap();
        for keys in [Keys::default(), prefixed()] {
            assert_eq!(keys.post_of_views(&keys.views(&post)), Some(post));
            assert_eq!(keys.post_of_meta(&keys.meta(&post)), Some(post));
        }
    }

    #[test]
    fn a_scanned_key_is_a_set_a_hash_or_neither() {
        let post = PostId::parse("Post_7").unwrap();
        for keys in [Keys::default(), prefixed()] {
            let scanned = |name: &str| keys.scanned(&format!("{}{name}", keys.prefix()));
            assert_eq!(keys.scanned(&keys.views(&post)), ScannedKey::Views(post));
            assert_eq!(keys.scanned(&keys.meta(&post)), ScannedKey::Meta(post));
            for name in ["post:a b:views", "post::views", "post:a:b:views", "post:550E8400-E29B-41D4-A716-446655440000:views"] {
                assert_eq!(scanned(name), ScannedKey::Misnamed(VIEWS_PATTERN), "{name}");
                assert_eq!(scanned(&format!("{{{name}}}:meta")), ScannedKey::Misnamed(META_PATTERN), "{name}");
            }
            for name in
                ["xpost:a:views", "post:a:viewsx", "post:views", "post:a:views:old", "{post:a:views}", "{post:a:views}:metadata"]
            {
                assert_eq!(scanned(name), ScannedKey::Foreign, "{name}");
            }
        }
    }

    #[test]
    fn keys_behind_another_prefix_are_foreign() {
        let post = PostId::parse("7").unwrap();
        let all = ["", "copy:", "copy", "copy:copy:", "c:"].map(|prefix| Keys::with_prefix(prefix).unwrap());
        for (own, keys) in all.iter().enumerate() {
            for (other, scanner) in all.iter().enumerate() {
                for key in [keys.views(&post), keys.meta(&post)] {
                    let is_foreign = scanner.scanned(&key) == ScannedKey::Foreign;
                    assert_eq!(is_foreign, own != other, "{key} for {scanner:?}");
                }
            }
        }
    }

    #[test]
    fn keys_of_no_post_are_passed_over() {
        for key in [
            "post::views",
            "post:a b:views",
            "post:a:b:views",
            "xpost:a:views",
            "post:a:viewsx",
            "post:550E8400-E29B-41D4-A716-446655440000:views",
        ] {
            assert_eq!(Keys::default().post_of_views(key), None, "{key}");
        }
    }
}
