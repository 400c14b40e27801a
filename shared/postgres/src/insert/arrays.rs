//! Pairs as the statement takes them: posts by their places in a list, so that each id travels once.

use std::{borrow::Cow, collections::HashSet};

use tokio_postgres::types::ToSql;
use views_core::ids::PostId;

use crate::{
    DatabaseError,
    pair::Sent,
    schema::Schema,
    spelling::{SentIds, Spelling},
};

/// The statement's parameters.
pub(super) struct Arrays<'a> {
    /// The posts by their places.
    pub(super) posts: Vec<PostId>,
    pair_places: Vec<i32>,
    viewers: SentIds<'a>,
    times: Vec<i64>,
    places: Vec<i32>,
    ids: SentIds<'a>,
    numbers: Vec<i64>,
}

impl<'a> Arrays<'a> {
    /// Takes the pairs, or those of certain posts only, with the posts' ids in a spelling.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] for an id that is none for the column, which may be another one since the ids were
    /// found acceptable.
    pub(super) fn new(
        schema: &Schema,
        pairs: impl Iterator<Item = Sent<'a>> + Clone,
        spelling: Spelling,
        only: Option<&HashSet<PostId>>,
    ) -> Result<Self, DatabaseError> {
        let (mut posts, mut spelled) = (Vec::new(), Vec::new());
        let (mut pair_places, mut numbers, mut times) = (Vec::new(), Vec::<i64>::new(), Vec::new());
        let mut viewers = Vec::new();
        let (mut last, mut is_wanted) = ("", false);
        for (post, viewer, at_ms) in pairs {
            // The pairs of a post follow one another.
            if post != last {
                last = post;
                let Ok(id) = PostId::parse(post) else { continue };
                is_wanted = only.is_none_or(|only| only.contains(&id));
                if is_wanted {
                    posts.push(id);
                    spelled.push(spelling.of(post));
                    numbers.push(0);
                }
            }
            if is_wanted && let Some(number) = numbers.last_mut() {
                *number += 1;
                pair_places.push(index(posts.len() - 1));
                viewers.push(Cow::Borrowed(viewer));
                times.push(at_ms);
            }
        }
        let places = (0..index(posts.len())).collect();
        let viewers = SentIds::new(schema.viewer_type, viewers)?;
        let ids = SentIds::new(schema.post_type, spelled)?;
        Ok(Self { posts, pair_places, viewers, times, places, ids, numbers })
    }

    /// Returns the parameters, in their order.
    pub(super) fn params<'b>(&'b self, names_new: &'b bool) -> [&'b (dyn ToSql + Sync); 7] {
        [&self.pair_places, self.viewers.param(), &self.times, &self.places, self.ids.param(), &self.numbers, names_new]
    }
}

/// A statement has a few hundred thousand pairs at the very most.
fn index(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
