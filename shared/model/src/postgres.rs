//! PostgreSQL: the ledger and the count of one post.

use crate::{
    setup::Variant,
    viewers::{VIEWERS, Viewers},
};

/// What PostgreSQL holds. What is committed stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Postgres {
    /// The viewers in the ledger.
    pub ledger: Viewers,
    /// How often each viewer has been added to the post's count. The code knows only the sum.
    pub counted: [i8; VIEWERS],
}

/// What a look-up for a first touch gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Known {
    /// The post's count.
    pub count: i8,
    /// The post's viewers.
    pub viewers: Viewers,
}

impl Postgres {
    /// The post's count.
    #[must_use]
    pub fn count(&self) -> i8 {
        self.counted.iter().sum()
    }

    /// The look-up of a first touch.
    #[must_use]
    pub fn look_up(&self) -> Known {
        Known { count: self.count(), viewers: self.ledger }
    }

    /// The drain's statement: adds pairs that are new to the ledger, and their number to the count. Gives that number.
    pub fn store(&mut self, pairs: Viewers, variant: Variant) -> i8 {
        let before = self.count();
        for viewer in pairs.each() {
            if self.ledger.add(viewer) || variant == Variant::CountsRepeats {
                self.counted[viewer] += 1;
            }
        }
        self.count() - before
    }
}
