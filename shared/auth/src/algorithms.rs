//! Which algorithms a key may verify. Its kind decides, with what the settings allow beside it; what a token's header
//! asks for is never followed.

use jsonwebtoken::Algorithm;

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// A shared secret.
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The kinds of which one half is public. A secret is never among them: whoever knows a public key could sign with it.
pub(super) const PUBLIC_KINDS: [KeyKind; 4] = [KeyKind::Rsa, KeyKind::P256, KeyKind::P384, KeyKind::Ed25519];

impl KeyKind {
    /// Returns the algorithms that keys of this kind can verify.
    fn possible(self) -> &'static [Algorithm] {
        match self {
            Self::Secret => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
            Self::Rsa => {
                &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512]
            }
            Self::P256 => &[Algorithm::ES256],
            Self::P384 => &[Algorithm::ES384],
            Self::Ed25519 => &[Algorithm::EdDSA],
        }
    }

    /// Returns the algorithm that keys of this kind verify without any setting.
    fn usual(self) -> Option<Algorithm> {
        match self {
            Self::Secret => Some(Algorithm::HS256),
            Self::Rsa => Some(Algorithm::RS256),
            Self::P256 => Some(Algorithm::ES256),
            Self::P384 => None,
            Self::Ed25519 => Some(Algorithm::EdDSA),
        }
    }
}

/// The algorithms that are accepted beside each kind's usual one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Algorithms {
    more: Vec<Algorithm>,
}

impl Algorithms {
    /// Parses names that are separated by commas.
    ///
    /// # Errors
    /// What is wrong with a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let more: Result<_, String> = names.map(parse).collect();
        Ok(Self { more: more? })
    }

    /// Returns the first of these algorithms that no key of a source verifies: secrets and public keys never verify
    /// each other's.
    pub(super) fn foreign(&self, is_secret: bool) -> Option<Algorithm> {
        let own: &[KeyKind] = if is_secret { &[KeyKind::Secret] } else { &PUBLIC_KINDS };
        self.more.iter().copied().find(|algorithm| !own.iter().any(|kind| kind.possible().contains(algorithm)))
    }

    /// Returns what a key of a kind verifies.
    pub(super) fn of(&self, kind: KeyKind) -> Vec<Algorithm> {
        let accepted = |algorithm: &&Algorithm| kind.usual() == Some(**algorithm) || self.more.contains(algorithm);
        kind.possible().iter().filter(accepted).copied().collect()
    }
}

fn parse(name: &str) -> Result<Algorithm, String> {
    name.parse().map_err(|_| {
        let kinds = [KeyKind::Secret].into_iter().chain(PUBLIC_KINDS);
        let known: Vec<_> = kinds.flat_map(KeyKind::possible).map(|algorithm| format!("{algorithm:?}")).collect();
        format!("{name:?} is none of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kinds_own_algorithm_is_always_accepted_and_more_where_it_can_verify_them() {
        let none = Algorithms::default();
        assert_eq!(none.of(KeyKind::Secret), [Algorithm::HS256]);
        assert_eq!(none.of(KeyKind::Rsa), [Algorithm::RS256]);
        assert_eq!(none.of(KeyKind::P384), []);
        let more = Algorithms::parse("HS512, PS256,RS512,,ES384").unwrap();
        assert_eq!(more.of(KeyKind::Secret), [Algorithm::HS256, Algorithm::HS512]);
        assert_eq!(more.of(KeyKind::Rsa), [Algorithm::RS256, Algorithm::RS512, Algorithm::PS256]);
        assert_eq!(more.of(KeyKind::P256), [Algorithm::ES256]);
        assert_eq!(more.of(KeyKind::P384), [Algorithm::ES384]);
        assert_eq!(more.of(KeyKind::Ed25519), [Algorithm::EdDSA]);
    }

    #[test]
    fn secrets_and_public_keys_are_never_mixed() {
        let of = |text| Algorithms::parse(text).unwrap();
        assert_eq!(of("HS256,HS384,HS512").foreign(true), None);
        assert_eq!(of("RS256,PS512,ES256,ES384,EdDSA").foreign(false), None);
        assert_eq!(of("HS512,RS256").foreign(true), Some(Algorithm::RS256));
        assert_eq!(of("RS512,HS256").foreign(false), Some(Algorithm::HS256));
    }

    #[test]
    fn what_is_no_algorithm_is_told_with_those_that_are() {
        for name in ["none", "hs256", "ES512", "RSA-OAEP", "HS256 HS512"] {
            let error = Algorithms::parse(name).unwrap_err();
            assert!(error.contains(name) && error.contains("HS256, HS384") && error.ends_with("EdDSA"), "{error}");
        }
    }
}
