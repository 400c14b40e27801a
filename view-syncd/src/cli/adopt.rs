//! The arguments of `view-syncd adopt`.

use clap::{ArgGroup, Args, ValueEnum};
use views_postgres::adopt::{Counting, Source, SourceError};

/// What is to be adopted, and how.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("source").required(true)))]
pub struct AdoptArgs {
    /// The column of the posts table with an array of viewers: text[], uuid[], integers, or jsonb
    #[arg(long, value_name = "COLUMN", group = "source", value_parser = array)]
    from_array: Option<Source>,
    /// The table with a row for each view, and its columns of posts, viewers and, if there is one, the time
    #[arg(long, value_name = "NAME(post,viewer[,time])", group = "source", value_parser = table)]
    from_table: Option<Source>,
    /// `keep`: a count stays what it is as long as it is at least what the ledger explains. `ledger`: it is what the ledger explains
    #[arg(long, value_name = "keep|ledger", value_enum, default_value_t = CountArg::Keep, hide_possible_values = true)]
    count: CountArg,
    /// Tell the same numbers, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Tell everything in JSON
    #[arg(long)]
    json: bool,
}

/// What counts are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CountArg {
    Keep,
    Ledger,
}

/// What is to be adopted, and how.
#[derive(Debug, Clone)]
pub struct AdoptSettings {
    /// Where the views are.
    pub source: Source,
    /// What counts are to be.
    pub counting: Counting,
    /// Whether nothing is changed.
    pub is_dry: bool,
    /// Whether the result is told in JSON.
    pub json: bool,
}

impl AdoptArgs {
    /// Returns the settings; none without a source, which clap demands.
    pub(super) fn resolve(&self) -> Option<AdoptSettings> {
        let source = self.from_array.clone().or_else(|| self.from_table.clone())?;
        let counting = match self.count {
            CountArg::Keep => Counting::Keep,
            CountArg::Ledger => Counting::Ledger,
        };
        Some(AdoptSettings { source, counting, is_dry: self.dry_run, json: self.json })
    }
}

fn array(text: &str) -> Result<Source, SourceError> {
    Source::parse_array(text)
}

fn table(text: &str) -> Result<Source, SourceError> {
    Source::parse_table(text)
}
