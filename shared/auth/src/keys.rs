//! The keys in use. The key is chosen by its kind and, where keys have ids, by the id that a token's header names.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{
    claims,
    identity::Identity,
    key::{Key, Loaded},
    refusals::Reason,
    rules::TokenRules,
};

/// The keys in use. A token is tried with those that fit its header, one after the other.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// The algorithms of tokens that any key of the source could verify, also one that is not there yet.
    accepted: Vec<Algorithm>,
    /// Whether the keys are a set (RFC 7517), which has ids and changes while the process runs.
    is_set: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

/// What decides which keys are tried. The library does not look at `crit`, and would not see one that is null.
#[derive(Deserialize)]
struct Header {
    alg: Option<String>,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    enc: bool,
}

/// Says that a field is there, whatever its value.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// The parts of a token (RFC 7515, section 7.1).
struct Token<'t> {
    header: Header,
    /// What is signed.
    message: &'t [u8],
    payload: &'t [u8],
    signature: &'t str,
}

impl<'t> Token<'t> {
    fn parse(token: &'t [u8]) -> Result<Self, Reason> {
        let parts: Vec<_> = token.splitn(6, |byte| *byte == b'.').collect();
        let header: Option<Header> = parts.first().and_then(|part| decoded(part));
        // Nobody but its issuer can read it (RFC 7516).
        if header.as_ref().is_some_and(|header| header.enc || parts.len() == 5) {
            return Err(Reason::Encrypted);
        }
        let (&[first, payload, signature], Some(header)) = (parts.as_slice(), header) else { return Err(Reason::Malformed) };
        let signature = std::str::from_utf8(signature).map_err(|_| Reason::Malformed)?;
        Ok(Self { header, message: &token[..first.len() + 1 + payload.len()], payload, signature })
    }

    fn is_signed_by(&self, key: &DecodingKey, algorithm: Algorithm) -> Result<bool, Reason> {
        jsonwebtoken::crypto::verify(self.signature, self.message, key, algorithm).map_err(|_| Reason::Malformed)
    }
}

fn decoded<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

impl Keys {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the keys of a source.
    pub(super) fn new(loaded: Loaded, accepted: Vec<Algorithm>, is_set: bool) -> Self {
        Self { keys: loaded.keys, accepted, is_set }
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns whom a token speaks for, and until when, at a moment in seconds since 1970.
    pub(super) fn check(&self, token: &[u8], rules: &TokenRules, now: f64) -> Result<(Identity, f64), Reason> {
        let token = Token::parse(token)?;
        if token.header.crit {
            return Err(Reason::Crit);
        }
        let algorithm = token.header.alg.as_ref().and_then(|name| name.parse().ok());
        let algorithm = algorithm.filter(|algorithm| self.accepted.contains(algorithm)).ok_or(Reason::Algorithm)?;
        self.verify(&token, algorithm)?;
        let claims = decoded(token.payload).ok_or(Reason::Malformed)?;
        let until = claims::valid_until(&claims, rules, now)?;
        Ok((claims::identity(&claims, rules)?, until))
    }

    /// Demands that one of the keys has signed a token.
    fn verify(&self, token: &Token<'_>, algorithm: Algorithm) -> Result<(), Reason> {
        let (keys, is_named) = self.candidates(token.header.kid.as_deref())?;
        let mut of_algorithm = keys.into_iter().filter(|key| key.algorithms.contains(&algorithm)).peekable();
        // A set may have got a key meanwhile that nobody has told us of; one with this very id is not it.
        let unknown = self.is_set && !is_named;
        if of_algorithm.peek().is_none() {
            return Err(if unknown { Reason::UnknownKey } else { Reason::Algorithm });
        }
        for key in of_algorithm {
            if token.is_signed_by(&key.key, algorithm)? {
                return Ok(());
            }
        }
        Err(if unknown { Reason::UnknownKey } else { Reason::Signature })
    }

    /// Returns the keys that may have signed a token, and whether it names them.
    fn candidates(&self, id: Option<&str>) -> Result<(Vec<&Key>, bool), Reason> {
        if self.keys.is_empty() {
            return Err(Reason::NoKeys);
        }
        let Some(id) = id.filter(|_| self.is_set) else { return Ok((self.keys.iter().collect(), false)) };
        let with = |id: Option<&str>| self.keys.iter().filter(|key| key.id.as_deref() == id).collect::<Vec<_>>();
        let named = with(Some(id));
        if !named.is_empty() {
            return Ok((named, true));
        }
        let nameless = with(None);
        if nameless.is_empty() { Err(Reason::UnknownKey) } else { Ok((nameless, false)) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use testkit::tokens::{SigningKey, Token};

    use super::{
        super::{algorithms::Algorithms, key_set, token_cache::now},
        *,
    };

    #[test]
    fn a_key_that_can_verify_nothing_stands_in_no_others_way_and_lets_nobody_in() {
        let (broken, good) = (SigningKey::rs256(), SigningKey::rs256());
        // With this exponent, a signature would be what it signs.
        let mut odd = broken.jwk();
        odd["e"] = json!("AQ");
        let set = json!({ "keys": [odd, good.jwk()] }).to_string();
        let set = key_set::read(set.as_bytes(), &Algorithms::default(), false).map_err(|error| error.to_string()).unwrap();
        let keys = Keys::new(Loaded { keys: set.keys, warnings: set.left_out }, vec![Algorithm::RS256], true);
        let check = |key: &SigningKey| keys.check(Token::new("ann").sign(key).as_bytes(), &TokenRules::default(), now());
        assert_eq!(check(&good).unwrap().0.viewer.as_str(), "ann");
        assert_eq!(check(&broken).map(drop), Err(Reason::UnknownKey));
    }
}
