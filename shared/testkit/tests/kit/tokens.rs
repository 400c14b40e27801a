//! The tokens say what they are meant to, and are signed by the key whose public half is in the file.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::Value;
use testkit::tokens::{self, SigningKey, Token};

fn decoded(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<Value, ErrorKind> {
    let mut validation = Validation::new(algorithm);
    validation.validate_nbf = true;
    decode::<Value>(token, key, &validation).map(|token| token.claims).map_err(|error| error.kind().clone())
}

#[test]
fn tokens_with_a_shared_secret_are_valid_or_odd_as_asked() {
    let key = DecodingKey::from_secret(b"secret");
    let check = |token: &str| decoded(token, Algorithm::HS256, &key);
    assert_eq!(check(&tokens::hs256("secret", "viewer")).unwrap()["sub"], "viewer");
    assert_eq!(check(&tokens::admin("secret", "root")).unwrap()["role"], "ADMIN");
    assert_eq!(check(&Token::new("v").without("sub").hs256("secret")).unwrap().get("sub"), None);
    assert_eq!(check(&Token::new("v").expires_in(-3600).hs256("secret")), Err(ErrorKind::ExpiredSignature));
    assert_eq!(check(&Token::new("v").not_before_in(3600).hs256("secret")), Err(ErrorKind::ImmatureSignature));
    assert_eq!(check(&tokens::hs256("other", "v")), Err(ErrorKind::InvalidSignature));
    assert!(check(&Token::new("v").unsigned()).is_err());
    assert_eq!(jsonwebtoken::decode_header(Token::new("v").key_id("k1").hs256("s")).unwrap().kid.as_deref(), Some("k1"));
}

#[test]
fn key_pairs_sign_what_their_public_key_file_verifies() {
    for (key, read) in [
        (SigningKey::rs256(), DecodingKey::from_rsa_pem as fn(&[u8]) -> _),
        (SigningKey::es256(), DecodingKey::from_ec_pem),
        (SigningKey::eddsa(), DecodingKey::from_ed_pem),
    ] {
        let public = read(&std::fs::read(key.public_key_file()).unwrap()).unwrap();
        let claims = decoded(&Token::new("viewer").sign(&key), key.algorithm(), &public).unwrap();
        assert_eq!(claims["sub"], "viewer");
    }
}
