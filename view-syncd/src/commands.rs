//! What is done once.

pub mod migrate;
pub mod sync;
