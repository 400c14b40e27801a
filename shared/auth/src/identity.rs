//! Whom a request speaks for, or why it is not let in.

use views_core::ids::ViewerId;

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization: Bearer …` header.
    #[error("no bearer token")]
    Missing,
    /// The token was true once.
    #[error("the token has expired")]
    Expired,
    /// The token is not one of ours, or says too little.
    #[error("the token is not valid")]
    Invalid,
    /// Its key may be among those that are being fetched: [`Verifier::identify_later`](crate::Verifier::identify_later) waits for them.
    #[error("the keys are being fetched")]
    Pending,
    /// Whether the token is valid cannot be told now.
    #[error("there is no key to check the token with")]
    Unavailable,
}

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The viewer.
    pub viewer: ViewerId,
    /// Whether they are an administrator.
    pub admin: bool,
}
