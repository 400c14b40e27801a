//! What is done once.

pub mod dead;
pub mod migrate;
pub mod sync;
