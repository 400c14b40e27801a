//! Sets of public keys in JSON (RFC 7517), as issuers publish them and rotate their keys by.
//!
//! A set is for whoever its issuer deals with, and holds keys for other ends, of other kinds, or of tomorrow. Those are
//! left out. What must not be there at all (a private key, a secret, a key that can be broken) refuses a file, which an
//! operator can mend; of what an issuer publishes, the rest still serves.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    algorithms::{Algorithms, KeyKind},
    key::Key,
    pem::RSA_BITS,
};

/// How many keys a set may have. Large issuers have about ten, and a token without an id is tried with all.
const MAX_KEYS: usize = 100;
/// How much of a key's id is shown, in characters.
const SHOWN: usize = 64;
/// What only private keys have (RFC 7518, sections 6.2.2 and 6.3.2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// What is wrong with a set. Never repeats what is in it but for ids of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is something else.
    #[error("is no JSON Web Key Set, which is an object with an array of `keys`")]
    NotSet,
    /// It has more keys than anybody needs.
    #[error("has more than 100 keys")]
    TooMany,
    /// None of its keys can be used.
    #[error("has no key that verifies tokens{0}")]
    NoKey(String),
    /// A key must not be in it.
    #[error("the key {0} {1}")]
    Key(String, KeyFault),
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFault {
    /// It is a private key.
    Private,
    /// It is a secret.
    Secret,
    /// RSA, too small or too large. With its bits.
    RsaSize(usize),
    /// It is not what it says it is.
    Broken,
    /// It is of a kind that is not known here.
    Unknown,
    /// It verifies what is not accepted.
    Algorithm(String),
}

impl KeyFault {
    /// Returns whether such a key must not be in a file.
    fn is_grave(&self) -> bool {
        matches!(self, Self::Private | Self::Secret | Self::RsaSize(_))
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("is a private key, which belongs to whoever signs the tokens, and is nobody's secret any more"),
            Self::Secret => f.write_str(
                "is a secret, which does not belong among public keys: it goes into --jwt-secret-file (its `k`, with --jwt-secret-encoding base64)",
            ),
            Self::RsaSize(bits) => write!(f, "is an RSA key of {bits} bits: it must have 2048 to 8192"),
            Self::Broken => f.write_str("cannot be read"),
            Self::Unknown => f.write_str("is of another kind than RSA, P-256, P-384 and Ed25519"),
            Self::Algorithm(name) => write!(f, "verifies {name} only, which --jwt-algorithms {name} accepts where it can be"),
        }
    }
}

/// A set as far as it can be used.
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// What was left out, and why.
    pub(super) left_out: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// Reads a set. With `is_strict`, a key that must not be there refuses it.
///
/// # Errors
/// [`KeySetError`] when it is no set, or none of its keys can be used.
pub(super) fn read(document: &[u8], algorithms: &Algorithms, is_strict: bool) -> Result<KeySet, KeySetError> {
    let Document { keys: found } = serde_json::from_slice(document).map_err(|_| KeySetError::NotSet)?;
    if found.len() > MAX_KEYS {
        return Err(KeySetError::TooMany);
    }
    let mut set = KeySet { keys: Vec::new(), left_out: Vec::new() };
    for (number, value) in (1..).zip(&found) {
        match key(value, algorithms) {
            Ok(key) => set.keys.extend(key),
            Err(fault) if is_strict && fault.is_grave() => return Err(KeySetError::Key(name(value, number), fault)),
            Err(fault) => set.left_out.push(format!("the key {} {fault}", name(value, number))),
        }
    }
    if set.keys.is_empty() {
        let left_out = if set.left_out.is_empty() { String::new() } else { format!(": {}", set.left_out.join("; ")) };
        return Err(KeySetError::NoKey(left_out));
    }
    Ok(set)
}

/// Returns how a key is spoken of.
fn name(value: &Value, number: usize) -> String {
    match value.get("kid").and_then(Value::as_str) {
        Some(id) => format!("{:?}", id.chars().take(SHOWN).collect::<String>()),
        None => format!("number {number}"),
    }
}

