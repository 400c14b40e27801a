//! JSON Web Tokens, good and bad ones, and the keys to sign them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use jsonwebtoken::{Algorithm, EncodingKey};
use jsonwebtoken::{DecodingKey, Header, jwk::Jwk};
use serde_json::{Map, Value, json};

use crate::scratch::Scratch;

/// A secret to sign with that the programs accept: as long as it has to be, and none of a sample's.
pub const SECRET: &str = "only-for-tests:2f6c1e0b9a7d4853b1c6e0f7a94d2385";

const LIFETIME_SECONDS: i64 = 3600;

/// `{"alg":"none","typ":"JWT"}` in base64url.
const HEADER_WITHOUT_ALGORITHM: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

/// Returns a valid token for a viewer, signed with a shared secret.
pub fn hs256(secret: &str, subject: &str) -> String {
    Token::new(subject).hs256(secret)
}

/// Returns a valid token with the administrator's role, signed with a shared secret.
pub fn admin(secret: &str, subject: &str) -> String {
    Token::new(subject).claim("role", "ADMIN").hs256(secret)
}

/// A token to be signed. It starts as a valid one: `sub`, `iat`, and `exp` in an hour.
#[derive(Clone)]
pub struct Token {
    claims: Map<String, Value>,
    key_id: Option<String>,
}

impl Token {
    /// Returns a valid token for a viewer.
    pub fn new(subject: &str) -> Self {
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), json!(subject));
        claims.insert("iat".to_owned(), json!(now()));
        Self { claims, key_id: None }.expires_in(LIFETIME_SECONDS)
    }

    /// Sets a claim to any JSON value.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a claim out.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets `exp`, in seconds from now; a negative number makes the token an expired one.
    pub fn expires_in(self, seconds: i64) -> Self {
        self.claim("exp", now() + seconds)
    }

    /// Sets `nbf`, in seconds from now.
    pub fn not_before_in(self, seconds: i64) -> Self {
        self.claim("nbf", now() + seconds)
    }

    /// Names the key in the header (`kid`).
    pub fn key_id(mut self, key_id: &str) -> Self {
        self.key_id = Some(key_id.to_owned());
        self
    }

    /// Signs with a shared secret.
    pub fn hs256(&self, secret: impl AsRef<[u8]>) -> String {
        self.sign_with(Algorithm::HS256, &EncodingKey::from_secret(secret.as_ref()))
    }

    /// Signs with a private key.
    pub fn sign(&self, key: &SigningKey) -> String {
        self.sign_with(key.algorithm, &key.encoding_key)
    }

    /// Signs with a private key and another algorithm of its family than its own.
    pub fn sign_as(&self, algorithm: Algorithm, key: &SigningKey) -> String {
        self.sign_with(algorithm, &key.encoding_key)
    }

    /// Signs with any algorithm that suits the key.
    pub fn sign_with(&self, algorithm: Algorithm, key: &EncodingKey) -> String {
        let mut header = Header::new(algorithm);
        header.kid.clone_from(&self.key_id);
        jsonwebtoken::encode(&header, &self.claims, key).expect("cannot sign the token")
    }

    /// Returns a token that claims to need no signature (`"alg":"none"`).
    pub fn unsigned(&self) -> String {
        let signed = self.hs256("any");
        let claims = signed.split('.').nth(1).expect("a token has three parts");
        format!("{HEADER_WITHOUT_ALGORITHM}.{claims}.")
    }
}

/// Base64 as tokens have it: without padding, for URLs.
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |bits: u32| char::from(ALPHABET[(bits & 63) as usize]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        text.extend((0..=chunk.len()).map(|place| digit(number >> (18 - 6 * place))));
    }
    text
}

/// Returns a token with any header and a shared secret's signature (HS256), for headers that the library would not write.
pub fn with_header(header: &Value, claims: &Value, secret: &str) -> String {
    let message = [header, claims].map(|part| base64url(part.to_string().as_bytes())).join(".");
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("cannot sign the token");
    format!("{message}.{signature}")
}

/// A private key for signing and its public half, which the programs read from a PEM file.
pub struct SigningKey {
    algorithm: Algorithm,
    encoding_key: EncodingKey,
    public_key_pem: String,
    public_key_file: PathBuf,
    _scratch: Scratch,
}

impl SigningKey {
    /// Returns a new RSA key of 2048 bits.
    pub fn rs256() -> Self {
        Self::generate(Algorithm::RS256, &rcgen::PKCS_RSA_SHA256, EncodingKey::from_rsa_pem)
    }

    /// Returns a new key on the curve P-256.
    pub fn es256() -> Self {
        Self::generate(Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem)
    }

    /// Returns a new key on the curve P-384.
    pub fn es384() -> Self {
        Self::generate(Algorithm::ES384, &rcgen::PKCS_ECDSA_P384_SHA384, EncodingKey::from_ec_pem)
    }

    /// Returns a new Ed25519 key.
    pub fn eddsa() -> Self {
        Self::generate(Algorithm::EdDSA, &rcgen::PKCS_ED25519, EncodingKey::from_ed_pem)
    }

    fn generate(
        algorithm: Algorithm,
        kind: &'static rcgen::SignatureAlgorithm,
        from_pem: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Self {
        let pair = rcgen::KeyPair::generate_for(kind).expect("cannot generate a key");
        let encoding_key = from_pem(pair.serialize_pem().as_bytes()).expect("the key is valid");
        let public_key_pem = pair.public_key_pem();
        let scratch = Scratch::new();
        let public_key_file = scratch.write("public.pem", &public_key_pem);
        Self { algorithm, encoding_key, public_key_pem, public_key_file, _scratch: scratch }
    }

    /// Returns the algorithm of the tokens that this key signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the public key in PEM.
    pub fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    /// Returns the public key as an issuer publishes it (RFC 7517), with nothing beside what it is made of.
    pub fn jwk(&self) -> Value {
        let pem = self.public_key_pem.as_bytes();
        let key = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
            _ => DecodingKey::from_ec_pem(pem),
        };
        let jwk = key.and_then(|key| Jwk::from_decoding_key(&key, None)).expect("the key is valid");
        serde_json::to_value(&jwk).expect("a key has a JSON form")
    }

    /// Returns a file with the public key in PEM.
    pub fn public_key_file(&self) -> &Path {
        &self.public_key_file
    }
}

fn now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    i64::try_from(since_epoch.as_secs()).expect("the clock is right")
}
