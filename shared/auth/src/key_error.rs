//! Why a key cannot be used.

use std::path::PathBuf;

use views_core::files::FileError;

use super::{key_set::KeySetError, pem::PemError};

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
    /// It is not in base64.
    #[error("the secret is no base64, which --jwt-secret-encoding says it is")]
    NotBase64,
    /// The file's set cannot be used.
    #[error("{}: {error}", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeySetError,
    },
    /// The file's keys cannot be used.
    #[error("{}: {error}", path.display())]
    PublicKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: PemError,
    },
}

/// How a secret is within reach of whoever guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// It is short. With its length in bytes.
    #[error("has {0} bytes only")]
    Short(usize),
    /// It is long, but little is in it. With the number of its different bytes.
    #[error("is made of {0} different bytes only")]
    Monotonous(usize),
}
