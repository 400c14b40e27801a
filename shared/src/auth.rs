//! Who is asking: bearer tokens (JWT, RFC 7519), checked against one key whose kind decides the algorithm.

mod known;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::known::KnownTokens;
use crate::ids::ViewerId;

/// The role of those who may ask for a sync.
pub const ADMIN: &str = "ADMIN";

/// Where the key comes from.
#[derive(Debug)]
pub enum KeySource {
    /// The secret of HS256 tokens itself.
    Secret(SecretString),
    /// A file with the secret of HS256 tokens.
    SecretFile(PathBuf),
    /// A PEM file with an RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA) public key.
    PublicKeyFile(PathBuf),
}

/// What a token must say beside a true signature, `exp` and `sub`.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    /// The `iss` that is demanded, if any.
    pub issuer: Option<String>,
    /// The `aud` that is demanded, if any.
    pub audience: Option<String>,
    /// By how much `exp` and `nbf` may be missed.
    pub leeway: Duration,
}

/// Why a key cannot be used. Never repeats key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// The file is no PEM public key of a kind that is known.
    #[error("{} holds no RSA, P-256 or Ed25519 public key in PEM form", .0.display())]
    NotAPublicKey(PathBuf),
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

/// Checks tokens, and takes a new key when told to reload.
#[derive(Debug)]
pub struct Verifier {
    source: KeySource,
    rules: TokenRules,
    current: ArcSwap<Checker>,
    known: KnownTokens,
}

struct Checker {
    key: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker").field("algorithms", &self.validation.algorithms).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970, perhaps with a fraction.
    exp: f64,
    #[serde(default)]
    role: serde_json::Value,
}

impl KeySource {
    /// The flag that names this source.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Secret(_) => "--jwt-secret",
            Self::SecretFile(_) => "--jwt-secret-file",
            Self::PublicKeyFile(_) => "--jwt-public-key-file",
        }
    }

    fn load(&self) -> Result<(DecodingKey, Algorithm), KeyError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| KeyError::Unreadable { path: path.clone(), error });
        match self {
            Self::Secret(secret) => hmac_key(secret.expose_secret().as_bytes()),
            Self::SecretFile(path) => {
                let text = read(path)?;
                let end = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
                hmac_key(&text[..end])
            }
            Self::PublicKeyFile(path) => public_key(&read(path)?).ok_or_else(|| KeyError::NotAPublicKey(path.clone())),
        }
    }
}

fn hmac_key(secret: &[u8]) -> Result<(DecodingKey, Algorithm), KeyError> {
    if secret.is_empty() { Err(KeyError::Empty) } else { Ok((DecodingKey::from_secret(secret), Algorithm::HS256)) }
}

/// The kind of key binds the algorithm: what a token's header asks for is never followed.
fn public_key(pem: &[u8]) -> Option<(DecodingKey, Algorithm)> {
    let rsa = || DecodingKey::from_rsa_pem(pem).map(|key| (key, Algorithm::RS256));
    let ec = |_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256));
    let ed = |_| DecodingKey::from_ed_pem(pem).map(|key| (key, Algorithm::EdDSA));
    let (key, algorithm) = rsa().or_else(ec).or_else(ed).ok()?;
    // An uncompressed point of P-256 takes 65 bytes. A key of another curve would be loaded too, and then refuse every token.
    let other_curve = algorithm == Algorithm::ES256 && key.try_get_as_bytes().map(<[u8]>::len).ok() != Some(65);
    (!other_curve).then_some((key, algorithm))
}

impl Verifier {
    /// Loads the key.
    ///
    /// # Errors
    /// [`KeyError`] when the source has no key that can be used.
    pub fn new(source: KeySource, rules: TokenRules) -> Result<Self, KeyError> {
        let checker = Checker::load(&source, &rules)?;
        Ok(Self { source, rules, current: ArcSwap::from_pointee(checker), known: KnownTokens::default() })
    }

    /// Loads the key anew from its file; a secret given directly stays.
    ///
    /// # Errors
    /// [`KeyError`]; the key in use stays in use.
    pub fn reload(&self) -> Result<(), KeyError> {
        let checker = Checker::load(&self.source, &self.rules)?;
        self.current.store(Arc::new(checker));
        self.known.forget();
        Ok(())
    }

    /// Checks the value of an `Authorization` header.
    ///
    /// # Errors
    /// [`AuthError`] when there is no header, another scheme, or a token that does not hold.
    pub fn identify(&self, authorization: Option<&[u8]>) -> Result<Identity, AuthError> {
        let token = authorization.and_then(bearer).ok_or(AuthError::Missing)?;
        if let Some(identity) = self.known.get(token) {
            return Ok(identity);
        }
        // The number is taken before the key, so that a token that an old key let in is never kept behind a new one.
        let keys = self.known.keys();
        let checker = self.current.load();
        let claims = jsonwebtoken::decode::<Claims>(token, &checker.key, &checker.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => AuthError::Expired,
                _ => AuthError::Invalid,
            })?
            .claims;
        let viewer = ViewerId::parse(&claims.sub).map_err(|_| AuthError::Invalid)?;
        let identity = Identity { viewer, admin: claims.role == ADMIN };
        self.known.keep(token, identity, claims.exp, keys);
        Ok(identity)
    }
}

/// The token behind the scheme `Bearer`, which is written in any case (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}

impl Checker {
    fn load(source: &KeySource, rules: &TokenRules) -> Result<Self, KeyError> {
        let (key, algorithm) = source.load()?;
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = rules.leeway.as_secs();
        validation.validate_nbf = true;
        // Where no audience is demanded, a token that names one is as good as any other.
        validation.validate_aud = rules.audience.is_some();
        if let Some(audience) = &rules.audience {
            validation.set_required_spec_claims(&["exp", "sub", "aud"]);
            validation.set_audience(&[audience]);
        }
        if let Some(issuer) = &rules.issuer {
            validation.required_spec_claims.insert("iss".to_owned());
            validation.set_issuer(&[issuer]);
        }
        Ok(Self { key, validation })
    }
}
