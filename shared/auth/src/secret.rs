//! What may serve as the secret of HS256 tokens. Whoever can guess it is any user, and any administrator.

mod public;
mod sample;

use std::collections::HashSet;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jsonwebtoken::DecodingKey;

use super::{
    key_error::{KeyError, Weakness},
    rules::KeyRules,
};

/// Base64 at whose end nobody looks closely.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// The least length of a secret, in bytes: as long as the hash (RFC 7518, section 3.2).
const LEAST_BYTES: usize = 32;
/// How many different bytes it has at least. Of 32 random hexadecimal digits, fewer are among them once in millions.
const LEAST_DIFFERENT: usize = 8;

/// Makes a key of a secret. Returns with it what is weak about it, where that is allowed.
///
/// # Errors
/// [`KeyError`] when it is empty, or one that others know or can find.
pub(super) fn hmac_key(text: &[u8], rules: &KeyRules) -> Result<(DecodingKey, Option<Weakness>), KeyError> {
    let decoded = rules.base64_secret.then(|| decoded(text)).flatten();
    for secret in decoded.iter().map(Vec::as_slice).chain([text]) {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        if is_assignment(secret) {
            return Err(KeyError::Assignment);
        }
        if sample::is_sample(secret) {
            return Err(KeyError::Sample);
        }
        if public::is_public(secret) {
            return Err(KeyError::PemSecret);
        }
    }
    // What it is encoded in adds nothing to it.
    let secret = match &decoded {
        Some(secret) => secret,
        None if rules.base64_secret => return Err(KeyError::NotBase64),
        None => text,
    };
    let weakness = weakness(secret);
    match weakness {
        Some(weakness) if !rules.allow_weak_secret => Err(KeyError::Weak(weakness)),
        _ => Ok((DecodingKey::from_secret(secret), weakness)),
    }
}

/// Decodes a secret that is given in base64, in either alphabet, perhaps in several lines.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text: String = std::str::from_utf8(text).ok()?.split_whitespace().collect();
    from_base64(&text)
}

/// Returns whether it is the whole line of an environment file. The application signs with what is behind the sign alone.
fn is_assignment(secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(secret);
    let text = text.trim_start();
    let text = text.strip_prefix("export ").map_or(text, str::trim_start);
    text.strip_prefix("JWT_SECRET").is_some_and(|rest| rest.trim_start().starts_with(['=', ':']))
}

fn weakness(secret: &[u8]) -> Option<Weakness> {
    // An encoding of spaces or a line break add nothing.
    let different = different(secret.trim_ascii());
    if secret.len() < LEAST_BYTES {
        Some(Weakness::Short(secret.len()))
    } else if different < LEAST_DIFFERENT {
        Some(Weakness::Monotonous(different))
    } else {
        None
    }
}

/// Decodes base64 in either alphabet, with its padding or without.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.trim_end_matches('=').replace('-', "+").replace('_', "/")).ok()
}

/// Returns how many different bytes these are.
fn different(bytes: &[u8]) -> usize {
    bytes.iter().collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    use testkit::tokens::SigningKey;

    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn hmac_key(secret: &[u8], allow_weak_secret: bool) -> Result<(DecodingKey, Option<Weakness>), KeyError> {
        super::hmac_key(secret, &KeyRules { allow_weak_secret, ..KeyRules::default() })
    }

    fn of_base64(secret: &str) -> Result<Vec<u8>, KeyError> {
        let rules = KeyRules { base64_secret: true, ..KeyRules::default() };
        super::hmac_key(secret.as_bytes(), &rules).map(|(key, _)| key.try_get_as_bytes().unwrap().to_vec())
    }

    #[test]
    fn what_base64_stands_for_is_judged_in_either_alphabet() {
        let secret: Vec<u8> = (0..47).map(|number| (number * 5) ^ 0xfb).collect();
        let (standard, url_safe) = (STANDARD.encode(&secret), URL_SAFE_NO_PAD.encode(&secret));
        assert!(standard.contains('+') && standard.contains('/') && standard.ends_with('='), "{standard}");
        for text in [&standard, &url_safe, &format!("{url_safe}="), &format!(" {}\n{} \n", &standard[..20], &standard[20..])] {
            assert_eq!(of_base64(text).unwrap(), secret, "{text}");
        }
        // 44 characters, and 33 bytes; 40, and 30.
        assert!(of_base64(&STANDARD.encode(&secret[..33])).is_ok());
        assert!(matches!(of_base64(&STANDARD.encode(&secret[..30])), Err(KeyError::Weak(Weakness::Short(30)))));
        assert!(matches!(of_base64(&STANDARD.encode([7; 64])), Err(KeyError::Weak(Weakness::Monotonous(1)))));
        assert!(matches!(of_base64(&STANDARD.encode("change-me-change-me-change-me-change-me")), Err(KeyError::Sample)));
        assert!(matches!(of_base64(&STANDARD.encode(SigningKey::es256().public_key_pem())), Err(KeyError::PemSecret)));
        assert!(matches!(of_base64(SigningKey::es256().public_key_pem()), Err(KeyError::PemSecret)));
        assert!(matches!(of_base64(&format!("JWT_SECRET={standard}")), Err(KeyError::Assignment)));
        for bad in
            ["no base64 at all, but of more than 32 bytes!", &format!("{standard}A"), &format!("{}!", &standard[..40]), "Я"]
        {
            assert!(matches!(of_base64(bad), Err(KeyError::NotBase64)), "{bad}");
        }
        for empty in ["", " \n", "="] {
            assert!(matches!(of_base64(empty), Err(KeyError::Empty)), "{empty:?}");
        }
    }

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
    fn a_long_one_with_little_in_it_takes_an_operators_word_too() {
        for poor in ["a".repeat(40), "ab".repeat(40), format!("  {}\n", "0123456".repeat(8)), "\0\u{1}".repeat(32)] {
            assert!(matches!(hmac_key(poor.as_bytes(), false), Err(KeyError::Weak(Weakness::Monotonous(_)))), "{poor}");
            assert!(matches!(hmac_key(poor.as_bytes(), true), Ok((_, Some(Weakness::Monotonous(_))))), "{poor}");
        }
        assert!(matches!(hmac_key("01234567".repeat(4).as_bytes(), false), Ok((_, None))));
    }

    #[test]
    fn a_line_of_an_environment_file_is_no_secret() {
        for line in ["JWT_SECRET=", "export JWT_SECRET='", "\n JWT_SECRET = ", "JWT_SECRET: "] {
            assert!(matches!(hmac_key(format!("{line}{GOOD}").as_bytes(), true), Err(KeyError::Assignment)), "{line}");
        }
        assert!(hmac_key(format!("JWT_SECRET{GOOD}").as_bytes(), false).is_ok());
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
