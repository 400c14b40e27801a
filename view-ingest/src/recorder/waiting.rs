//! Who waits for a post to be looked up, as long as PostgreSQL takes for that: bounded, for clients come faster than it gives up.

use std::collections::HashMap;

use shared::ids::PostId;

use super::batch::Items;

/// How many views and reads may wait at most, per recorder: some 50 MB where each is for another post.
const MAX_ITEMS: usize = 100_000;

/// The items of posts that are being looked up.
#[derive(Default)]
pub(super) struct Waiting {
    posts: HashMap<PostId, Items>,
    items: usize,
}

/// What became of items that were to wait.
#[derive(Debug)]
pub(super) enum Added {
    /// They wait, and nobody has waited for the post before.
    First,
    /// They wait, too.
    More,
    /// There are too many already. None of these waits.
    NoRoom(Items),
}

impl Waiting {
    /// Has items wait for their post.
    pub(super) fn add(&mut self, post: PostId, items: Items) -> Added {
        if self.items + items.len() > MAX_ITEMS {
            return Added::NoRoom(items);
        }
        self.items += items.len();
        match self.posts.get_mut(&post) {
            Some(waiting) => {
                waiting.extend(items);
                Added::More
            }
            None => {
                self.posts.insert(post, items);
                Added::First
            }
        }
    }

    /// Those who have waited for a post.
    pub(super) fn take(&mut self, post: &PostId) -> Items {
        let items = self.posts.remove(post).unwrap_or_default();
        self.items -= items.len();
        items
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::{
        super::batch::{Item, Touch},
        *,
    };

    fn post(id: &str) -> PostId {
        PostId::parse(id).unwrap()
    }

    fn items(number: usize) -> Items {
        smallvec![Item { ticket: 0, place: 0, touch: Touch::None }; number]
    }

    #[test]
    fn the_first_to_wait_is_told_so() {
        let mut waiting = Waiting::default();
        assert!(matches!(waiting.add(post("p"), Items::new()), Added::First));
        assert!(matches!(waiting.add(post("p"), items(2)), Added::More));
        assert!(matches!(waiting.add(post("q"), items(1)), Added::First));
        assert_eq!((waiting.take(&post("p")).len(), waiting.take(&post("p")).len()), (2, 0));
        assert!(matches!(waiting.add(post("p"), items(1)), Added::First));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let mut waiting = Waiting::default();
        for _ in 0..10 {
            assert!(matches!(waiting.add(post("p"), items(MAX_ITEMS / 10)), Added::First | Added::More));
        }
        assert!(matches!(waiting.add(post("p"), items(1)), Added::NoRoom(items) if items.len() == 1));
        assert!(matches!(waiting.add(post("q"), items(1)), Added::NoRoom(_)));
        waiting.take(&post("p"));
        assert!(matches!(waiting.add(post("q"), items(1)), Added::First));
    }
}
