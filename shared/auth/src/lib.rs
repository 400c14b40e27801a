//! Who is asking: bearer tokens (JWT, RFC 7519) of any issuer, checked against keys of which each one's kind decides the
//! algorithm.

mod algorithms;
mod claims;
pub mod config;
mod der;
mod endpoint;
mod identity;
mod key;
mod key_error;
mod key_set;
mod keys;
mod paths;
mod pem;
mod refresh;
mod refusals;
mod reload;
mod renewal;
mod rules;
mod secret;
mod source;
mod token_cache;
mod verifier;

pub use self::{
    algorithms::Algorithms,
    endpoint::Endpoint,
    identity::{AuthError, Identity},
    key_error::{KeyError, Weakness},
    key_set::{KeyFault, KeySetError},
    paths::{Administrators, ClaimPath},
    pem::{BlockError, PemError},
    refusals::Reason,
    rules::{KeyRules, TokenRules},
    source::KeySource,
    verifier::{Verifier, bearer},
};
