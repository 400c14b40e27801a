//! Nobody gets in without a token that our key has signed, whatever they send.

#![expect(clippy::unwrap_used, reason = "clippy knows tests, but not the functions that they share")]

use std::sync::LazyLock;

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_assume, prop_oneof, proptest},
    sample::{Index, select},
};
use serde_json::{Value, json};
use testkit::{
    properties::{cases, text},
    tokens::{Algorithm, EncodingKey, SECRET, SigningKey, Token, base64url},
};
use views_auth::{AuthError, Identity, KeySource, TokenRules, Verifier};
use views_core::ids::ViewerId;

/// One verifier for each kind of key.
struct Keys {
    hs256: Verifier,
    pairs: Vec<(SigningKey, Verifier)>,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let verifier = |source| Verifier::new(source, TokenRules::default()).unwrap();
    let pairs = [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()];
    Keys {
        hs256: verifier(KeySource::Secret(SECRET.into())),
        pairs: pairs
            .map(|key| (verifier(KeySource::PublicKeyFile(key.public_key_file().to_owned())), key))
            .map(|(v, k)| (k, v))
            .into(),
    }
});

/// What each verifier says.
fn verdicts(header: &[u8]) -> Vec<Result<Identity, AuthError>> {
    let verifiers = std::iter::once(&KEYS.hs256).chain(KEYS.pairs.iter().map(|(_, verifier)| verifier));
    verifiers.map(|verifier| verifier.identify(Some(header))).collect()
}

/// `Bearer` and a token.
fn bearer(token: impl AsRef<[u8]>) -> Vec<u8> {
    [b"Bearer ", token.as_ref()].concat()
}

/// A good token for each verifier, in their order.
fn good_tokens() -> Vec<String> {
    let token = Token::new("anna").claim("role", "ADMIN");
    std::iter::once(token.hs256(SECRET)).chain(KEYS.pairs.iter().map(|(key, _)| token.sign(key))).collect()
}

/// Headers from noise to what has the form of a token, with claims that would be good and a signature that is none.
fn unsigned_header() -> impl Strategy<Value = Vec<u8>> {
    let algorithm = select(vec!["none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", "x"]);
    let forged = (algorithm, vec(any::<u8>(), 0..80), "[a-zA-Z\"{},:]{0,12}").prop_map(|(algorithm, signature, extra)| {
        let head = format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}{extra}"#);
        let claims = json!({ "sub": "anna", "role": "ADMIN", "exp": 9_999_999_999_u64 }).to_string();
        bearer(format!("{}.{}.{}", base64url(head.as_bytes()), base64url(claims.as_bytes()), base64url(&signature)))
    });
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(any::<u8>(), 0..200).prop_map(bearer),
        "(?i)bearer[ \t]{0,3}[A-Za-z0-9_.=-]{0,200}".prop_map(String::into_bytes),
        "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}".prop_map(bearer),
        forged,
    ]
}

