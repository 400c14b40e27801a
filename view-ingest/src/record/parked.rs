//! Who waits for a post to be looked up, as long as PostgreSQL takes for that: bounded, for clients come faster than it gives up.
//!
//! Readers, who need no token, have a few places of their own. A view does not wait for what a reader has asked for.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_redis::scripts::Depth;

use crate::record::pending::Items;

/// How many views may wait at most, per recorder: some 50 MB where each is for another post.
const MAX_VIEWS: usize = 100_000;
/// With how many reads no request more begins to wait. That many are looked up in a fraction of a second, unless PostgreSQL is slow. Those that
/// have begun may bring it to twice as many.
const MAX_READS: usize = 4_096;

/// The items of posts that are being looked up.
pub(super) struct ParkedItems {
    views: Queue,
    reads: Queue,
}

struct Queue {
    posts: HashMap<PostId, Items>,
    items: usize,
    limit: usize,
}

impl Default for ParkedItems {
    fn default() -> Self {
        let queue = |limit| Queue { posts: HashMap::new(), items: 0, limit };
        Self { views: queue(MAX_VIEWS), reads: queue(2 * MAX_READS) }
    }
}

/// What became of items that were to wait.
#[derive(Debug)]
pub(super) enum Parked {
    /// They wait, and nobody has waited for the post before.
    First,
    /// They wait, too.
    More,
    /// There are too many already. None of these waits.
    NoRoom(Items),
}

impl ParkedItems {
    /// Has items wait for their post.
    pub(super) fn add(&mut self, post: PostId, depth: Depth, items: Items) -> Parked {
        match depth {
            Depth::View => self.views.add(post, items),
            // Viewers that are on their way bring all that a reader needs.
            Depth::Read if self.views.posts.contains_key(&post) => self.views.add(post, items),
            Depth::Read => self.reads.add(post, items),
        }
    }

    /// How many reads more may wait.
    pub(super) fn read_room(&self) -> usize {
        MAX_READS.saturating_sub(self.reads.items)
    }

    /// Those who have waited for a post.
    pub(super) fn take(&mut self, post: &PostId, depth: Depth) -> Items {
        match depth {
            Depth::View => self.views.take(post),
            Depth::Read => self.reads.take(post),
        }
    }
}

impl Queue {
    fn add(&mut self, post: PostId, items: Items) -> Parked {
        if self.items >= self.limit {
            return Parked::NoRoom(items);
        }
        self.items += items.len();
        match self.posts.get_mut(&post) {
            Some(waiting) => {
                waiting.extend(items);
                Parked::More
            }
            None => {
                self.posts.insert(post, items);
                Parked::First
            }
        }
    }

    fn take(&mut self, post: &PostId) -> Items {
        let items = self.posts.remove(post).unwrap_or_default();
        self.items -= items.len();
        items
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::record::pending::{Item, LookupState};

    fn post(id: &str) -> PostId {
        PostId::parse(id).unwrap()
    }

    fn items(number: usize) -> Items {
        smallvec![Item { request: 0, place: 0, lookup: LookupState::None }; number]
    }

    #[test]
    fn the_first_to_wait_is_told_so() {
        let mut waiting = ParkedItems::default();
        assert!(matches!(waiting.add(post("p"), Depth::View, Items::new()), Parked::First));
        assert!(matches!(waiting.add(post("p"), Depth::View, items(2)), Parked::More));
        assert!(matches!(waiting.add(post("q"), Depth::View, items(1)), Parked::First));
        assert_eq!((waiting.take(&post("p"), Depth::View).len(), waiting.take(&post("p"), Depth::View).len()), (2, 0));
        assert!(matches!(waiting.add(post("p"), Depth::View, items(1)), Parked::First));
    }

    #[test]
    fn a_view_does_not_wait_for_what_a_reader_has_asked_for() {
        let mut waiting = ParkedItems::default();
        assert!(matches!(waiting.add(post("p"), Depth::Read, items(1)), Parked::First));
        assert!(matches!(waiting.add(post("p"), Depth::View, items(1)), Parked::First));
        assert!(matches!(waiting.add(post("p"), Depth::Read, items(1)), Parked::More), "but a reader for what a view asks for");
        assert_eq!((waiting.take(&post("p"), Depth::Read).len(), waiting.take(&post("p"), Depth::View).len()), (1, 2));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut waiting = ParkedItems::default();
        for _ in 0..10 {
            assert!(matches!(waiting.add(post("p"), Depth::View, items(MAX_VIEWS / 10)), Parked::First | Parked::More));
        }
        assert!(matches!(waiting.add(post("p"), Depth::View, items(1)), Parked::NoRoom(items) if items.len() == 1));
        assert!(matches!(waiting.add(post("q"), Depth::View, items(1)), Parked::NoRoom(_)));
        assert_eq!(waiting.read_room(), MAX_READS);
        assert!(matches!(waiting.add(post("q"), Depth::Read, items(MAX_READS)), Parked::First), "reads have room of their own");
        assert_eq!(waiting.read_room(), 0);
        assert!(matches!(waiting.add(post("q"), Depth::Read, items(MAX_READS)), Parked::More));
        assert!(matches!(waiting.add(post("r"), Depth::Read, items(1)), Parked::NoRoom(_)));
        waiting.take(&post("p"), Depth::View);
        assert!(matches!(waiting.add(post("q"), Depth::View, items(1)), Parked::First));
    }
}
