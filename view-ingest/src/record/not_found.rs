//! Posts that were not found a moment ago, so that whoever asks for a made-up id again costs no query.

use std::time::Duration;

use moka::sync::Cache;
use views_core::ids::PostId;
use views_redis::scripts::Depth;

/// Posts that are remembered at most, for each kind of asker. A flood of made-up ids pushes out older ones, and takes no more memory.
const MAX_POSTS: u64 = 100_000;
/// How long a read of a post that was not found costs no query.
const READ_TTL: Duration = Duration::from_secs(5);
/// How long a view. The post may be created at any moment, and its first viewers come at once.
const VIEW_TTL: Duration = Duration::from_secs(1);

/// Shared by all recorders of a process. What a read has not found does not refuse a view: anybody may read an id ahead of its creation.
#[derive(Clone)]
pub(crate) struct NotFoundPosts {
    reads: Cache<PostId, ()>,
    views: Cache<PostId, ()>,
}

impl Default for NotFoundPosts {
    fn default() -> Self {
        let cache = |ttl| Cache::builder().max_capacity(MAX_POSTS).time_to_live(ttl).build();
        Self { reads: cache(READ_TTL), views: cache(VIEW_TTL) }
    }
}

impl NotFoundPosts {
    /// Whether a post was not found a moment ago.
    pub(super) fn has(&self, post: &PostId, depth: Depth) -> bool {
        match depth {
            Depth::Read => self.reads.contains_key(post),
            Depth::View => self.views.contains_key(post),
        }
    }

    /// Remembers that a post was not found.
    pub(super) fn insert(&self, post: PostId, depth: Depth) {
        self.reads.insert(post, ());
        if depth == Depth::View {
            self.views.insert(post, ());
        }
    }

    /// A view has found a post: from now on, so do reads.
    pub(super) fn found(&self, post: &PostId) {
        self.reads.invalidate(post);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_read_has_not_found_does_not_refuse_a_view() {
        let (not_found, post) = (NotFoundPosts::default(), PostId::parse("p").unwrap());
        let known = || [not_found.has(&post, Depth::Read), not_found.has(&post, Depth::View)];
        not_found.insert(post, Depth::Read);
        assert_eq!(known(), [true, false]);
        not_found.insert(post, Depth::View);
        assert_eq!(known(), [true, true]);
        not_found.found(&post);
        assert!(!not_found.has(&post, Depth::Read));
    }
}
