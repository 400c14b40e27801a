//! What a batch consists of: its items, grouped by post. All views and reads of one post go through the stages together.
//!
//! Each stage consumes what the stage before has made: a [`Group`] becomes `Checked`, and that `Written`. The groups
//! themselves stay where they are: an id is kept inline, so that moving a batch along would cost more than checking it.

use smallvec::SmallVec;
use views_core::ids::{PostId, ViewerId};
use views_redis::scripts::Depth;

/// One post of one request: so small that it may be moved about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// The request.
    pub(super) request: usize,
    /// The post's place in the request.
    pub(super) place: usize,
    /// The last look-up of the post for this item, if any.
    pub(super) lookup: Option<Lookup>,
}

/// Items of one post, most often a single one.
pub(super) type Items = SmallVec<[Item; 1]>;

/// A look-up of a post in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookup {
    /// What was looked up: what a read needs is not enough for a view.
    pub(super) depth: Depth,
    pub(super) result: LookupResult,
}

/// What came of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookupResult {
    /// The item is taken even if Redis knows nothing of the post.
    Done,
    /// PostgreSQL could not be asked: the item is taken without knowing whether the post exists.
    Unavailable,
    /// Redis did not take what PostgreSQL knows: what Redis says of the post cannot be used.
    Refused,
}

/// Whether the set of a post has a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    /// It has not, as far as is known.
    New,
    /// It has.
    Member,
    /// The post is this viewer's own.
    Author,
}

/// Somebody who views a post.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer {
    pub(super) id: ViewerId,
    pub(super) membership: Membership,
}

/// All of a batch that concerns one post.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) post: PostId,
    pub(super) items: Items,
    /// The viewers among the items, each once, in order.
    pub(super) viewers: SmallVec<[Viewer; 1]>,
}

impl Group {
    /// Returns what the items need of PostgreSQL.
    pub(super) fn depth(&self) -> Depth {
        if self.viewers.is_empty() { Depth::Read } else { Depth::View }
    }
}
