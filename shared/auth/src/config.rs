//! With which key tokens are checked: exactly one of a secret, a file with a secret, or a file with public keys.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use secrecy::SecretString;
use views_core::settings::{Problems, Setting};

use crate::{KeySource, TokenRules, Verifier};

/// Clocks that differ by more than this need mending, not leeway.
const MAX_LEEWAY: Duration = Duration::from_secs(3600);

/// The flags of tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tokens")]
pub struct KeyArgs {
    /// The secret of HS256 tokens; better through the environment or a file
    ///
    /// Exactly one of this, the file with it, and the file with public keys is needed. It has to have 32 bytes or more, as
    /// `openssl rand -base64 48` makes them. Refused are the secrets of this project's samples, and public or private keys.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<Setting>,
    /// A file with the secret of HS256 tokens
    ///
    /// It is read anew with SIGHUP. What would be refused at the start is refused then, too, and the old secret stays.
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<Setting>,
    /// Accept a secret that can be guessed, which an application signs with already, with a warning
    #[arg(
        long, env = "JWT_ALLOW_WEAK_SECRET", default_value = "false", value_name = "BOOL",
        num_args = 0..=1, default_missing_value = "true"
    )]
    jwt_allow_weak_secret: Setting,
    /// A PEM file with the public keys of RS256, ES256 or EdDSA tokens, any number of them
    ///
    /// A key's kind decides: RSA of 2,048 bits or more verifies RS256, P-256 ES256, and Ed25519 EdDSA. Certificates
    /// serve as their keys. Refused are private keys, shorter RSA, and a file of which one block is none of these.
    ///
    /// All keys of the file verify, and it is read anew with SIGHUP, so that a rotation overlaps: add the new one,
    /// reload, sign with it, and remove the old one when its last token has expired. A file that is refused at a reload
    /// leaves the old keys.
    #[arg(long, env = "JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    jwt_public_key_file: Option<Setting>,
    /// Accept only tokens of this issuer (claim `iss`) [default: any]
    #[arg(long, env = "JWT_ISSUER", value_name = "NAME")]
    jwt_issuer: Option<Setting>,
    /// Accept only tokens for this audience (claim `aud`) [default: any]
    #[arg(long, env = "JWT_AUDIENCE", value_name = "NAME")]
    jwt_audience: Option<Setting>,
    /// How far the clocks of the tokens' issuer and of this machine may differ
    #[arg(long, env = "JWT_LEEWAY", default_value = "0s", value_name = "TIME")]
    jwt_leeway: Setting,
}

impl KeyArgs {
    /// Returns the verifier with its key loaded, and notes what is wrong with the settings.
    pub fn resolve(&self, problems: &mut Problems) -> Option<Verifier> {
        let text = |setting: &Option<Setting>| setting.as_ref().and_then(Setting::non_empty).map(str::to_owned);
        // A secret is taken as it is: a space at its end belongs to it.
        let secret = self.jwt_secret.as_ref().and_then(Setting::secret);
        let leeway = problems.duration(&self.jwt_leeway, Duration::ZERO);
        if leeway > MAX_LEEWAY {
            problems.add(self.jwt_leeway.name(), "must be at most 1h: it lengthens the life of every token");
        }
        if leeway.subsec_nanos() != 0 {
            problems.add(self.jwt_leeway.name(), "must be a whole number of seconds, as the times in tokens are");
        }
        let rules = TokenRules {
            issuer: text(&self.jwt_issuer),
            audience: text(&self.jwt_audience),
            leeway,
            allow_weak_secret: problems.switch(&self.jwt_allow_weak_secret),
        };
        let source = match (secret, text(&self.jwt_secret_file), text(&self.jwt_public_key_file)) {
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
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        keys: KeyArgs,
    }

    fn complaints(flags: &[&str]) -> Vec<String> {
        let mut problems = Problems::default();
        Cli::parse_from(std::iter::once("test").chain(flags.iter().copied())).keys.resolve(&mut problems);
        problems.all().to_vec()
    }

    #[test]
    fn one_key_is_required_and_only_one_is_taken() {
        assert_eq!(complaints(&[]).len(), 1);
        let secret = "s3cret of enough characters, for now";
        assert_eq!(complaints(&["--jwt-secret", secret]), Vec::<String>::new());
        let both = complaints(&["--jwt-secret", secret, "--jwt-public-key-file", "key.pem"]);
        assert_eq!(both.len(), 1);
        assert!(!both[0].contains("s3cret"));
    }

    #[test]
    fn the_leeway_is_whole_seconds_up_to_an_hour() {
        let complaints =
            |leeway: &str| complaints(&["--jwt-secret", "n0t guessed by anybody, as far as we know", "--jwt-leeway", leeway]);
        for good in ["0", "0s", "1s", "1000ms", "1h"] {
            assert_eq!(complaints(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["900ms", "1500ms", "1ns", "2h"] {
            let complaints = complaints(bad);
            assert!(complaints.len() == 1 && complaints[0].starts_with("--jwt-leeway: "), "{complaints:?}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_empty_is_named() {
        assert!(complaints(&["--jwt-secret-file", "/nonexistent/secret"])[0].contains("/nonexistent/secret"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = complaints(&["--jwt-secret-file", file.path().to_str().unwrap()]);
        assert!(empty[0].contains("empty"), "{empty:?}");
    }
}
