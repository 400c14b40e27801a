//! Where the keys of tokens come from, and what makes a key unfit.

use std::path::{Path, PathBuf};

use jsonwebtoken::Algorithm;
use secrecy::{ExposeSecret, SecretString};
use views_core::files::{self, Reading, SecretFile};

use super::{
    algorithms::{Algorithms, KeyKind, PUBLIC_KINDS},
    endpoint::Endpoint,
    key::{Key, Loaded},
    key_error::KeyError,
    key_set::{self, KeySet, KeySetError},
    pem,
    rules::KeyRules,
    secret,
};

/// The variable of a secret that is given directly.
const VARIABLE: &str = "JWT_SECRET";

/// Where the keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// The secret of HS256 tokens itself.
    Secret(SecretString),
    /// A file with the secret of HS256 tokens.
    SecretFile(PathBuf),
    /// A PEM file with RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA) public keys, any number of them.
    PublicKeyFile(PathBuf),
    /// A file with a JSON Web Key Set.
    SetFile(PathBuf),
    /// The URL of a JSON Web Key Set.
    SetUrl(Endpoint),
}

impl KeySource {
    /// Returns the flag that names this source.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Secret(_) => "--jwt-secret",
            Self::SecretFile(_) => "--jwt-secret-file",
            Self::PublicKeyFile(_) => "--jwt-public-key-file",
            Self::SetFile(_) => "--jwt-jwks-file",
            Self::SetUrl(_) => "--jwt-jwks-url",
        }
    }

    /// Returns whether the keys are a shared secret.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::SecretFile(_))
    }

    /// Returns whether the keys are a set, in which they have ids.
    pub(super) fn is_set(&self) -> bool {
        matches!(self, Self::SetFile(_) | Self::SetUrl(_))
    }

    /// Returns the algorithms of the tokens that keys from here verify, whatever keys there are now.
    pub(super) fn accepted(&self, algorithms: &Algorithms) -> Vec<Algorithm> {
        let kinds: &[KeyKind] = if self.is_secret() { &[KeyKind::Secret] } else { &PUBLIC_KINDS };
        kinds.iter().flat_map(|kind| algorithms.of(*kind)).collect()
    }

    /// Returns the name of the flag, or of the variable that stands in its place.
    pub(super) fn origin(&self) -> &'static str {
        match self {
            Self::Secret(secret) if std::env::var(VARIABLE).is_ok_and(|value| value == secret.expose_secret()) => VARIABLE,
            _ => self.setting(),
        }
    }

    /// Returns the file that the keys are read from; `None` where they were given directly.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Secret(_) | Self::SetUrl(_) => None,
            Self::SecretFile(path) | Self::PublicKeyFile(path) | Self::SetFile(path) => Some(path),
        }
    }

    /// Returns the keys; none yet where they are fetched.
    pub(super) fn load(&self, rules: &KeyRules, reading: Reading) -> Result<Loaded, KeyError> {
        match self {
            Self::Secret(secret) => self.hmac(secret.expose_secret().as_bytes(), rules),
            Self::SecretFile(path) => {
                let file = read(path, reading)?;
                let mut loaded = self.hmac(file.bare(), rules)?;
                loaded.warnings.splice(0..0, file.exposed(self.setting()));
                Ok(loaded)
            }
            Self::PublicKeyFile(path) => {
                let file = read(path, reading)?;
                let keys = pem::public_keys(file.content(), &rules.algorithms)
                    .map_err(|error| KeyError::PublicKeys { path: path.clone(), error })?;
                Ok(Loaded { keys, warnings: file.replaceable(self.setting()).into_iter().collect() })
            }
            Self::SetFile(path) => {
                let file = read(path, reading)?;
                let mut loaded =
                    self.set(file.bare(), rules, true).map_err(|error| KeyError::Set { path: path.clone(), error })?;
                loaded.warnings.extend(file.replaceable(self.setting()));
                Ok(loaded)
            }
            Self::SetUrl(endpoint) => {
                Ok(Loaded { warnings: endpoint.exposed(self.setting()).into_iter().collect(), ..Loaded::default() })
            }
        }
    }

    /// Returns the keys of a set. With `is_strict`, a key that must not be there refuses it.
    pub(super) fn set(&self, document: &[u8], rules: &KeyRules, is_strict: bool) -> Result<Loaded, KeySetError> {
        let KeySet { keys, left_out } = key_set::read(document, &rules.algorithms, is_strict)?;
        let warnings = left_out.into_iter().map(|why| format!("{}: left out of the set: {why}", self.setting())).collect();
        Ok(Loaded { keys, warnings })
    }

    fn hmac(&self, text: &[u8], rules: &KeyRules) -> Result<Loaded, KeyError> {
        let (key, weakness) = secret::hmac_key(text, rules)?;
        let warnings = weakness.map(|weakness| {
            format!(
                "{}: the secret {weakness}: whoever guesses it is any user and any administrator; 32 bytes or more, made at random, are safe",
                self.setting()
            )
        });
        let key = Key { key, algorithms: rules.algorithms.of(KeyKind::Secret), id: None };
        Ok(Loaded { keys: vec![key], warnings: warnings.into_iter().collect() })
    }
}

fn read(path: &Path, reading: Reading) -> Result<SecretFile, KeyError> {
    files::read(path, reading).map_err(|error| KeyError::Unreadable { path: path.to_owned(), error })
}