/// One change to a token.
#[derive(Debug, Clone)]
enum Change {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Cut(Index),
    Repeat(Index),
    Swap(usize, usize),
    Drop(usize),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        // What belongs to a token changes it in ways that are harder to notice.
        let byte = || {
            prop_oneof![any::<u8>(), select(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ".to_vec())]
        };
        prop_oneof![
            (any::<Index>(), byte()).prop_map(|(place, byte)| Self::Replace(place, byte)),
            (any::<Index>(), byte()).prop_map(|(place, byte)| Self::Insert(place, byte)),
            any::<Index>().prop_map(Self::Remove),
            any::<Index>().prop_map(Self::Cut),
            any::<Index>().prop_map(Self::Repeat),
            (0_usize..3, 0_usize..3).prop_map(|(one, other)| Self::Swap(one, other)),
            (0_usize..3).prop_map(Self::Drop),
        ]
    }

    fn apply(&self, token: &str) -> Vec<u8> {
        let mut bytes = token.as_bytes().to_vec();
        let parts = || token.split('.').map(str::to_owned).collect::<Vec<_>>();
        match self {
            Self::Replace(place, byte) => bytes[place.index(token.len())] = *byte,
            Self::Insert(place, byte) => bytes.insert(place.index(token.len()), *byte),
            Self::Remove(place) => drop(bytes.remove(place.index(token.len()))),
            Self::Cut(place) => bytes.truncate(place.index(token.len())),
            Self::Repeat(place) => bytes.extend_from_within(place.index(token.len())..),
            Self::Swap(one, other) => {
                let mut parts = parts();
                parts.swap(*one, *other);
                bytes = parts.join(".").into_bytes();
            }
            Self::Drop(part) => {
                let mut parts = parts();
                parts[*part].clear();
                bytes = parts.join(".").into_bytes();
            }
        }
        bytes
    }
}

/// A claim's value, of any kind and of any size.
fn claim() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text::of_an_id().prop_map(Value::from),
        "[0-9]{1,20}".prop_map(Value::from),
        vec(any::<String>(), 0..3).prop_map(Value::from),
        Just(json!({ "$gt": "" })),
        Just(json!("ADMIN")),
        Just(json!(["ADMIN"])),
    ]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn no_header_without_a_signature_is_let_in(header in unsigned_header()) {
        for verdict in verdicts(&header) {
            prop_assert!(verdict.is_err(), "{:?}", String::from_utf8_lossy(&header));
        }
    }

    #[test]
    fn every_change_to_a_token_spoils_it(change in Change::any()) {
        for (place, token) in good_tokens().iter().enumerate() {
            let changed = change.apply(token);
            // White space around a token is not a part of it.
            prop_assume!(changed.trim_ascii() != token.as_bytes());
            prop_assert_eq!(verdicts(&bearer(token))[place].map(|identity| identity.admin), Ok(true));
            for verdict in verdicts(&bearer(&changed)) {
                prop_assert!(verdict.is_err(), "{:?} of {token}", String::from_utf8_lossy(&changed));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_public_key_is_no_secret_to_sign_with(
        kind in 0_usize..3, length in any::<Index>(), ending in select(vec!["", "\n", "\r\n", "\n\n"]),
        algorithm in select(vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]),
    ) {
        let (key, verifier) = &KEYS.pairs[kind];
        let pem = key.public_key_pem();
        let whole = format!("{}{ending}", pem.trim_end());
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for secret in [pem, &whole, &body, &pem[..length.index(pem.len()) + 1]] {
            let token = Token::new("anna").sign_with(algorithm, &EncodingKey::from_secret(secret.as_bytes()));
            prop_assert_eq!(verifier.identify(Some(&bearer(token))), Err(AuthError::Invalid));
        }
    }

    #[test]
    fn a_key_of_another_kind_or_strength_is_not_ours(sub in "[!-~]{1,20}") {
        let token = Token::new(&sub);
        let mut foreign: Vec<String> = KEYS.pairs.iter().map(|(key, _)| token.sign(key)).collect();
        let secret = EncodingKey::from_secret(SECRET.as_bytes());
        foreign.extend([Algorithm::HS384, Algorithm::HS512].map(|algorithm| token.sign_with(algorithm, &secret)));
        foreign.extend(["", " ", &SECRET.to_uppercase(), &SECRET[..SECRET.len() - 1]].map(|secret| token.hs256(secret)));
        foreign.push(token.unsigned());
        for token in foreign {
            prop_assert_eq!(KEYS.hs256.identify(Some(&bearer(token))), Err(AuthError::Invalid));
        }
        for (place, (_, verifier)) in KEYS.pairs.iter().enumerate() {
            for (other, (key, _)) in KEYS.pairs.iter().enumerate() {
                prop_assert_eq!(verifier.identify(Some(&bearer(token.sign(key)))).is_ok(), place == other);
            }
        }
    }

    #[test]
    fn a_token_says_who_and_until_when_or_it_says_nothing(
        sub in claim(), exp in claim(), nbf in claim(), role in claim(), give in any::<[bool; 4]>(),
    ) {
        let claims = [("sub", &sub), ("exp", &exp), ("nbf", &nbf), ("role", &role)];
        let token = claims.iter().zip(give).fold(Token::new("anna"), |token, ((name, value), given)| {
            if given { token.claim(name, (*value).clone()) } else { token }
        });
        if let Ok(identity) = KEYS.hs256.identify(Some(&bearer(token.hs256(SECRET)))) {
            let text = if sub.is_u64() { Some(sub.to_string()) } else { sub.as_str().map(str::to_owned) };
            let expected = if give[0] { text } else { Some("anna".to_owned()) };
            prop_assert_eq!(Some(identity.viewer), expected.and_then(|text| ViewerId::parse(&text).ok()));
            prop_assert_eq!(identity.admin, give[3] && (role == json!("ADMIN") || role == json!(["ADMIN"])));
            // A moment that is no number is no moment.
            prop_assert!(!give[1] || exp.as_f64().is_some_and(|exp| exp > 1.7e9), "exp {exp}");
            prop_assert!(!give[2] || nbf.is_null() || nbf.as_f64().is_some_and(|nbf| nbf < 1e11), "nbf {nbf}");
        }
    }

    #[test]
    fn exactly_the_viewers_that_can_be_kept_are_let_in(sub in text::of_an_id()) {
        let identity = KEYS.hs256.identify(Some(&bearer(Token::new(&sub).hs256(SECRET))));
        prop_assert_eq!(identity.ok().map(|identity| identity.viewer), ViewerId::parse(&sub).ok());
    }
}
