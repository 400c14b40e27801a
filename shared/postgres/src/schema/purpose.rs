//! What the tables are loaded for, which decides what has to be there.

/// What the tables are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To store views: the ledger is there, and the role may read and write what it has to.
    Work,
    /// To set counts to what they are to be: the same, and the table of bases is there and may be read.
    Recount,
    /// To erase viewers: the same, and rows of the ledger may be removed, and bases written.
    Forget,
    /// To create what stands beside the posts. What is there already is what it has to be, and the role needs no right
    /// on it.
    Migrate {
        /// Whether a column of counts is added to the posts table where it is missing.
        adds_count: bool,
    },
}

impl Purpose {
    /// Returns whether views are stored, and what stands beside the posts has to be there.
    pub(super) fn is_work(self) -> bool {
        !matches!(self, Self::Migrate { .. })
    }

    /// Returns whether the table of bases has to be there.
    pub(super) fn needs_bases(self) -> bool {
        matches!(self, Self::Recount | Self::Forget)
    }

    /// Returns whether a column of counts may be missing, and is added then.
    pub(super) fn adds_count(self) -> bool {
        matches!(self, Self::Migrate { adds_count: true })
    }
}
