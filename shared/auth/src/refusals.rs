//! Why tokens are refused: a label of a metric and a line for whoever debugs, never the token itself.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::identity::AuthError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no bearer token.
    Missing,
    /// It has not the form of a token.
    Malformed,
    /// It is encrypted (a JWE), so that only its issuer can read it.
    Encrypted,
    /// None of our keys is of the algorithm that its header names.
    Algorithm,
    /// Its header demands that extensions are understood (`crit`).
    Crit,
    /// No key set has come yet by which it could be checked.
    NoKeys,
    /// The key set has no key by the id that its header names, or none that has signed one without an id.
    UnknownKey,
    /// None of our keys has signed it.
    Signature,
    /// Its time is over.
    Expired,
    /// Its time has not come (`nbf`).
    NotYet,
    /// It has no `exp`, or none that can be read.
    NoExpiry,
    /// It is not of the issuer that is demanded.
    Issuer,
    /// It is not for the audience that is demanded.
    Audience,
    /// It names no viewer.
    NoViewer,
    /// The viewer that it names cannot be one.
    BadViewer,
    /// The ledger's column can never hold the viewer that it names.
    UnfitViewer,
    /// It came in a cookie, with a request of a page that may not send views.
    Origin,
}

impl Reason {
    const ALL: [Self; 17] = [
        Self::Missing,
        Self::Malformed,
        Self::Encrypted,
        Self::Algorithm,
        Self::Crit,
        Self::NoKeys,
        Self::UnknownKey,
        Self::Signature,
        Self::Expired,
        Self::NotYet,
        Self::NoExpiry,
        Self::Issuer,
        Self::Audience,
        Self::NoViewer,
        Self::BadViewer,
        Self::UnfitViewer,
        Self::Origin,
    ];

    /// Returns the label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Encrypted => "encrypted",
            Self::Algorithm => "algorithm",
            Self::Crit => "crit",
            Self::NoKeys => "no_keys",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::NoExpiry => "no_expiry",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoViewer => "no_viewer",
            Self::BadViewer => "bad_viewer",
            Self::UnfitViewer => "unfit_viewer",
            Self::Origin => "origin",
        }
    }

    /// Returns the reason in words, for whoever debugs.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Missing => "there is no bearer token",
            Self::Malformed => "it has not the form of a signed token",
            Self::Encrypted => {
                "it is encrypted (a JWE, as the session cookies of next-auth are), and only its issuer can read it: let the site's own \
                 server issue a signed one"
            }
            Self::Algorithm => "no key is of the algorithm in its header; --jwt-algorithms accepts more of the keys' own family",
            Self::Crit => "its header demands extensions (crit)",
            Self::NoKeys => "no key set has been fetched yet",
            Self::UnknownKey => "the key set has no key for it",
            Self::Signature => "none of the keys has signed it",
            Self::Expired => "it has expired",
            Self::NotYet => "it is not valid yet (nbf)",
            Self::NoExpiry => "it has no exp that can be read",
            Self::Issuer => "it is not of the issuer that is demanded (iss)",
            Self::Audience => "it is not for the audience that is demanded (aud)",
            Self::NoViewer => "it has no viewer claim",
            Self::BadViewer => "its viewer claim is no viewer's id",
            Self::UnfitViewer => "the ledger's column cannot hold its viewer",
            Self::Origin => "it came in a cookie, with a request of a page that may not send views",
        }
    }

    /// Returns what may be done about it, and by which setting.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Missing | Self::Malformed => "give the token itself (three parts with dots between them), without `Bearer`",
            Self::Encrypted => "see docs/tokens.md, Encrypted sessions",
            Self::Algorithm => {
                "name its algorithm in --jwt-algorithms (JWT_ALGORITHMS), or give the key of the issuer's own kind (a secret for HS…, a \
                 public key or a key set for RS…, PS…, ES… and EdDSA)"
            }
            Self::Crit => "have the issuer leave crit out",
            Self::NoKeys => "see that this machine reaches --jwt-jwks-url (JWT_JWKS_URL), and that its answer is a key set",
            Self::UnknownKey => {
                "give the key set of the token's own issuer: --jwt-jwks-url (JWT_JWKS_URL) or --jwt-jwks-file (JWT_JWKS_FILE)"
            }
            Self::Signature => {
                "give the key that the issuer signs with; where that is a secret in base64 which the issuer decodes first, set \
                 --jwt-secret-encoding base64 (JWT_SECRET_ENCODING)"
            }
            Self::Expired => "take a fresh token; where it is fresh, set this machine's clock, or --jwt-leeway (JWT_LEEWAY)",
            Self::NotYet => "set this machine's clock or the issuer's, or --jwt-leeway (JWT_LEEWAY)",
            Self::NoExpiry => "have the issuer give tokens an exp, a number of seconds since 1970",
            Self::Issuer => "set --jwt-issuer (JWT_ISSUER) to the token's iss, if that is your issuer",
            Self::Audience => "set --jwt-audience (JWT_AUDIENCE) to one of the token's aud, if these are your tokens",
            Self::NoViewer => "name the claim with the viewer's id by --jwt-viewer-claim (JWT_VIEWER_CLAIM)",
            Self::BadViewer => {
                "name another claim by --jwt-viewer-claim (JWT_VIEWER_CLAIM), with 1-128 printable ASCII characters without spaces, or a \
                 whole number"
            }
            Self::UnfitViewer => {
                "name the claim with the application's own user ids by --jwt-viewer-claim (JWT_VIEWER_CLAIM), or give the ledger's column \
                 user_id a type that holds these"
            }
            Self::Origin => "name the page's origin by --cors-origin of view-ingest",
        }
    }

    /// What the client is told, which is less.
    pub(super) fn error(self) -> AuthError {
        match self {
            Self::Missing => AuthError::Missing,
            Self::Expired => AuthError::Expired,
            Self::NoKeys => AuthError::Unavailable,
            _ => AuthError::Invalid,
        }
    }
}

/// A counter for each reason.
#[derive(Debug)]
pub(super) struct Refusals {
    family: Family<ReasonLabel, Counter>,
    /// In the order of [`Reason::ALL`].
    counters: [Counter; Reason::ALL.len()],
}

impl Default for Refusals {
    fn default() -> Self {
        let family = Family::<ReasonLabel, Counter>::default();
        let counters = Reason::ALL.map(|reason| family.get_or_create_owned(&ReasonLabel { reason: reason.as_str() }));
        Self { family, counters }
    }
}

impl Refusals {
    /// Adds the counters to a binary's own.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("tokens_refused", "Requests whose token was refused, by reason", self.family.clone());
    }

    /// Notes that a token was refused.
    pub(super) fn note(&self, reason: Reason) {
        // The variants are numbered in the order in which they stand.
        if let Some(counter) = self.counters.get(reason as usize) {
            counter.inc();
        }
        tracing::debug!(reason = reason.as_str(), explanation = reason.explanation(), "a token was refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let refusals = Refusals::default();
        for reason in Reason::ALL {
            refusals.note(reason);
            let counter = refusals.family.get_or_create(&ReasonLabel { reason: reason.as_str() }).get();
            assert_eq!(counter, 1, "{reason:?}");
        }
    }
}
