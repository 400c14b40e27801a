//! What is demanded of tokens, and of the keys that they are checked with.

use std::time::Duration;

use super::{
    algorithms::Algorithms,
    paths::{Administrators, ClaimPath},
};

/// What a token must say beside a true signature and `exp`, and where it says it.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    /// The `iss` that is demanded, if any.
    pub issuer: Option<String>,
    /// The `aud` that is demanded, if any.
    pub audience: Option<String>,
    /// By how much `exp` and `nbf` may be missed.
    pub leeway: Duration,
    /// Where the viewer stands.
    pub viewer_claim: ClaimPath,
    /// Who is an administrator.
    pub administrators: Administrators,
    /// What the keys may be.
    pub keys: KeyRules,
}

/// What keys may be, and what they verify.
#[derive(Debug, Clone, Default)]
pub struct KeyRules {
    /// Whether a secret will do that can be guessed for its length.
    pub allow_weak_secret: bool,
    /// Whether the secret is given in base64.
    pub base64_secret: bool,
    /// The algorithms that are accepted beside the usual ones.
    pub algorithms: Algorithms,
}
