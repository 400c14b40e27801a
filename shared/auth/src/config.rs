//! With which key tokens are checked (exactly one of a secret, a file with a secret, a file with public keys, and a set of
//! them in a file or at a URL), and what they must say.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use secrecy::SecretString;
use views_core::{
    ids::ViewerId,
    settings::{Problems, Setting},
};

use super::{
    algorithms::Algorithms,
    endpoint::Endpoint,
    paths::{self, Administrators, ClaimPath},
    rules::{KeyRules, TokenRules},
    source::KeySource,
    verifier::Verifier,
};

/// Clocks that differ by more than this need mending, not leeway.
const MAX_LEEWAY: Duration = Duration::from_secs(3600);

/// The flags of tokens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tokens")]
pub struct KeyArgs {
    /// The secret of HS256 tokens; better through the environment or a file
    ///
    /// Exactly one of this, the file with it, the file with public keys, and the set of keys in a file or at a URL is
    /// needed. It has to have 32 bytes or more, as `openssl rand -base64 48` makes them. Refused are the secrets of this
    /// project's samples, and public or private keys.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<Setting>,
    /// A file with the secret of HS256 tokens
    ///
    /// It is read anew with SIGHUP. What would be refused at the start is refused then, too, and the old secret stays.
    #[arg(long, env = "JWT_SECRET_FILE", value_name = "FILE")]
    jwt_secret_file: Option<Setting>,
    /// How the secret is given: `text`, or `base64`, which Spring's and other issuers decode before they sign
    ///
    /// Either alphabet of base64 will do, with padding or without. What it stands for is judged, and has to have 32 bytes.
    #[arg(long, env = "JWT_SECRET_ENCODING", default_value = "text", value_name = "ENCODING")]
    jwt_secret_encoding: Setting,
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
    /// A file with a JSON Web Key Set (JWKS) of public keys
    ///
    /// A token is checked with the keys whose `kid` its header names, or with those that have none; one without a `kid`
    /// with all. It is read anew with SIGHUP. A private key, a secret or shorter RSA in it refuses the file; keys for
    /// encryption and of unknown kinds are left out.
    #[arg(long, env = "JWT_JWKS_FILE", value_name = "FILE")]
    jwt_jwks_file: Option<Setting>,
    /// The https URL of a JSON Web Key Set, as issuers publish it (`…/.well-known/jwks.json`)
    ///
    /// It is fetched at the start, every five minutes, with SIGHUP, and when a token names a `kid` that is not in it, but
    /// every 30 seconds at most. The last good set stays for as long as there is no other. While there was none yet,
    /// tokens are answered 503. Keys that must not be in it are left out with a warning.
    ///
    /// The issuer's certificate is checked against the platform's roots, or those of SSL_CERT_FILE. Proxies are not used.
    #[arg(long, env = "JWT_JWKS_URL", value_name = "URL")]
    jwt_jwks_url: Option<Setting>,
    /// More algorithms of the key's own family that are accepted, such as `HS512`, or `RS512,PS256` [default: none]
    ///
    /// Secrets: HS384, HS512. RSA: RS384, RS512, PS256, PS384, PS512. P-384: ES384. Those of secrets and of public keys
    /// never go together.
    #[arg(long, env = "JWT_ALGORITHMS", value_name = "NAMES")]
    jwt_algorithms: Option<Setting>,
    /// Accept only tokens of this issuer (claim `iss`) [default: any]
    #[arg(long, env = "JWT_ISSUER", value_name = "NAME")]
    jwt_issuer: Option<Setting>,
    /// Accept only tokens for this audience (claim `aud`) [default: any]
    #[arg(long, env = "JWT_AUDIENCE", value_name = "NAME")]
    jwt_audience: Option<Setting>,
    /// How far the clocks of the tokens' issuer and of this machine may differ
    #[arg(long, env = "JWT_LEEWAY", default_value = "0s", value_name = "TIME")]
    jwt_leeway: Setting,
    /// The claim with the viewer's id: a name, or names with dots between them, such as `user.id`
    ///
    /// Where names have dots themselves, as URLs do, the whole is taken for one name first, and is then divided at one of
    /// its dots, the last one first: `https://hasura.io/jwt/claims.x-hasura-user-id`. A whole number is taken as its
    /// digits.
    #[arg(long, env = "JWT_VIEWER_CLAIM", default_value = "sub", value_name = "PATH")]
    jwt_viewer_claim: Setting,
    /// The claim that makes an administrator, and its value; repeatable, or with commas between them
    ///
    /// The claim is that value, or a list with it: `realm_access.roles=admin`. Numbers and `true` or `false` are compared
    /// as they are written. A value cannot have commas, as distinguished names (`CN=…,OU=…`) do.
    #[arg(long, env = "JWT_ADMIN_CLAIM", default_value = "role=ADMIN", value_name = "PATH=VALUE")]
    jwt_admin_claim: Vec<Setting>,
    /// The ids of administrators, with commas between them, for issuers whose tokens have no roles [default: none]
    #[arg(long, env = "ADMIN_IDS", value_name = "IDS")]
    admin_ids: Option<Setting>,
}

