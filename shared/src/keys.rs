//! The names of everything in Redis. No other file formats a key.

use crate::ids::PostId;

/// The stream of what has been recorded in Redis and is not yet in PostgreSQL: post id and viewer id in turn.
pub const OUTBOX: &str = "views:outbox";
/// The stream of pairs that PostgreSQL can never take, with the reason.
pub const DEAD: &str = "views:dead";
/// The Pub/Sub channel of counts that a sync has changed.
pub const UPDATES: &str = "views:updates";
/// The `SCAN` pattern of all viewer sets and meta hashes, and of some keys that are neither: [`scanned`] tells them apart.
pub const SCAN_PATTERN: &str = "*post:*:views*";

/// What a key is that [`SCAN_PATTERN`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScannedKey {
    /// The viewer set of a post.
    Views(PostId),
    /// The meta hash of a post.
    Meta(PostId),
    /// Looks like one of the two, of which this is the pattern, and does not hold the id of a post.
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
    /// The count in PostgreSQL at the last sync.
    pub const PERSISTED: &str = "persisted";
    /// How many pairs have been put into the outbox and the set.
    pub const RECORDED: &str = "recorded";
    /// How many of the recorded pairs PostgreSQL has taken or refused.
    pub const ACKED: &str = "acked";
}

const PREFIX: &str = "post:";
const SUFFIX: &str = ":views";

/// The set of a post's viewers.
#[must_use]
pub fn views(post: &PostId) -> String {
    views_parts(post).concat()
}

/// The pieces of [`views`], for whoever writes them one after the other.
#[must_use]
pub fn views_parts(post: &PostId) -> [&str; 3] {
    [PREFIX, post.as_str(), SUFFIX]
}

/// The hash with a post's author and counts. Its hash tag is the whole key of the set, so both live in one slot.
#[must_use]
pub fn meta(post: &PostId) -> String {
    meta_parts(post).concat()
}

/// The pieces of [`meta`], for whoever writes them one after the other.
#[must_use]
pub fn meta_parts(post: &PostId) -> [&str; 3] {
    ["{post:", post.as_str(), ":views}:meta"]
}

/// The post id inside the key of a viewer set, if the key is one and the id is spelled canonically.
///
/// A set under another spelling (`post:550E8400-…:views`) belongs to no post: no reader would ever look there.
#[must_use]
pub fn post_of_views(key: &str) -> Option<PostId> {
    let id = key.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    PostId::parse(id).ok().filter(|post| post.as_str() == id)
}

/// The post id inside the key of a meta hash, if the key is one and the id is spelled canonically.
#[must_use]
pub fn post_of_meta(key: &str) -> Option<PostId> {
    post_of_views(key.strip_prefix('{')?.strip_suffix("}:meta")?)
}

/// Tells what a key is that [`SCAN_PATTERN`] has found.
#[must_use]
pub fn scanned(key: &str) -> ScannedKey {
    let is_like = |pattern: &str| {
        let (front, back) = pattern.split_once('*').unwrap_or((pattern, ""));
        key.len() >= front.len() + back.len() && key.starts_with(front) && key.ends_with(back)
    };
    if is_like(VIEWS_PATTERN) {
        post_of_views(key).map_or(ScannedKey::Misnamed(VIEWS_PATTERN), ScannedKey::Views)
    } else if is_like(META_PATTERN) {
        post_of_meta(key).map_or(ScannedKey::Misnamed(META_PATTERN), ScannedKey::Meta)
    } else {
        ScannedKey::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_layout_is_kept() {
        let post = PostId::parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
        assert_eq!(views(&post), "post:550e8400-e29b-41d4-a716-446655440000:views");
        assert_eq!(meta(&post), "{post:550e8400-e29b-41d4-a716-446655440000:views}:meta");
    }

    #[test]
    fn the_meta_hash_lives_in_the_slot_of_the_set() {
        let post = PostId::parse("42").unwrap();
        let meta = meta(&post);
        let tag = &meta[meta.find('{').unwrap() + 1..meta.find('}').unwrap()];
        assert_eq!(tag, views(&post));
    }

    #[test]
    fn a_scanned_key_gives_its_post_back() {
        let post = PostId::parse("Post_7").unwrap();
        assert_eq!(post_of_views(&views(&post)), Some(post));
        assert_eq!(post_of_meta(&meta(&post)), Some(post));
    }

    #[test]
    fn a_scanned_key_is_a_set_a_hash_or_neither() {
        let post = PostId::parse("Post_7").unwrap();
        assert_eq!(scanned(&views(&post)), ScannedKey::Views(post));
        assert_eq!(scanned(&meta(&post)), ScannedKey::Meta(post));
        for key in ["post:a b:views", "post::views", "post:a:b:views", "post:550E8400-E29B-41D4-A716-446655440000:views"] {
            assert_eq!(scanned(key), ScannedKey::Misnamed(VIEWS_PATTERN), "{key}");
            assert_eq!(scanned(&format!("{{{key}}}:meta")), ScannedKey::Misnamed(META_PATTERN), "{key}");
        }
        for key in
            ["xpost:a:views", "post:a:viewsx", "post:views", "post:a:views:old", "{post:a:views}", "{post:a:views}:metadata"]
        {
            assert_eq!(scanned(key), ScannedKey::Foreign, "{key}");
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
            assert_eq!(post_of_views(key), None, "{key}");
        }
    }
}
