//! What all parts are given, and what they share. It imports none of them.

use std::time::Duration;

use testkit::postgres::PostgresServer;

use crate::{
    population::Population,
    servers::{Kind, Programs, Server},
};

/// Posts and viewers of the parts that do not say otherwise. So many viewers that no server lives off tokens that it
/// has just seen.
pub(super) const POSTS: usize = 10_000;
pub(super) const VIEWERS: usize = 20_000;

/// What all parts are given.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) programs: Programs,
    /// The servers of the comparison.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) rounds: usize,
    /// How long one measurement takes.
    pub(crate) seconds: u64,
    /// Whether it is only to be seen that everything works.
    pub(crate) quick: bool,
}

impl Setting {
    /// Returns one size for a real run, and a small one to see that it works.
    pub(super) fn scale<T>(&self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }

    /// Returns how long one measurement takes.
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// view-ingest alone, on stores of its own.
    pub(super) async fn ingest(&self, postgres: &PostgresServer, population: &Population) -> anyhow::Result<Server> {
        Server::start(Kind::ViewIngest, &self.programs, postgres, population).await
    }
}

/// Prints what is being done.
pub(super) fn say(text: impl std::fmt::Display) {
    println!("    {text}");
}
