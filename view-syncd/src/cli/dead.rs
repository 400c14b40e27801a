//! The arguments of `view-syncd dead`.

use clap::{Args, Subcommand};

use crate::entry_id::EntryId;

/// What is to be done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Show them: id, time of the view, post, viewer, reason. Exits 1 where there are any
    List(Filter),
    /// Offer them to PostgreSQL again, with the time of the view, and remove those that it takes. Exits 1 where any are left
    Retry(Filter),
    /// Remove them for good: these views count nowhere
    Drop(Filter),
}

/// Which of them.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Their ids, as `list` shows them [default: all]
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<EntryId>,
    /// Only those of this post
    #[arg(long, value_name = "ID")]
    pub(crate) post: Option<String>,
    /// Only those whose reason has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Tell everything in JSON
    #[arg(long)]
    pub(crate) json: bool,
}
