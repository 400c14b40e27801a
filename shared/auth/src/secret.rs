//! What may serve as the secret of HS256 tokens. Whoever can guess it is any user, and any administrator.

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::DecodingKey;

use super::KeyError;

/// The least length of a secret, in bytes: as long as the hash (RFC 7518, section 3.2).
pub(super) const LEAST_BYTES: usize = 32;

/// What this project's samples, demonstrations and tests have ever had for a secret or a password, in small letters and digits alone.
const SAMPLES: [&str; 6] = [
    "changeme",
    "changemetowhattheapplicationsignswith",
    "changemetolettersanddigits",
    "secretsecretsecretsecret1234",
    "thesecretofaproof",
    "asecretfortestsonly",
];

/// Makes a key of a secret.
///
/// # Errors
/// [`KeyError`] when it is empty, or one that others know or can find.
pub(super) fn hmac_key(secret: &[u8], allow_weak: bool) -> Result<DecodingKey, KeyError> {
    if secret.is_empty() {
        return Err(KeyError::Empty);
    }
    if is_sample(secret) {
        return Err(KeyError::Sample);
    }
    if is_public(secret) {
        return Err(KeyError::PemSecret);
    }
    if secret.len() < LEAST_BYTES && !allow_weak {
        return Err(KeyError::Weak(secret.len()));
    }
    Ok(DecodingKey::from_secret(secret))
}

/// Whether it is a sample's value, however it is written, or repeated to reach the length.
fn is_sample(secret: &[u8]) -> bool {
    let plain: String =
        secret.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    let repeats = |sample: &str| !plain.is_empty() && plain.replace(sample, "").is_empty();
    plain.starts_with("changeme") || SAMPLES.iter().any(|sample| repeats(sample))
}

/// Whether it is a key of a pair, or a certificate: everybody may know such a thing, and it is no secret at all.
fn is_public(secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(secret);
    let text = text.trim_start_matches('\u{feff}').trim();
    let is_ssh = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| text.starts_with(start));
    let is_jwk = text.starts_with('{') && text.contains("\"kty\"");
    // Some issuers show the inside of a PEM block alone.
    let bare: String = text.split_whitespace().collect();
    let is_body = STANDARD.decode(bare).is_ok_and(|der| is_der_key(&der));
    text.contains("-----BEGIN") || is_ssh || is_jwk || is_body || is_der_key(secret)
}

/// Whether these bytes are one ASN.1 sequence that begins as keys and certificates do. Bytes that nobody chose are so once in billions.
fn is_der_key(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    /// The version of a certificate.
    const EXPLICIT_0: u8 = 0xa0;
    let Some((SEQUENCE, inner, [])) = element(bytes) else { return false };
    match element(inner) {
        // PKCS#1, PKCS#8 and SEC 1 begin with a number.
        Some((INTEGER, number, rest)) => !number.is_empty() && element(rest).is_some(),
        // Public keys begin with their algorithm, certificates with what is signed.
        Some((SEQUENCE, first, rest)) => {
            element(rest).is_some()
                && matches!(element(first), Some((OBJECT_IDENTIFIER | INTEGER | EXPLICIT_0, inside, _)) if !inside.is_empty())
        }
        _ => false,
    }
}

/// The first element of some DER: its tag, what it holds, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (inside, rest) = rest.split_at_checked(length)?;
    Some((tag, inside, rest))
}

#[cfg(test)]
mod tests {
    use testkit::tokens::SigningKey;

    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn under_32_bytes_it_takes_an_operators_word() {
        assert!(hmac_key(GOOD.as_bytes(), false).is_ok());
        for short in [&GOOD[..31], "s", "не пароль"] {
            assert!(matches!(hmac_key(short.as_bytes(), false), Err(KeyError::Weak(_))), "{short}");
            assert!(hmac_key(short.as_bytes(), true).is_ok(), "{short}");
        }
        assert!(matches!(hmac_key(b"", true), Err(KeyError::Empty)));
    }

    #[test]
    fn what_the_samples_say_is_never_a_secret() {
        for sample in [
            "change-me",
            "changeme",
            " Change Me ",
            "CHANGE_ME",
            "change-me-to-what-the-application-signs-with",
            "change-me-to-letters-and-digits",
            "change-me-change-me-change-me-change-me",
            "changeme1234567890123456789012345678",
            "secret-secret-secret-secret-1234",
            "the-secret-of-a-proofthe-secret-of-a-proof",
            "a secret for tests only",
        ] {
            assert!(matches!(hmac_key(sample.as_bytes(), true), Err(KeyError::Sample)), "{sample}");
        }
    }

    #[test]
    fn a_key_of_a_pair_is_no_secret_in_whatever_form() {
        for key in [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()] {
            let pem = key.public_key_pem();
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let der = STANDARD.decode(&body).unwrap();
            let forms = [
                pem.as_bytes().to_vec(),
                pem.replace('\n', "\r\n").into_bytes(),
                pem.replace('\n', "\\n").into_bytes(),
                format!("\u{feff} \n{pem}").into_bytes(),
                pem.replace("PUBLIC KEY", "RSA PRIVATE KEY").into_bytes(),
                pem.replace("PUBLIC KEY", "CERTIFICATE").into_bytes(),
                body.into_bytes(),
                der,
            ];
            for form in forms {
                assert!(matches!(hmac_key(&form, true), Err(KeyError::PemSecret)), "{}", String::from_utf8_lossy(&form));
            }
        }
        for other in ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ", r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#] {
            assert!(matches!(hmac_key(other.as_bytes(), true), Err(KeyError::PemSecret)), "{other}");
        }
    }
}
