//! Secrets that everybody can read in this project's samples.

use super::{LEAST_BYTES, LEAST_DIFFERENT, different, from_base64};

/// What this project's samples, demonstrations and tests have ever had for a secret or a password, in small letters and
/// digits alone; what holds another of them comes first.
const SAMPLES: [&str; 6] = [
    "changemetowhattheapplicationsignswith",
    "changemetolettersanddigits",
    "changeme",
    "secretsecretsecretsecret1234",
    "thesecretofaproof",
    "asecretfortestsonly",
];

/// Returns whether a secret is a sample's value, however it is written, or has one in it and too little beside: what
/// was put around it may be as good as any other secret, where there is enough of it.
pub(super) fn is_sample(secret: &[u8]) -> bool {
    let text: String = String::from_utf8_lossy(secret).split_whitespace().collect();
    is_written(secret) || from_base64(&text).is_some_and(|decoded| is_written(&decoded))
}

fn is_written(secret: &[u8]) -> bool {
    let letters = secret.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let plain: String = letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    let left = SAMPLES.iter().fold(plain.clone(), |rest, sample| rest.replace(sample, ""));
    if left.len() == plain.len() {
        return false;
    }
    // What samples are written with between their words counts for nothing.
    let signs = secret.iter().filter(|byte| !byte.is_ascii_alphanumeric() && !b"-_. \t\r\n\"'=".contains(byte));
    let left: Vec<u8> = left.bytes().chain(signs.copied()).collect();
    left.len() < LEAST_BYTES || different(&left) < LEAST_DIFFERENT
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };

    use super::*;

    const RANDOM: &str = "8f3a9c1e7b2d4f60a1c3e5f7092b4d6e";

    #[test]
    fn a_sample_is_one_with_little_beside_it() {
        for sample in [
            "change-me",
            "my-change-me",
            "prod_CHANGEME_2026!",
            "JWT-change-me-to-what-the-application-signs-with-0001",
            "the application signs: secret-secret-secret-secret-1234",
            "changeme11111111111111111111111111111111111111111111111",
            "change-me------------------------------------------------",
            "changemechangemechangemechangemechangeme",
            &format!("changeme-{}", &RANDOM[..16]),
            &format!("{}changeme", &RANDOM[1..]),
        ] {
            for form in [
                sample.to_owned(),
                STANDARD.encode(sample),
                URL_SAFE_NO_PAD.encode(sample),
                STANDARD.encode(format!("{sample}\n")),
            ] {
                assert!(is_sample(form.as_bytes()), "{form}");
            }
        }
    }

    #[test]
    fn a_secret_of_its_own_around_a_sample_is_one() {
        for secret in [
            format!("changeme-{RANDOM}"),
            format!("{RANDOM}-change-me"),
            format!("change-me-to-what-the-application-signs-with {RANDOM}"),
            format!("changeme-{}", STANDARD.encode(RANDOM)),
            "changeme~!@#$%^&*()+{}|:<>?[];,/`\\~!@#$%^&*()+".to_owned(),
            RANDOM.to_owned(),
        ] {
            for form in [secret.clone(), STANDARD.encode(&secret)] {
                assert!(!is_sample(form.as_bytes()), "{form}");
            }
        }
    }
}