/// Returns a key; `None` where it is for something else than checking tokens.
fn key(value: &Value, algorithms: &Algorithms) -> Result<Option<Key>, KeyFault> {
    if PRIVATE.iter().any(|name| value.get(name).is_some()) {
        return Err(KeyFault::Private);
    }
    if value.get("kty").is_some_and(|kind| kind == "oct") || value.get("k").is_some() {
        return Err(KeyFault::Secret);
    }
    let jwk = Jwk::deserialize(value).map_err(|_| KeyFault::Broken)?;
    let purpose = &jwk.common;
    let is_for_more = purpose.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature)
        || purpose.key_operations.as_ref().is_some_and(|deeds| !deeds.contains(&KeyOperations::Verify));
    if is_for_more {
        return Ok(None);
    }
    let (key, kind) = public_key(&jwk, value)?;
    let accepted = algorithms.of(kind);
    let algorithms = match purpose.key_algorithm {
        None if accepted.is_empty() => return Err(KeyFault::Algorithm("ES384".to_owned())),
        None => accepted,
        Some(only) => {
            let only_one =
                accepted.into_iter().filter(|algorithm| KeyAlgorithm::from(*algorithm) == only).collect::<Vec<Algorithm>>();
            if only_one.is_empty() {
                return Err(KeyFault::Algorithm(
                    value.get("alg").and_then(Value::as_str).unwrap_or_default().chars().take(SHOWN).collect(),
                ));
            }
            only_one
        }
    };
    Ok(Some(Key { key, algorithms, id: purpose.key_id.clone() }))
}

/// The library takes a key's parts as they are, whatever the curve, and would find out with the first token.
fn public_key(jwk: &Jwk, value: &Value) -> Result<(DecodingKey, KeyKind), KeyFault> {
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => KeyKind::Rsa,
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => KeyKind::P256,
            EllipticCurve::P384 => KeyKind::P384,
            _ => return Err(KeyFault::Unknown),
        },
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => KeyKind::Ed25519,
        // Of a kind that is known, something is missing.
        _ if value.get("kty").is_some_and(|kind| kind == "RSA") => return Err(KeyFault::Broken),
        _ => return Err(KeyFault::Unknown),
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyFault::Broken)?;
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => {
            let bits = bits(n);
            if u32::try_from(bits).is_ok_and(|bits| RSA_BITS.contains(&bits)) { Ok(()) } else { Err(KeyFault::RsaSize(bits)) }
        }
        DecodingKeyKind::SecretOrDer(bytes) => {
            let parsed = match kind {
                KeyKind::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
                KeyKind::P384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes),
                _ => ParsedPublicKey::new(&ED25519, bytes),
            };
            parsed.map(drop).map_err(|_| KeyFault::Broken)
        }
    }?;
    Ok((key, kind))
}

