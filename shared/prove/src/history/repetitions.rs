//! Views that are asked for twice at the same time.

use std::collections::{HashMap, hash_map::Entry};

use crate::verify::Pair;

/// The views that are asked for, and how often that is so several times at once.
#[derive(Default)]
pub(crate) struct Repetitions {
    /// How many requests for a view are under way, and how many of them began while another one was.
    under_way: HashMap<Pair, (i64, i64)>,
    /// Of each post: how many requests began while another one for the same view was under way, and of how many that is over.
    of_posts: HashMap<String, (i64, i64)>,
}

impl Repetitions {
    /// Notes that a view is about to be asked for.
    pub(crate) fn begins(&mut self, pair: Pair) {
        match self.under_way.entry(pair) {
            Entry::Vacant(entry) => _ = entry.insert((1, 0)),
            Entry::Occupied(mut entry) => {
                self.of_posts.entry(entry.key().0.clone()).or_default().0 += 1;
                let (requests, repeated) = entry.get_mut();
                *requests += 1;
                *repeated += 1;
            }
        }
    }

    /// Notes that one request for a view has ended. Which of several was late, and takes its increment back, is not known: so all of them are over
    /// when the last one is.
    pub(crate) fn ends(&mut self, pair: Pair) {
        let Entry::Occupied(mut entry) = self.under_way.entry(pair) else { return };
        entry.get_mut().0 -= 1;
        let (requests, repeated) = *entry.get();
        if requests == 0 {
            let (post, _) = entry.remove_entry().0;
            if repeated > 0 {
                self.of_posts.entry(post).or_default().1 += repeated;
            }
        }
    }

    /// Returns how many repetitions of a post's views have begun and how many are over.
    pub(crate) fn of(&self, post: &str) -> (i64, i64) {
        self.of_posts.get(post).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Either of two view-ingests may be the one that was late, and until it has answered, both views count.
    #[test]
    fn a_repetition_lasts_until_the_last_of_its_requests_has_ended() {
        let pair = || ("post".to_owned(), "viewer".to_owned());
        let mut repetitions = Repetitions::default();
        repetitions.begins(pair());
        assert_eq!(repetitions.of("post"), (0, 0));
        repetitions.begins(pair());
        repetitions.begins(pair());
        assert_eq!(repetitions.of("post"), (2, 0));
        repetitions.ends(pair());
        repetitions.ends(pair());
        assert_eq!(repetitions.of("post"), (2, 0));
        repetitions.ends(pair());
        assert_eq!(repetitions.of("post"), (2, 2));
        repetitions.begins(pair());
        repetitions.ends(pair());
        assert_eq!(repetitions.of("post"), (2, 2));
        assert_eq!(repetitions.of("another"), (0, 0));
    }
}