impl KeyArgs {
    /// Returns the verifier with its key loaded, and notes what is wrong with the settings.
    pub fn resolve(&self, problems: &mut Problems) -> Option<Verifier> {
        let rules = self.rules(problems);
        let source = self.source(problems)?;
        if let Some(foreign) = rules.keys.algorithms.foreign(source.is_secret()) {
            let kind = if source.is_secret() { "a secret" } else { "public keys" };
            problems
                .add("--jwt-algorithms", format_args!("{foreign:?} is no algorithm of {kind}, which {} gives", source.setting()));
            return None;
        }
        // Firebase signs for all of its projects with the same keys.
        if source.is_set() && rules.issuer.is_none() && rules.audience.is_none() {
            problems.warn(format!(
                "{}: tokens that the issuer signs for others with these keys are accepted, too: set --jwt-audience or --jwt-issuer",
                source.setting()
            ));
        }
        let name = source.setting();
        let verifier = Verifier::new(source, rules).map_err(|error| problems.add(name, error)).ok()?;
        verifier.warnings().iter().for_each(|warning| problems.warn(warning));
        Some(verifier)
    }

    /// Returns whether it is said where the keys come from.
    #[must_use]
    pub fn is_given(&self) -> bool {
        let sources =
            [&self.jwt_secret, &self.jwt_secret_file, &self.jwt_public_key_file, &self.jwt_jwks_file, &self.jwt_jwks_url];
        sources.into_iter().flatten().any(|setting| setting.non_empty().is_some())
    }

    fn rules(&self, problems: &mut Problems) -> TokenRules {
        let leeway = problems.duration(&self.jwt_leeway, Duration::ZERO);
        if leeway > MAX_LEEWAY {
            problems.add(self.jwt_leeway.name(), "must be at most 1h: it lengthens the life of every token");
        }
        if leeway.subsec_nanos() != 0 {
            problems.add(self.jwt_leeway.name(), "must be a whole number of seconds, as the times in tokens are");
        }
        let mut claims = Vec::new();
        for setting in &self.jwt_admin_claim {
            claims.extend(problems.resolve(setting, admin_claims));
        }
        let ids = problems.optional(self.admin_ids.as_ref(), |text| listed(text).map(admin_id).collect::<Result<Vec<_>, _>>());
        TokenRules {
            issuer: text(self.jwt_issuer.as_ref()),
            audience: text(self.jwt_audience.as_ref()),
            leeway,
            viewer_claim: problems.resolve(&self.jwt_viewer_claim, ClaimPath::parse),
            administrators: Administrators::new(claims, ids.unwrap_or_default()),
            keys: KeyRules {
                allow_weak_secret: problems.switch(&self.jwt_allow_weak_secret),
                base64_secret: problems.resolve(&self.jwt_secret_encoding, |text| match text {
                    "text" => Ok(false),
                    "base64" => Ok(true),
                    other => Err(format!("{other:?} is neither text nor base64")),
                }),
                algorithms: problems.optional(self.jwt_algorithms.as_ref(), Algorithms::parse).unwrap_or_default(),
            },
        }
    }

    /// Returns where the keys come from, and notes where that is not one place.
    fn source(&self, problems: &mut Problems) -> Option<KeySource> {
        let file = |setting: &Option<Setting>| text(setting.as_ref()).map(PathBuf::from);
        // A secret is taken as it is: a space at its end belongs to it.
        let secret = self.jwt_secret.as_ref().and_then(Setting::secret).map(SecretString::from);
        let mut sources: Vec<_> = [
            secret.map(KeySource::Secret),
            file(&self.jwt_secret_file).map(KeySource::SecretFile),
            file(&self.jwt_public_key_file).map(KeySource::PublicKeyFile),
            file(&self.jwt_jwks_file).map(KeySource::SetFile),
        ]
        .into_iter()
        .flatten()
        .collect();
        // One that is wrong counts as given.
        let has_url = self.jwt_jwks_url.as_ref().and_then(Setting::non_empty).is_some();
        let url = problems.optional(self.jwt_jwks_url.as_ref(), Endpoint::parse);
        sources.extend(url.map(KeySource::SetUrl));
        match sources.len() {
            0 if has_url => None,
            0 => {
                problems.add("--jwt-secret", format_args!("one of {SOURCES} is required"));
                None
            }
            1 => sources.pop(),
            _ => {
                problems.add("--jwt-secret", format_args!("give only one of {SOURCES}"));
                None
            }
        }
    }
}

/// The settings of which exactly one says where the keys come from.
const SOURCES: &str = "--jwt-secret, --jwt-secret-file, --jwt-public-key-file, --jwt-jwks-file and --jwt-jwks-url";