/// Returns how many bits a number has.
fn bits(number: &[u8]) -> usize {
    let digits = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::json;
    use testkit::tokens::SigningKey;

    use super::*;

    fn jwk(key: &SigningKey, more: &Value) -> Value {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    fn parse(keys: &[Value], is_strict: bool) -> Result<KeySet, KeySetError> {
        read(json!({ "keys": keys }).to_string().as_bytes(), &Algorithms::default(), is_strict)
    }

    fn faults(keys: &[Value]) -> Vec<String> {
        let good = jwk(&SigningKey::es256(), &json!({ "kid": "good" }));
        let set = parse(&[&[good], keys].concat(), false).map_err(|error| error.to_string()).unwrap();
        assert_eq!((set.keys.len(), set.keys[0].id.as_deref()), (1, Some("good")));
        set.left_out
    }

    #[test]
    fn keys_of_all_kinds_verify_what_their_kind_does_or_the_one_thing_they_say() {
        let (rsa, ec, ed) = (SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa());
        let p384 = SigningKey::es384();
        let algorithms = Algorithms::parse("RS512,PS256,ES384").unwrap();
        let keys = [
            jwk(&rsa, &json!({ "kid": "a", "use": "sig", "x5c": ["MII"], "x5t": "x", "key_ops": ["verify"] })),
            jwk(&rsa, &json!({ "kid": "b", "alg": "PS256" })),
            jwk(&ec, &json!({ "alg": "ES256" })),
            jwk(&p384, &json!({ "kid": "a" })),
            jwk(&ed, &json!({ "alg": "EdDSA", "unheard": ["of", 1] })),
        ];
        let set =
            read(json!({ "keys": keys, "more": 1 }).to_string().as_bytes(), &algorithms, true).map_err(|error| error.to_string());
        let set = set.unwrap();
        let found: Vec<_> = set.keys.iter().map(|key| (key.id.as_deref(), key.algorithms.as_slice())).collect();
        let expected: [(_, &[Algorithm]); 5] = [
            (Some("a"), &[Algorithm::RS256, Algorithm::RS512, Algorithm::PS256]),
            (Some("b"), &[Algorithm::PS256]),
            (None, &[Algorithm::ES256]),
            (Some("a"), &[Algorithm::ES384]),
            (None, &[Algorithm::EdDSA]),
        ];
        assert_eq!(found, expected);
        assert_eq!(set.left_out, [] as [&str; 0]);
    }

    #[test]
    fn keys_for_something_else_are_left_out_without_a_word() {
        let rsa = SigningKey::rs256();
        let other = [
            json!({ "use": "enc", "alg": "RSA-OAEP" }),
            json!({ "use": "tls" }),
            json!({ "key_ops": ["encrypt", "wrapKey"] }),
            json!({ "key_ops": [] }),
        ];
        assert_eq!(faults(&other.each_ref().map(|more| jwk(&rsa, more))), [] as [&str; 0]);
    }

    #[test]
    fn what_cannot_be_used_is_left_out_and_told() {
        let ec = SigningKey::es256();
        let n = |bytes: usize| testkit::tokens::base64url(&vec![0xff; bytes]);
        for (key, why) in [
            (json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" }), "is of another kind"),
            (json!({ "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" }), "is of another kind"),
            (json!({ "kty": "OKP", "crv": "Ed448", "x": "AA" }), "is of another kind"),
            (json!({ "kty": "OKP", "crv": "X25519", "x": "AA" }), "is of another kind"),
            (json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AA" }), "is of another kind"),
            (json!({}), "is of another kind"),
            (json!(7), "cannot be read"),
            (json!({ "kty": "RSA", "e": "AQAB" }), "cannot be read"),
            (json!({ "kty": "RSA", "n": "ÿ", "e": "AQAB" }), "cannot be read"),
            (json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }), "cannot be read"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" }), "cannot be read"),
            (jwk(&ec, &json!({ "kid": 7 })), "cannot be read"),
            (jwk(&ec, &json!({ "alg": "RS256" })), "verifies RS256 only"),
            (jwk(&ec, &json!({ "alg": "HS256" })), "verifies HS256 only"),
            (jwk(&SigningKey::rs256(), &json!({ "alg": "RS512" })), "verifies RS512 only"),
            (SigningKey::es384().jwk(), "verifies ES384 only"),
            (jwk(&ec, &json!({ "d": "AA" })), "is a private key"),
            (json!({ "kty": "oct", "k": n(32) }), "is a secret"),
            (json!({ "kty": "RSA", "n": n(128), "e": "AQAB" }), "is an RSA key of 1024 bits"),
            (json!({ "kty": "RSA", "n": "", "e": "AQAB" }), "is an RSA key of 0 bits"),
            (json!({ "kty": "RSA", "n": n(1025), "e": "AQAB" }), "is an RSA key of 8200 bits"),
        ] {
            let told = faults(std::slice::from_ref(&key));
            assert!(told.len() == 1 && told[0].starts_with("the key number 2 ") && told[0].contains(why), "{key}: {told:?}");
        }
        let long = faults(&[json!({ "kid": "\n".repeat(1_000) })]);
        assert_eq!(long, [format!("the key \"{}\" is of another kind than RSA, P-256, P-384 and Ed25519", "\\n".repeat(64))]);
    }

    #[test]
    fn a_file_with_what_must_not_be_there_is_refused() {
        let good = SigningKey::es256().jwk();
        for (bad, why) in [
            (jwk(&SigningKey::rs256(), &json!({ "kid": "x", "d": "AA", "use": "enc" })), KeyFault::Private),
            (json!({ "kid": "x", "kty": "oct", "k": "c2VjcmV0" }), KeyFault::Secret),
            (json!({ "kid": "x", "kty": "RSA", "n": "AQAB", "e": "AQAB" }), KeyFault::RsaSize(17)),
        ] {
            assert_eq!(parse(&[good.clone(), bad.clone()], true).map(drop), Err(KeySetError::Key("\"x\"".to_owned(), why)));
            assert!(parse(&[good.clone(), bad], false).is_ok());
        }
    }

    #[test]
    fn a_set_without_a_key_to_use_is_none() {
        for document in
            ["", "x", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":7}"#, r#"{"kid":"-----BEGIN CERTIFICATE-----"}"#, "<html>"]
        {
            assert_eq!(
                read(document.as_bytes(), &Algorithms::default(), false).map(drop),
                Err(KeySetError::NotSet),
                "{document}"
            );
        }
        assert_eq!(parse(&[], false).map(drop), Err(KeySetError::NoKey(String::new())));
        let told = parse(&[json!({ "kty": "oct", "k": "c2VjcmV0" })], false).map(drop).unwrap_err().to_string();
        assert!(told.contains("number 1 is a secret") && !told.contains("c2VjcmV0"), "{told}");
        assert_eq!(parse(&vec![SigningKey::es256().jwk(); 101], false).map(drop), Err(KeySetError::TooMany));
    }

    /// A key of any kind with fields that are right, wrong, or of other kinds.
    fn odd_key() -> impl Strategy<Value = Value> {
        let good = [SigningKey::rs256(), SigningKey::es256(), SigningKey::es384(), SigningKey::eddsa()].map(|key| key.jwk());
        let field = select(vec!["kty", "crv", "n", "e", "x", "y", "d", "k", "p", "alg", "use", "key_ops", "kid", "x5c"]);
        let value = prop_oneof![
            "(RSA|EC|OKP|oct|AKP|P-256|P-384|P-521|Ed25519|X25519|secp256k1|sig|enc|verify|HS256|RS256|PS512|ES384|EdDSA|AQAB|AA|)"
                .prop_map(Value::from),
            "[A-Za-z0-9_-]{0,90}".prop_map(Value::from),
            select(vec![json!(null), json!(7), json!([]), json!(["verify"]), json!(["sign", 1]), json!({})]),
        ];
        (select(good.to_vec()), vec((field, value), 0..4)).prop_map(|(mut key, changes)| {
            for (name, value) in changes {
                key[name] = value;
            }
            key
        })
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_set_no_secret_and_no_private_key_verifies(keys in vec(odd_key(), 0..4), is_strict in any::<bool>()) {
            let algorithms = Algorithms::parse("RS512,PS512,ES384").unwrap();
            let document = json!({ "keys": keys }).to_string();
            let is_harmless = |key: &&Value| key.get("d").is_none() && key.get("k").is_none() && key.get("p").is_none() && key["kty"] != "oct";
            if let Ok(set) = read(document.as_bytes(), &algorithms, is_strict) {
                prop_assert!(set.keys.len() <= keys.iter().filter(is_harmless).count(), "{}", document);
                for key in &set.keys {
                    let of_a_pair = key.algorithms.iter().all(|algorithm| !format!("{algorithm:?}").starts_with("HS"));
                    prop_assert!(of_a_pair && !key.algorithms.is_empty(), "{:?} of {}", key, document);
                }
            }
        }

        #[test]
        fn no_text_is_too_odd_for_a_set(text in any::<Vec<u8>>(), inner in "[\\PC\\x00-\\x1f]{0,60}") {
            let _ = read(&text, &Algorithms::default(), true);
            let _ = read(format!("{{\"keys\":[{inner}]}}").as_bytes(), &Algorithms::default(), false);
        }
    }
}
