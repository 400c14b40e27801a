//! Why tokens are refused: a label of a metric and a line for whoever debugs, never the token itself.

use jsonwebtoken::errors::ErrorKind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::AuthError;

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
    /// None of our keys is of the algorithm that its header names.
    Algorithm,
    /// Its header demands that extensions are understood (`crit`).
    Crit,
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
    const ALL: [Self; 14] = [
        Self::Missing,
        Self::Malformed,
        Self::Algorithm,
        Self::Crit,
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
            Self::Algorithm => "algorithm",
            Self::Crit => "crit",
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

    /// Returns what the library found.
    pub(super) fn of(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Self::Algorithm,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYet,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => match claim.as_str() {
                "exp" => Self::NoExpiry,
                "iss" => Self::Issuer,
                "aud" => Self::Audience,
                // A time to begin that cannot be read says nothing of when that is.
                _ => Self::Malformed,
            },
            _ => Self::Malformed,
        }
    }

    /// What the client is told, which is less.
    pub(super) fn error(self) -> AuthError {
        match self {
            Self::Missing => AuthError::Missing,
            Self::Expired => AuthError::Expired,
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
        tracing::debug!(reason = reason.as_str(), "a token was refused");
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
