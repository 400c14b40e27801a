//! Who is asking: bearer tokens (JWT, RFC 7519), checked against keys of which each one's kind decides the algorithm.

pub mod config;
mod der;
mod pem;
mod refusals;
mod reload;
mod secret;
mod source;
mod token_cache;

use std::time::Duration;

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;
use views_core::{files::Reading, ids::ViewerId};

pub use self::{
    pem::{BlockError, PemError},
    refusals::Reason,
    secret::Weakness,
    source::{KeyError, KeySource},
};
use self::{refusals::Refusals, reload::Reloads, source::Loaded, token_cache::TokenCache};

/// The role of those who may ask for a sync.
pub const ADMIN: &str = "ADMIN";

/// What a token must say beside a true signature, `exp` and `sub`.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    /// The `iss` that is demanded, if any.
    pub issuer: Option<String>,
    /// The `aud` that is demanded, if any.
    pub audience: Option<String>,
    /// By how much `exp` and `nbf` may be missed.
    pub leeway: Duration,
    /// Whether a secret will do that can be guessed for its length.
    pub allow_weak_secret: bool,
}

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
}

/// Whom a token speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The viewer (`sub`).
    pub viewer: ViewerId,
    /// Whether the claim `role` is `ADMIN`.
    pub admin: bool,
}

/// Checks tokens, and takes new keys when told to reload.
#[derive(Debug)]
pub struct Verifier {
    source: KeySource,
    rules: TokenRules,
    current: ArcSwap<Keys>,
    token_cache: TokenCache,
    refusals: Refusals,
    warnings: Vec<String>,
    reloads: Reloads,
}

/// The keys in use. A token is tried with those whose algorithm its header names, one after the other.
struct Keys(Vec<Key>);

struct Key {
    key: DecodingKey,
    /// With the algorithms of this key: its kind binds them.
    validation: Validation,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.validation.algorithms)).finish()
    }
}

/// What decides which keys are tried. The library does not look at `crit`, and would not see one that is null.
#[derive(Deserialize)]
struct Header {
    alg: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// Says that a field is there, whatever its value.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// Anything may stand in them until the library has looked at them.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: Value,
    /// Seconds since 1970, perhaps with a fraction.
    #[serde(default)]
    exp: Value,
    #[serde(default)]
    role: Value,
}

impl Verifier {
    /// Loads the keys.
    ///
    /// # Errors
    /// [`KeyError`] when the source has no key, or one that cannot be used.
    pub fn new(source: KeySource, rules: TokenRules) -> Result<Self, KeyError> {
        let (keys, warnings) = Keys::load(&source, &rules, Reading::First)?;
        let (token_cache, refusals, reloads) = (TokenCache::default(), Refusals::default(), Reloads::new(&warnings));
        Ok(Self { source, rules, current: ArcSwap::from_pointee(keys), token_cache, refusals, warnings, reloads })
    }

    /// What an operator should know about the keys that were loaded at first.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Adds the numbers of refused tokens to a binary's own.
    pub fn register(&self, registry: &mut Registry) {
        self.refusals.register(registry);
    }

    /// Checks the value of an `Authorization` header.
    ///
    /// # Errors
    /// [`AuthError`] when there is no header, another scheme, or a token that does not hold.
    pub fn identify(&self, authorization: Option<&[u8]>) -> Result<Identity, AuthError> {
        self.identify_token(authorization.and_then(bearer))
    }

    /// Checks a token, wherever it was found.
    ///
    /// # Errors
    /// [`AuthError`] when there is none, or it does not hold.
    pub fn identify_token(&self, token: Option<&[u8]>) -> Result<Identity, AuthError> {
        let Some(token) = token else { return Err(self.refuse(Reason::Missing)) };
        if let Some(identity) = self.token_cache.get(token) {
            return Ok(identity);
        }
        // The number is taken before the keys, so that a token that an old key let in is never kept behind new ones.
        let number = self.token_cache.keys();
        let keys = self.current.load();
        let (identity, exp) = keys.check(token).map_err(|reason| self.refuse(reason))?;
        self.token_cache.keep(token, identity, exp, number);
        Ok(identity)
    }

