//! Pairs on their way to PostgreSQL, kept small: each post once, the viewers' ids one behind the other, and some twenty
//! bytes for a pair. So a batch can be as large as PostgreSQL likes it, and the process stays small.

use std::{collections::HashSet, ops::Range};

use indexmap::IndexSet;
use views_core::ids::{PostId, ViewerId};
use views_postgres::{insert::PairList, ledger::Sent, schema::Schema};

use super::dead_letter::{DeadLetter, NO_SUCH_POST};

/// Why a viewer is dead whose id is one, but not one of this application's. The column may be given another type.
const VIEWER_DOES_NOT_FIT: &str = "the viewer's id does not fit the column's type";

/// Pairs, in the order of their arrival or, once they have been prepared, sorted.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    posts: IndexSet<PostId>,
    viewers: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    at_ms: i64,
    /// The post's place.
    post: u32,
    /// Where the viewer's id begins.
    viewer: u32,
    /// How long it is.
    length: u32,
}

impl Row {
    fn viewer(self, viewers: &str) -> &str {
        let start = self.viewer as usize;
        &viewers[start..start + self.length as usize]
    }
}

impl Pairs {
    /// Returns no pairs, with room for as many as these, so that nothing grows step by step to twice what is needed.
    pub(crate) fn like(other: &Self) -> Self {
        Self {
            posts: IndexSet::with_capacity(other.posts.len()),
            viewers: String::with_capacity(other.viewers.len()),
            rows: Vec::with_capacity(other.rows.len()),
        }
    }

    /// Returns a post's place among the posts, by which its pairs refer to it.
    pub(crate) fn place(&mut self, post: PostId) -> u32 {
        index(self.posts.insert_full(post).0)
    }

    /// Adds a pair. Returns the post's place.
    pub(crate) fn add(&mut self, post: PostId, viewer: &ViewerId, at_ms: i64) -> u32 {
        let place = self.place(post);
        let (start, length) = (index(self.viewers.len()), index(viewer.as_str().len()));
        self.viewers.push_str(viewer.as_str());
        self.rows.push(Row { at_ms, post: place, viewer: start, length });
        place
    }

    /// Returns whether every id fits its column's type.
    pub(crate) fn fits(&self, schema: &Schema) -> bool {
        self.posts.iter().all(|post| schema.accepts_post(post))
            && self.rows.iter().all(|row| schema.viewer_type.accepts(row.viewer(&self.viewers)))
    }

    /// Sorts the pairs by post and viewer and keeps the earliest of each. What can never be stored is taken out and
    /// returned with the places of the posts: a post whose id does not fit the column does not exist, and a viewer
    /// whose id does not fit is no viewer.
    pub(crate) fn prepare(&mut self, schema: &Schema) -> Vec<(u32, DeadLetter)> {
        let Self { posts, viewers, rows } = self;
        let fits: Vec<bool> = posts.iter().map(|post| schema.accepts_post(post)).collect();
        let mut dead = Vec::new();
        rows.retain(|row| {
            let viewer = row.viewer(viewers);
            let post = &posts[row.post as usize];
            let dead_letter = if !fits[row.post as usize] {
                DeadLetter::new(post.as_str().as_bytes(), viewer.as_bytes(), NO_SUCH_POST, row.at_ms)
            } else if !schema.viewer_type.accepts(viewer) {
                DeadLetter::new(post.as_str().as_bytes(), viewer.as_bytes(), VIEWER_DOES_NOT_FIT, row.at_ms).retryable()
            } else {
                return true;
            };
            dead.push((row.post, dead_letter));
            false
        });
        // Posts are compared once each, and their pairs by what came out.
        let mut sorted: Vec<u32> = (0..index(posts.len())).collect();
        sorted.sort_unstable_by_key(|place| posts[*place as usize]);
        let mut ranks = vec![0_u32; posts.len()];
        for (rank, place) in sorted.into_iter().enumerate() {
            ranks[place as usize] = index(rank);
        }
        rows.sort_unstable_by(|one, other| {
            let by_post = ranks[one.post as usize].cmp(&ranks[other.post as usize]);
            by_post.then_with(|| one.viewer(viewers).cmp(other.viewer(viewers))).then_with(|| one.at_ms.cmp(&other.at_ms))
        });
        rows.dedup_by(|later, earlier| later.post == earlier.post && later.viewer(viewers) == earlier.viewer(viewers));
        dead
    }

    /// Removes the pairs of some posts, which are given by their places.
    pub(crate) fn leave_out(&mut self, places: &HashSet<u32>) {
        if !places.is_empty() {
            self.rows.retain(|row| !places.contains(&row.post));
        }
    }

    /// Returns the end of the pairs that, from a place on, are of the same post.
    pub(crate) fn end_of_post(&self, place: usize) -> usize {
        let Some(first) = self.rows.get(place) else { return self.rows.len() };
        place + self.rows[place..].iter().take_while(|row| row.post == first.post).count()
    }

    /// Returns a dead letter of the pair at a place, and the place of its post.
    pub(crate) fn dead_letter(&self, place: usize, reason: impl Into<std::borrow::Cow<'static, str>>) -> (u32, DeadLetter) {
        let row = self.rows[place];
        let post = self.posts[row.post as usize].as_str().as_bytes();
        (row.post, DeadLetter::new(post, row.viewer(&self.viewers).as_bytes(), reason, row.at_ms))
    }

    /// Returns the viewers of a post.
    pub(crate) fn viewers_of(&self, post: &PostId) -> HashSet<ViewerId> {
        let place = self.posts.get_index_of(post).map(index);
        let rows = self.rows.iter().filter(|row| Some(row.post) == place);
        rows.filter_map(|row| ViewerId::parse(row.viewer(&self.viewers)).ok()).collect()
    }

    /// Returns how many pairs a viewer has.
    pub(crate) fn pairs_of(&self, viewer: &ViewerId) -> usize {
        self.rows.iter().filter(|row| row.viewer(&self.viewers) == viewer.as_str()).count()
    }

    /// Returns the ids of the pair at a place.
    pub(crate) fn ids(&self, place: usize) -> Option<(PostId, ViewerId)> {
        let row = self.rows.get(place)?;
        Some((self.posts[row.post as usize], ViewerId::parse(row.viewer(&self.viewers)).ok()?))
    }

    /// Returns dead letters of all pairs of some posts.
    pub(crate) fn dead_letters_of(&self, posts: &HashSet<PostId>, reason: &'static str) -> Vec<(u32, DeadLetter)> {
        if posts.is_empty() {
            return Vec::new();
        }
        let is_of = |row: &Row| posts.contains(&self.posts[row.post as usize]);
        (0..self.rows.len()).filter(|place| is_of(&self.rows[*place])).map(|place| self.dead_letter(place, reason)).collect()
    }

    /// Returns the posts in the order of their places.
    pub(crate) fn posts(&self) -> &IndexSet<PostId> {
        &self.posts
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Sent<'_>> {
        self.range(0..self.rows.len())
    }
}

impl PairList for Pairs {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn range(&self, range: Range<usize>) -> impl Iterator<Item = Sent<'_>> + Clone + Send {
        self.rows[range].iter().map(|row| (self.posts[row.post as usize].as_str(), row.viewer(&self.viewers), row.at_ms))
    }
}

/// A batch is a few hundred thousand pairs at the very most.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
