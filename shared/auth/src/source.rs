//! Where the keys of tokens come from, and what makes a key unfit.

use std::path::{Path, PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use views_core::files::{self, FileError, Reading, SecretFile};

use super::{
    pem::{self, PemError},
    secret::{self, Weakness},
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
}

/// Why a key cannot be used. Never repeats key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: FileError,
    },
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// It can be guessed.
    #[error(
        "the secret {0}, and must have 32 or more that were made at random (openssl rand -base64 48); where the application signs \
         with it already, --jwt-allow-weak-secret accepts it"
    )]
    Weak(Weakness),
    /// It is a line of an environment file.
    #[error("the secret begins with JWT_SECRET=, which does not belong to it: give only what is behind that")]
    Assignment,
    /// Everybody knows it.
    #[error("the secret is the one of a sample, which everybody knows: make one of your own (openssl rand -base64 48)")]
    Sample,
    /// It is a key of a pair, or a certificate.
    #[error("the secret is a key of a pair or a certificate, which is no secret: a public key goes into --jwt-public-key-file")]
    PemSecret,
    /// The file's keys cannot be used.
    #[error("{}: {error}", path.display())]
    PublicKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PemError,
    },
}

/// Keys, and what an operator should know about them.
pub(super) struct Loaded {
    /// Each with the algorithms of the tokens that it may verify.
    pub(super) keys: Vec<(DecodingKey, Vec<Algorithm>)>,
    pub(super) warnings: Vec<String>,
}

impl KeySource {
    /// Returns the flag that names this source.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Secret(_) => "--jwt-secret",
            Self::SecretFile(_) => "--jwt-secret-file",
            Self::PublicKeyFile(_) => "--jwt-public-key-file",
        }
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
            Self::Secret(_) => None,
            Self::SecretFile(path) | Self::PublicKeyFile(path) => Some(path),
        }
    }

    pub(super) fn load(&self, allow_weak_secret: bool, reading: Reading) -> Result<Loaded, KeyError> {
        let mut warnings = Vec::new();
        let keys = match self {
            Self::Secret(secret) => self.hmac(secret.expose_secret().as_bytes(), allow_weak_secret, &mut warnings)?,
            Self::SecretFile(path) => {
                let file = read(path, reading)?;
                warnings.extend(file.exposed(self.setting()));
                self.hmac(file.bare(), allow_weak_secret, &mut warnings)?
            }
            Self::PublicKeyFile(path) => {
                let file = read(path, reading)?;
                let keys =
                    pem::public_keys(file.content()).map_err(|error| KeyError::PublicKeys { path: path.clone(), error })?;
                warnings.extend(file.replaceable(self.setting()));
                keys.into_iter().map(|(key, algorithm)| (key, vec![algorithm])).collect()
            }
        };
        Ok(Loaded { keys, warnings })
    }

    fn hmac(
        &self,
        text: &[u8],
        allow_weak: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<(DecodingKey, Vec<Algorithm>)>, KeyError> {
        let (key, weakness) = secret::hmac_key(text, allow_weak)?;
        if let Some(weakness) = weakness {
            warnings.push(format!(
                "{}: the secret {weakness}: whoever guesses it is any user and any administrator; 32 bytes or more, made at random, are safe",
                self.setting()
            ));
        }
        Ok(vec![(key, vec![Algorithm::HS256])])
    }
}

fn read(path: &Path, reading: Reading) -> Result<SecretFile, KeyError> {
    files::read(path, reading).map_err(|error| KeyError::Unreadable { path: path.to_owned(), error })
}
