//! PostgreSQL: the ledger and the count of one post.

use crate::{
    variant::Variant,
    viewers::{VIEWERS, Viewer, Viewers},
};

/// What PostgreSQL holds. What is committed stays, unless the application takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Postgres {
    /// The post's row.
    pub row: Row,
    /// The viewers in the ledger.
    pub ledger: Viewers,
    /// How often each viewer has been added to the post's count. The code knows only the sum.
    pub counted: [i8; VIEWERS],
    /// The base: what was counted of viewers who have been erased.
    pub base: i8,
    /// The viewers that were in the ledger when the application deleted the post, or set it back, or that were erased.
    pub erased: Viewers,
}

/// A post's row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Row {
    /// It is there.
    #[default]
    Seen,
    /// It is there, but a policy hides it. Sessions with `row_security=off` get an error.
    Hidden,
    /// It is not there.
    Deleted,
}

/// What a look-up for a first touch gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Known {
    /// The post's count.
    pub count: i8,
    /// The post's viewers.
    pub viewers: Viewers,
}

/// What PostgreSQL says when it is asked for a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Post(Known),
    /// There is no such post.
    NoPost,
    /// An error.
    Error,
}

impl Postgres {
    /// Returns the post's count.
    #[must_use]
    pub fn count(&self) -> i8 {
        self.base + self.counted.iter().sum::<i8>()
    }

    /// Looks the post up.
    #[must_use]
    pub fn look_up(&self, variant: Variant) -> Answer {
        match self.row {
            Row::Seen => Answer::Post(Known { count: self.count(), viewers: self.ledger }),
            Row::Hidden if variant == Variant::UnseenIsDeleted => Answer::NoPost,
            Row::Hidden => Answer::Error,
            Row::Deleted => Answer::NoPost,
        }
    }

    /// Returns the statement of the drain and of views past Redis: adds pairs that are new to the ledger, and their
    /// number to the count.
    pub fn store(&mut self, pairs: Viewers, variant: Variant) -> Answer {
        let answer = self.look_up(variant);
        if let Answer::Post(_) = answer {
            for viewer in pairs.each() {
                if self.ledger.add(viewer) || variant == Variant::CountsRepeats {
                    self.counted[viewer] += 1;
                }
            }
            return self.look_up(variant);
        }
        answer
    }

    /// The statement of an erasure: moves a viewer's row into the base.
    pub fn move_into_base(&mut self, viewer: Viewer) {
        if self.ledger.has(viewer) {
            self.ledger.remove(viewer);
            self.counted[viewer] -= 1;
            self.base += 1;
        }
    }

    /// The application takes the post's viewers and its count away, and perhaps the row.
    pub fn erase(&mut self, row: Row) {
        self.erased.add_all(self.ledger);
        self.ledger = Viewers::default();
        (self.counted, self.base) = ([0; VIEWERS], 0);
        self.row = row;
    }
}
