//! The arguments of `view-syncd migrate`.

use clap::Args;

/// What is to be created beside the ledger.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Options {
    /// Add the column of counts to the posts table where it is missing: a bigint of 0, without a rewrite of the table
    #[arg(long)]
    pub(crate) add_count_column: bool,
    /// Make an index by which a viewer's views are found, for his history and his erasure, beside whoever uses the ledger
    #[arg(long)]
    pub(crate) viewer_index: bool,
}
