//! What is done once.

pub mod claim;
pub mod dead;
pub mod migrate;
pub mod sync;

use std::time::Duration;

/// Stores that are away for longer than this are somebody else's to bring back.
const PATIENCE: Duration = Duration::from_secs(10);