    /// Notes that a token is refused, and gives what the client may know of it.
    pub fn refuse(&self, reason: Reason) -> AuthError {
        self.refusals.note(reason);
        reason.error()
    }
}

/// Returns the token behind the scheme `Bearer`, which is written in any case (RFC 9110, section 11.1).
#[must_use]
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}

impl Keys {
    /// Returns the keys of a source, and what an operator should know about them.
    fn load(source: &KeySource, rules: &TokenRules, reading: Reading) -> Result<(Self, Vec<String>), KeyError> {
        let Loaded { keys, warnings } = source.load(rules.allow_weak_secret, reading)?;
        let keys = keys.into_iter().map(|(key, algorithms)| Key { key, validation: rules.validation(algorithms) }).collect();
        Ok((Self(keys), warnings))
    }

    /// Returns whom a token speaks for, and until when.
    fn check(&self, token: &[u8]) -> Result<(Identity, f64), Reason> {
        let header = header(token).ok_or(Reason::Malformed)?;
        if header.crit {
            return Err(Reason::Crit);
        }
        let algorithm = header.alg.and_then(|name| name.parse().ok()).ok_or(Reason::Algorithm)?;
        let mut refusal = Reason::Algorithm;
        for Key { key, validation } in self.0.iter().filter(|key| key.validation.algorithms.contains(&algorithm)) {
            match jsonwebtoken::decode::<Claims>(token, key, validation) {
                Ok(token) => return token.claims.read(),
                // The signature holds, but the library stumbles over a list where it looks for a word or a number.
                Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => return Err(unreadable(token)),
                Err(error) => refusal = Reason::of(error.kind()),
            }
            if refusal != Reason::Signature {
                break;
            }
        }
        Err(refusal)
    }
}

impl Claims {
    fn read(&self) -> Result<(Identity, f64), Reason> {
        let viewer = match &self.sub {
            Value::Null => return Err(Reason::NoViewer),
            Value::String(viewer) => ViewerId::parse(viewer).map_err(|_| Reason::BadViewer)?,
            _ => return Err(Reason::BadViewer),
        };
        let exp = self.exp.as_f64().ok_or(Reason::NoExpiry)?;
        Ok((Identity { viewer, admin: self.role == ADMIN }, exp))
    }
}

fn header(token: &[u8]) -> Option<Header> {
    let encoded = token.split(|byte| *byte == b'.').next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// Why claims are refused that the library cannot read.
fn unreadable(token: &[u8]) -> Reason {
    let payload = token.split(|byte| *byte == b'.').nth(1).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    let Some(Ok(claims)) = payload.map(|payload| serde_json::from_slice::<Claims>(&payload)) else { return Reason::Malformed };
    let is_nested = |value: &Value| value.is_array() || value.is_object();
    match claims {
        Claims { exp, .. } if is_nested(&exp) => Reason::NoExpiry,
        Claims { sub, .. } if is_nested(&sub) => Reason::BadViewer,
        _ => Reason::Malformed,
    }
}

impl TokenRules {
    fn validation(&self, algorithms: Vec<Algorithm>) -> Validation {
        let mut validation = Validation { algorithms, ..Validation::default() };
        // The viewer is read here ([`Claims::read`]), where what is missing is told from what cannot be one.
        validation.set_required_spec_claims(&["exp"]);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        // Where no audience is demanded, a token that names one is as good as any other.
        validation.validate_aud = self.audience.is_some();
        if let Some(audience) = &self.audience {
            validation.required_spec_claims.insert("aud".to_owned());
            validation.set_audience(&[audience]);
        }
        if let Some(issuer) = &self.issuer {
            validation.required_spec_claims.insert("iss".to_owned());
            validation.set_issuer(&[issuer]);
        }
        validation
    }
}