fn text(setting: Option<&Setting>) -> Option<String> {
    setting.and_then(Setting::non_empty).map(str::to_owned)
}

/// Returns what stands between commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Parses claims with commas between them. A distinguished name has commas itself, and what stands behind them would make
/// administrators of everybody with such a claim.
fn admin_claims(text: &str) -> Result<Vec<(ClaimPath, String)>, String> {
    let is_attribute = |part: &str| {
        part.split_once('=').is_some_and(|(name, _)| ATTRIBUTES.iter().any(|other| other.eq_ignore_ascii_case(name.trim())))
    };
    if listed(text).skip(1).any(is_attribute) {
        return Err(format!("{text:?} has commas within a value, which none can have: name a claim whose values have none"));
    }
    listed(text).map(paths::admin_claim).collect()
}

/// What the parts of distinguished names begin with (RFC 4514, section 3).
const ATTRIBUTES: [&str; 9] = ["CN", "L", "ST", "O", "OU", "C", "STREET", "DC", "UID"];

fn admin_id(text: &str) -> Result<ViewerId, String> {
    ViewerId::parse(text).map_err(|error| format!("{text:?}: {error}"))
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
    fn the_keys_come_from_one_place() {
        let secret = "s3cret of enough characters, for now";
        let url = "https://issuer.example/keys";
        assert_eq!(complaints(&["--jwt-jwks-url", url]), Vec::<String>::new());
        for two in [
            ["--jwt-secret", secret, "--jwt-jwks-url", url],
            ["--jwt-jwks-file", "keys.json", "--jwt-jwks-url", url],
            ["--jwt-public-key-file", "key.pem", "--jwt-jwks-file", "keys.json"],
        ] {
            let told = complaints(&two);
            assert!(told.len() == 1 && told[0].contains("only one of") && told[0].contains("--jwt-jwks-url"), "{told:?}");
        }
        let told = complaints(&["--jwt-jwks-url", "https://u:hidden@issuer.example/keys"]);
        assert!(told.len() == 1 && told[0].starts_with("--jwt-jwks-url: ") && !told[0].contains("hidden"), "{told:?}");
        assert!(complaints(&[])[0].contains("and --jwt-jwks-url is required"));
    }

    #[test]
    fn a_set_of_keys_that_others_may_share_is_warned_of() {
        let warnings = |more: &[&str]| {
            let mut problems = Problems::default();
            let flags = ["test", "--jwt-jwks-url", "https://issuer.example/keys"];
            Cli::parse_from(flags.iter().chain(more)).keys.resolve(&mut problems);
            problems.take_warnings()
        };
        let told = warnings(&[]);
        assert!(told.len() == 1 && told[0].contains("set --jwt-audience or --jwt-issuer"), "{told:?}");
        for named in ["--jwt-audience=site", "--jwt-issuer=https://issuer.example/"] {
            assert_eq!(warnings(&[named]), [] as [&str; 0]);
        }
    }

    #[test]
    fn what_is_wrong_with_claims_and_algorithms_is_told_by_their_names() {
        let secret = ["--jwt-secret", "s3cret of enough characters, for now"];
        for good in [
            &["--jwt-viewer-claim", "https://x.example/user_id"][..],
            &["--jwt-admin-claim", "role=ADMIN", "--jwt-admin-claim", "realm_access.roles=admin,is_staff=true"],
            &["--jwt-admin-claim", ""],
            &["--jwt-admin-claim", "groups=CN=Admins,role=ADMIN"],
            &["--admin-ids", "1, auth0|5f7c,"],
            &["--jwt-algorithms", "HS256,HS512"],
            &["--jwt-secret-encoding", "text"],
        ] {
            assert_eq!(complaints(&[&secret, good].concat()), Vec::<String>::new(), "{good:?}");
        }
        for bad in [
            &["--jwt-viewer-claim", "a\nb"][..],
            &["--jwt-admin-claim", "ADMIN"],
            &["--jwt-admin-claim", "role=ADMIN", "--jwt-admin-claim", "=x"],
            &["--jwt-admin-claim", "groups=CN=Admins,OU=Groups,DC=site,DC=example"],
            &["--jwt-admin-claim", "groups=cn=admins, ou=groups"],
            &["--admin-ids", "a b"],
            &["--jwt-algorithms", "RS256"],
            &["--jwt-algorithms", "none"],
            &["--jwt-secret-encoding", "hex"],
        ] {
            let told = complaints(&[&secret, bad].concat());
            assert!(told.len() == 1 && told[0].starts_with(&format!("{}: ", bad[0])), "{bad:?}: {told:?}");
        }
        let told = complaints(&["--jwt-jwks-url", "https://issuer.example/keys", "--jwt-algorithms", "RS512,HS256"]);
        assert!(told.len() == 1 && told[0].starts_with("--jwt-algorithms: HS256 is no algorithm of public keys"), "{told:?}");
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
