//! Who waits for a post to be looked up, as long as PostgreSQL takes for that: bounded, for clients come faster than it
//! gives up.
//!
//! Readers, who need no token, have a few places of their own. A view does not wait for what a reader has asked for.

use std::collections::HashMap;

use views_core::ids::PostId;
use views_redis::scripts::Depth;

use crate::record::group::Items;

/// How many views may wait at most, per recorder: some 50 MB where each is for another post.
const MAX_VIEWS: usize = 100_000;
/// With how many reads no request more begins to wait. That many are looked up in a fraction of a second, unless
/// PostgreSQL is slow. Those that have begun may bring it to twice as many.
const MAX_READS: usize = 4_096;

/// The items of posts that are being looked up.
#[derive(Default)]
pub(super) struct ParkedItems {
    /// Look-ups of what a view needs.
    views: HashMap<PostId, Waiting>,
    /// Look-ups of what a read needs.
    reads: HashMap<PostId, Waiting>,
    /// How many views wait.
    view_items: usize,
    /// How many reads wait, for look-ups of either kind.
    read_items: usize,
}

/// Who waits for a post.
#[derive(Default)]
struct Waiting {
    items: Items,
    /// How many of them are reads.
    reads: usize,
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
    /// Has items wait for a look-up of their post; so many of them are reads, for which there [was room](Self::read_room).
    pub(super) fn add(&mut self, post: PostId, depth: Depth, items: Items, reads: usize) -> Parked {
        let views = items.len() - reads;
        if (views > 0 && self.view_items >= MAX_VIEWS) || (reads > 0 && self.read_items >= 2 * MAX_READS) {
            return Parked::NoRoom(items);
        }
        self.view_items += views;
        self.read_items += reads;
        // Viewers that are on their way bring all that a reader needs.
        let posts = if depth == Depth::View || self.views.contains_key(&post) { &mut self.views } else { &mut self.reads };
        match posts.get_mut(&post) {
            Some(waiting) => {
                waiting.items.extend(items);
                waiting.reads += reads;
                Parked::More
            }
            None => {
                posts.insert(post, Waiting { items, reads });
                Parked::First
            }
        }
    }

    /// Returns how many reads more may wait.
    pub(super) fn read_room(&self) -> usize {
        MAX_READS.saturating_sub(self.read_items)
    }

    /// Returns those who have waited for a post.
    pub(super) fn take(&mut self, post: &PostId, depth: Depth) -> Items {
        let posts = match depth {
            Depth::View => &mut self.views,
            Depth::Read => &mut self.reads,
        };
        let Waiting { items, reads } = posts.remove(post).unwrap_or_default();
        self.view_items -= items.len() - reads;
        self.read_items -= reads;
        items
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::record::group::Item;

    fn post(id: &str) -> PostId {
        PostId::parse(id).unwrap()
    }

    fn items(number: usize) -> Items {
        smallvec![Item { request: 0, place: 0, lookup: None }; number]
    }

    /// Has so many views wait for a look-up.
    fn views(parked: &mut ParkedItems, id: &str, number: usize) -> Parked {
        parked.add(post(id), Depth::View, items(number), 0)
    }

    /// Has so many reads wait for a look-up of what they need.
    fn reads(parked: &mut ParkedItems, id: &str, number: usize) -> Parked {
        parked.add(post(id), Depth::Read, items(number), number)
    }

    #[test]
    fn the_first_to_wait_is_told_so() {
        let mut parked = ParkedItems::default();
        assert!(matches!(views(&mut parked, "p", 0), Parked::First));
        assert!(matches!(views(&mut parked, "p", 2), Parked::More));
        assert!(matches!(views(&mut parked, "q", 1), Parked::First));
        assert_eq!((parked.take(&post("p"), Depth::View).len(), parked.take(&post("p"), Depth::View).len()), (2, 0));
        assert!(matches!(views(&mut parked, "p", 1), Parked::First));
    }

    #[test]
    fn a_view_does_not_wait_for_what_a_reader_has_asked_for() {
        let mut parked = ParkedItems::default();
        assert!(matches!(reads(&mut parked, "p", 1), Parked::First));
        assert!(matches!(views(&mut parked, "p", 1), Parked::First));
        assert!(matches!(reads(&mut parked, "p", 1), Parked::More), "but a reader for what a view asks for");
        assert_eq!((parked.take(&post("p"), Depth::Read).len(), parked.take(&post("p"), Depth::View).len()), (1, 2));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut parked = ParkedItems::default();
        for _ in 0..10 {
            assert!(matches!(views(&mut parked, "p", MAX_VIEWS / 10), Parked::First | Parked::More));
        }
        assert!(matches!(views(&mut parked, "p", 1), Parked::NoRoom(items) if items.len() == 1));
        assert!(matches!(views(&mut parked, "q", 1), Parked::NoRoom(_)));
        assert_eq!(parked.read_room(), MAX_READS);
        assert!(matches!(reads(&mut parked, "q", MAX_READS), Parked::First), "reads have room of their own");
        assert_eq!(parked.read_room(), 0);
        assert!(matches!(reads(&mut parked, "q", MAX_READS), Parked::More));
        assert!(matches!(reads(&mut parked, "r", 1), Parked::NoRoom(_)));
        parked.take(&post("p"), Depth::View);
        assert!(matches!(views(&mut parked, "q", 1), Parked::First));
    }

    #[test]
    fn readers_who_wait_for_what_a_view_has_asked_for_take_no_room_of_views() {
        let mut parked = ParkedItems::default();
        views(&mut parked, "p", 1);
        for _ in 0..2 {
            assert!(matches!(reads(&mut parked, "p", MAX_READS), Parked::More));
        }
        assert_eq!(parked.read_room(), 0);
        assert!(matches!(reads(&mut parked, "p", 1), Parked::NoRoom(_)));
        assert!(matches!(views(&mut parked, "q", MAX_VIEWS - 1), Parked::First));
        parked.take(&post("p"), Depth::View);
        assert_eq!(parked.read_room(), MAX_READS);
    }
}
