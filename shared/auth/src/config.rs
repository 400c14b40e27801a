//! With which key tokens are checked: exactly one of a secret, a file with a secret, or a file with public keys.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use secrecy::SecretString;
use views_core::settings::{Problems, given};

use crate::{KeySource, TokenRules, Verifier};

/// Clocks that differ by more than this need mending, not leeway.
const MAX_LEEWAY: Duration = Duration::from_secs(3600);

/// The flags of tokens.
#[derive(Clone, Default, Args)]
#[command(next_help_heading = "Tokens")]
pub struct KeyArgs {
    /// The secret of HS256 tokens; better through the environment or a file
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// A file with the secret of HS256 tokens
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<String>,
    /// Accept a secret that can be guessed, which an application signs with already, with a warning [default: false]
    #[arg(long, env = "JWT_ALLOW_WEAK_SECRET", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    jwt_allow_weak_secret: Option<String>,
    /// A PEM file with the public keys of RS256, ES256 or EdDSA tokens, any number of them
    #[arg(long, env = "JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    jwt_public_key_file: Option<String>,
    /// Accept only tokens of this issuer (claim `iss`)
    #[arg(long, env = "JWT_ISSUER", value_name = "NAME")]
    jwt_issuer: Option<String>,
    /// Accept only tokens for this audience (claim `aud`)
    #[arg(long, env = "JWT_AUDIENCE", value_name = "NAME")]
    jwt_audience: Option<String>,
    /// How far the clocks of the tokens' issuer and of this machine may differ [default: 0s]
    #[arg(long, env = "JWT_LEEWAY", value_name = "TIME")]
    jwt_leeway: Option<String>,
}

impl std::fmt::Debug for KeyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyArgs").finish_non_exhaustive()
    }
}

impl KeyArgs {
    /// Reads the flags, loads the key, and notes what is wrong with them.
    pub fn read(&self, problems: &mut Problems) -> Option<Verifier> {
        // A secret is taken as it is: a space at its end belongs to it.
        let secret = self.jwt_secret.as_deref().filter(|secret| !secret.is_empty());
        let secret_file = given(self.jwt_secret_file.as_deref());
        let public_key_file = given(self.jwt_public_key_file.as_deref());
        let leeway = problems.duration("--jwt-leeway", self.jwt_leeway.as_deref(), Duration::ZERO, Duration::ZERO);
        if leeway > MAX_LEEWAY {
            problems.add("--jwt-leeway", "must be at most 1h: it lengthens the life of every token");
        }
        if leeway.subsec_nanos() != 0 {
            problems.add("--jwt-leeway", "must be a whole number of seconds, as the times in tokens are");
        }
        let rules = TokenRules {
            issuer: given(self.jwt_issuer.as_deref()).map(str::to_owned),
            audience: given(self.jwt_audience.as_deref()).map(str::to_owned),
            leeway,
            allow_weak_secret: problems.switch("--jwt-allow-weak-secret", self.jwt_allow_weak_secret.as_deref()),
        };
        let source = match (secret, secret_file, public_key_file) {
            (Some(secret), None, None) => KeySource::Secret(SecretString::from(secret)),
            (None, Some(file), None) => KeySource::SecretFile(PathBuf::from(file)),
            (None, None, Some(file)) => KeySource::PublicKeyFile(PathBuf::from(file)),
            (None, None, None) => {
                problems.add("--jwt-secret", "one of --jwt-secret, --jwt-secret-file and --jwt-public-key-file is required");
                return None;
            }
            _ => {
                problems.add("--jwt-secret", "give only one of --jwt-secret, --jwt-secret-file and --jwt-public-key-file");
                return None;
            }
        };
        let name = source.setting();
        let verifier = Verifier::new(source, rules).map_err(|error| problems.add(name, error)).ok()?;
        verifier.warnings().iter().for_each(|warning| problems.warn(warning));
        Some(verifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(args: &KeyArgs) -> Vec<String> {
        let mut problems = Problems::default();
        args.read(&mut problems);
        problems.all().to_vec()
    }

    #[test]
    fn one_key_is_required_and_only_one_is_taken() {
        assert_eq!(complaints(&KeyArgs::default()).len(), 1);
        let secret = KeyArgs { jwt_secret: Some("s3cret of enough characters, for now".into()), ..KeyArgs::default() };
        assert_eq!(complaints(&secret), Vec::<String>::new());
        let both = KeyArgs { jwt_public_key_file: Some("key.pem".into()), ..secret };
        assert_eq!(complaints(&both).len(), 1);
        assert!(!complaints(&both)[0].contains("s3cret"));
    }

    #[test]
    fn the_leeway_is_whole_seconds_up_to_an_hour() {
        let args = |leeway: &str| KeyArgs {
            jwt_secret: Some("n0t guessed by anybody, we hope".repeat(2)),
            jwt_leeway: Some(leeway.into()),
            ..KeyArgs::default()
        };
        for good in ["0", "0s", "1s", "1000ms", "1h"] {
            assert_eq!(complaints(&args(good)), Vec::<String>::new(), "{good}");
        }
        for bad in ["900ms", "1500ms", "1ns", "2h"] {
            let complaints = complaints(&args(bad));
            assert!(complaints.len() == 1 && complaints[0].starts_with("--jwt-leeway: "), "{complaints:?}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_empty_is_named() {
        let missing = KeyArgs { jwt_secret_file: Some("/nonexistent/secret".into()), ..KeyArgs::default() };
        assert!(complaints(&missing)[0].contains("/nonexistent/secret"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = KeyArgs { jwt_secret_file: Some(file.path().to_str().unwrap().into()), ..KeyArgs::default() };
        assert!(complaints(&empty)[0].contains("empty"), "{:?}", complaints(&empty));
    }
}
