//! Posts that were not found a moment ago, so that whoever asks for a made-up id again costs no query.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use views_core::ids::PostId;
use views_redis::scripts::Depth;

/// Posts that are remembered at most, for each kind of request. A flood of made-up ids pushes out older ones, and takes
/// no more memory.
const MAX_POSTS: usize = 100_000;
/// How long a read of a post that was not found costs no query.
const READ_TTL: Duration = Duration::from_secs(5);
/// How long a view. The post may be created at any moment, and its first viewers come at once.
const VIEW_TTL: Duration = Duration::from_secs(1);

/// Shared by all recorders of a process. What a read has not found does not refuse a view: anybody may read an id ahead
/// of its creation.
#[derive(Clone)]
pub(crate) struct NotFoundPosts(Arc<Posts>);

/// Posts, with the time when they were not found.
struct Posts {
    reads: Cache<PostId, Instant>,
    views: Cache<PostId, Instant>,
}

impl Default for NotFoundPosts {
    fn default() -> Self {
        Self(Arc::new(Posts { reads: Cache::new(MAX_POSTS), views: Cache::new(MAX_POSTS) }))
    }
}

impl NotFoundPosts {
    /// Returns whether a post was not found a moment ago.
    pub(super) fn has(&self, post: &PostId, depth: Depth) -> bool {
        let (posts, ttl) = match depth {
            Depth::Read => (&self.0.reads, READ_TTL),
            Depth::View => (&self.0.views, VIEW_TTL),
        };
        posts.get(post).is_some_and(|time| time.elapsed() < ttl)
    }

    /// Remembers that a post was not found.
    pub(super) fn insert(&self, post: PostId, depth: Depth) {
        let now = Instant::now();
        self.0.reads.insert(post, now);
        if depth == Depth::View {
            self.0.views.insert(post, now);
        }
    }

    /// A view has found a post: from now on, so do reads.
    pub(super) fn found(&self, post: &PostId) {
        self.0.reads.remove(post);
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
