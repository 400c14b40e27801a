//! A key that tokens are checked with, and what a source of keys gives.

use jsonwebtoken::{Algorithm, DecodingKey};

/// A key, with the algorithms of the tokens that it verifies.
pub(super) struct Key {
    pub(super) key: DecodingKey,
    pub(super) algorithms: Vec<Algorithm>,
    /// By which a token's header names it (`kid`).
    pub(super) id: Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// Keys, and what an operator should know about them.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) keys: Vec<Key>,
    pub(super) warnings: Vec<String>,
}
