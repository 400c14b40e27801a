//! Keys of a pair and certificates, in whatever wrapping they come. Whoever may know such a thing could sign with it,
//! if it were the secret.
//!
//! What an encoding hides is decoded and looked at again, and random bytes, their encodings and passphrases are left
//! alone: each mark is one that they do not bear by chance.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};

use super::from_base64;
use crate::der::{EXPLICIT_0, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, element};

/// How many encodings are taken off: base64 of a PEM block is two of them already.
const MOST_WRAPPINGS: usize = 4;
/// The shortest text that can be a key's encoding, in characters: an Ed25519 key without its algorithm cannot be told
/// from random bytes.
const LEAST_ENCODED: usize = 40;
/// The shortest DER of a key, in bytes: an Ed25519 public key has 44, an elliptic curve's private one more than 38.
const LEAST_DER: usize = 38;

/// The algorithms of keys, as DER names them: RSA and its kin (PKCS#1), elliptic curves, Ed25519, Ed448 and X25519.
const ALGORITHMS: [&[u8]; 5] = [
    b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01",
    b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01",
    b"\x30\x05\x06\x03\x2b\x65\x70",
    b"\x30\x05\x06\x03\x2b\x65\x71",
    b"\x30\x05\x06\x03\x2b\x65\x6e",
];

/// What the names of OpenSSH's kinds of keys begin with.
const SSH_KINDS: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

/// Returns whether these bytes are a key of a pair or a certificate, or hold one, however it is encoded.
pub(super) fn is_public(secret: &[u8]) -> bool {
    is_marked(secret, MOST_WRAPPINGS)
}

fn is_marked(bytes: &[u8], wrappings: usize) -> bool {
    if is_der_key(bytes) || is_ssh_key(bytes) || is_point(bytes) || ALGORITHMS.iter().any(|mark| contains(bytes, mark)) {
        return true;
    }
    // UTF-16 is ASCII with a NUL beside each letter, and a mark before the first.
    let text =
        [&b"\xff\xfe"[..], b"\xfe\xff", b"\xef\xbb\xbf"].iter().find_map(|mark| bytes.strip_prefix(*mark)).unwrap_or(bytes);
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&text);
    if is_pem(&text) || is_told_in_words(&text) || is_ssh_line(&text) || is_jwk(&text) {
        return true;
    }
    wrappings > 0 && decoded(&text).any(|bytes| is_marked(&bytes, wrappings - 1))
}

/// Returns what a text may be the encoding of: all of it, and each run of letters that is long enough.
fn decoded(text: &str) -> impl Iterator<Item = Vec<u8>> {
    // Line breaks come escaped, too, as in environment files.
    let bare: String = text.replace("\\r", "").replace("\\n", "").split_whitespace().collect();
    let hex: String = bare.replace("\\x", "").replace("0x", "").chars().filter(|letter| !":,-".contains(*letter)).collect();
    let runs = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"+/-_".contains(letter));
    let runs: Vec<_> = runs.filter(|run| run.len() >= LEAST_ENCODED).collect();
    // Lines between others that are none, as in a block without its dashes.
    let joined = (runs.len() > 1).then(|| base64(&runs.concat())).flatten();
    let runs: Vec<_> = runs.into_iter().map(base64).collect();
    [from_hex(&hex), base64(&bare), joined].into_iter().chain(runs).flatten()
}

/// Decodes base64 in either alphabet, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_matches(['"', '\'', '=']);
    (text.len() >= LEAST_ENCODED).then(|| from_base64(text)).flatten()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() < LEAST_ENCODED || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}

/// Returns whether these bytes are one ASN.1 sequence with what keys and certificates have in it.
fn is_der_key(bytes: &[u8]) -> bool {
    let Some((SEQUENCE, inner, [])) = element(bytes).filter(|_| bytes.len() >= LEAST_DER) else { return false };
    match element(inner) {
        // The private keys of PKCS#1, PKCS#8 and SEC 1 begin with a version.
        Some((INTEGER, [0..=3], rest)) => matches!(element(rest), Some((INTEGER | SEQUENCE | OCTET_STRING, _, _))),
        // The public ones of PKCS#1 are the modulus and the exponent.
        Some((INTEGER, modulus, rest)) => {
            modulus.len() >= 32 && matches!(element(rest), Some((INTEGER, exponent, [])) if exponent.len() <= 8)
        }
        // Other public keys begin with their algorithm, certificates with what is signed.
        Some((SEQUENCE, first, rest)) => {
            element(rest).is_some()
                && matches!(element(first), Some((OBJECT_IDENTIFIER | INTEGER | EXPLICIT_0, inside, _)) if !inside.is_empty())
        }
        _ => false,
    }
}

/// Returns whether these bytes are a point on the curve P-256, uncompressed: a public key without its algorithm.
fn is_point(bytes: &[u8]) -> bool {
    bytes.len() == 65 && bytes[0] == 4 && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok()
}

/// Returns whether these bytes are OpenSSH's form of a key: its kind, behind the length of that.
fn is_ssh_key(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let length = u32::from_be_bytes(*length);
    (4..64).contains(&length) && SSH_KINDS.iter().any(|kind| rest.starts_with(kind.as_bytes()))
        || bytes.starts_with(b"openssh-key-v1\0")
}

/// Returns whether a line is one of OpenSSH's (`authorized_keys`, `known_hosts`, `id_ed25519.pub`), with whatever
/// stands before the kind.
fn is_ssh_line(text: &str) -> bool {
    let words: Vec<_> = text.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
    words.windows(2).any(|pair| SSH_KINDS.iter().any(|kind| pair[0].starts_with(kind)) && pair[1].starts_with("AAAA"))
        || text.contains("PuTTY-User-Key-File")
}

/// Returns whether there is the first line of a PEM block (RFC 7468) or of its like (RFC 4716, OpenPGP), with as many
/// dashes as were left of it.
fn is_pem(text: &str) -> bool {
    text.match_indices("BEGIN").any(|(place, _)| {
        let before = text[..place].trim_end();
        // The next dashes end the label.
        let label = text[place..].split_once("--").map_or("", |(label, _)| label);
        before.ends_with("-----") || (before.ends_with("--") && ["KEY", "CERTIFICATE"].iter().any(|kind| label.contains(kind)))
    })
}

/// Returns whether it is what openssl prints of a key for people (`-text`, `-modulus`), or XML.
fn is_told_in_words(text: &str) -> bool {
    let is_key = text.contains("Public-Key:") || text.contains("Private-Key:");
    let has_numbers = ["pub:", "priv:", "odulus:", "Exponent:"].iter().any(|name| text.contains(name));
    (is_key && has_numbers)
        || (text.contains("odulus:") && text.contains("xponent:"))
        || text.split_once("Modulus=").is_some_and(|(_, digits)| from_hex(digits.trim()).is_some())
        || (text.contains("<Modulus>") && text.contains("<Exponent>"))
}

/// Returns whether it is a JSON Web Key (RFC 7517), or a set of them, perhaps as text inside other text.
fn is_jwk(text: &str) -> bool {
    let text = text.replace(['\\', ' ', '\t', '\r', '\n'], "").replace('\'', "\"");
    let has = |name: &str| text.contains(&format!("\"{name}\":"));
    has("kty") || has("x5c") || (has("n") && has("e"))
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
    };
    use proptest::{collection::vec, prelude::*};
    use testkit::{tls::Certificates, tokens::SigningKey};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Text in lines of a length.
    fn wrapped(text: &str, width: usize, end: &str) -> String {
        text.as_bytes().chunks(width).map(|line| String::from_utf8_lossy(line).into_owned() + end).collect()
    }

    fn utf_16(text: &str) -> [Vec<u8>; 2] {
        let units: Vec<_> = std::iter::once(0xfeff).chain(text.encode_utf16()).collect();
        [units.iter().flat_map(|unit| unit.to_le_bytes()).collect(), units.iter().flat_map(|unit| unit.to_be_bytes()).collect()]
    }

    /// Returns the encodings of some bytes.
    fn encodings(bytes: &[u8]) -> Vec<Vec<u8>> {
        let base64 = STANDARD.encode(bytes);
        let mut texts = vec![
            wrapped(&base64, 64, "\n"),
            wrapped(&base64, 76, "\r\n"),
            wrapped(&base64, 64, "\\n"),
            format!("\"{base64}\"\n"),
            format!("JWT_KEY={base64}"),
            format!("{{\"key\": \"{base64}\"}}"),
            base64.trim_end_matches('=').to_owned(),
            URL_SAFE.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            hex(bytes),
            hex(bytes).to_uppercase(),
            wrapped(&hex(bytes), 60, "\n"),
            wrapped(&hex(bytes), 2, ":").trim_end_matches(':').to_owned(),
            bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
        ];
        texts.push(base64);
        texts.into_iter().map(String::into_bytes).collect()
    }

    fn assert_public(form: &[u8]) {
        assert!(is_public(form), "{}", String::from_utf8_lossy(form));
    }

    #[test]
    fn a_key_of_a_pair_is_seen_through_every_wrapping() {
        let certificates = Certificates::new();
        let mut pems: Vec<_> = [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()]
            .iter()
            .map(|key| key.public_key_pem().to_owned())
            .collect();
        pems.extend(
            [certificates.certificate_file(), certificates.key_file()].map(|file| std::fs::read_to_string(file).unwrap()),
        );
        for pem in pems {
            let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
            let der = STANDARD.decode(&body).unwrap();
            assert_public(&der);
            assert_public(pem.replace("-----", "---").as_bytes());
            assert_public(pem.replace("-----", "").as_bytes());
            let mut forms = [encodings(&der), encodings(pem.as_bytes())].concat();
            forms.extend(utf_16(&pem));
            forms.extend(utf_16(&pem).iter().flat_map(|bytes| encodings(bytes)));
            for form in forms {
                assert_public(&form);
                assert_public(STANDARD.encode(&form).as_bytes());
            }
        }
    }

    #[test]
    fn a_key_without_its_algorithm_is_known_where_it_has_a_form_of_its_own() {
        let der = |key: &SigningKey| {
            let body: String = key.public_key_pem().lines().filter(|line| !line.starts_with('-')).collect();
            STANDARD.decode(body).unwrap()
        };
        let (rsa, ec) = (der(&SigningKey::rs256()), der(&SigningKey::es256()));
        // PKCS#1, behind the algorithm, and a point of the curve.
        for key in [&rsa[24..], &ec[26..]] {
            assert_public(key);
            encodings(key).iter().for_each(|form| assert_public(form));
        }
    }

    #[test]
    fn other_programs_forms_of_a_key_are_known() {
        let n = URL_SAFE_NO_PAD.encode([7; 256]);
        let jwk = format!("{{\"kty\":\"RSA\",\"n\":\"{n}\",\"e\":\"AQAB\"}}");
        let ssh = "AAAAC3NzaC1lZDI1NTE5AAAAIGJk8wVHt0sQ3UzdyNwvyTAbpBDMjPgGn4DZ4o9Ml9V8";
        let rfc_4716 = format!("---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"x\"\n{ssh}\n---- END SSH2 PUBLIC KEY ----\n");
        for text in [
            jwk.clone(),
            format!("[{jwk}]"),
            format!("{{\"keys\": [{jwk}]}}"),
            format!("{{ \"keys\" : [ {{ \"kty\" : \"RSA\", \"n\" : \"{n}\" }} ] }}"),
            jwk.replace('"', "\\\""),
            jwk.replace('"', "'"),
            format!("{{\"n\":\"{n}\",\"e\":\"AQAB\"}}"),
            format!("ssh-ed25519 {ssh} me@here"),
            format!("restrict,pty ssh-ed25519 {ssh}"),
            format!("host.example ssh-ed25519 {ssh}\n"),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ".to_owned(),
            ssh.to_owned(),
            rfc_4716,
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF".to_owned(),
            "Public-Key: (2048 bit)\nModulus:\n    00:b1:0f:27\nExponent: 65537 (0x10001)\n".to_owned(),
            "Public-Key: (256 bit)\npub:\n    04:b1:0f:27\nASN1 OID: prime256v1\n".to_owned(),
            "ED25519 Public-Key:\npub:\n    b1:0f:27\n".to_owned(),
            format!("Modulus={}\n", hex(&[0xb1; 256]).to_uppercase()),
            "<RSAKeyValue><Modulus>sQ8n</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>".to_owned(),
        ] {
            assert_public(text.as_bytes());
            utf_16(&text).iter().for_each(|form| assert_public(form));
            encodings(text.as_bytes()).iter().filter(|_| text.len() > 40).for_each(|form| assert_public(form));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn random_bytes_and_their_encodings_are_secrets(bytes in vec(any::<u8>(), 32..200)) {
            prop_assert!(!is_public(&bytes));
            for form in encodings(&bytes) {
                prop_assert!(!is_public(&form), "{}", String::from_utf8_lossy(&form));
            }
        }

        #[test]
        fn passphrases_are_secrets(
            words in vec("[A-Za-z0-9]{1,12}|KEY|BEGIN|END|CERTIFICATE|PUBLIC|ssh-rsa|kty|Modulus|AAAA|MII|--|public key", 4..24),
            between in "[ _.:,=/+-]{1,2}",
        ) {
            let passphrase = words.join(&between);
            // What is the first line of a PEM block, or one of OpenSSH's, is no passphrase.
            let passphrase = passphrase.replace(" AAAA", " Aaaa");
            let passphrase = if passphrase.contains('-') { passphrase.replace("BEGIN", "begin") } else { passphrase };
            prop_assert!(!is_public(passphrase.as_bytes()), "{passphrase}");
        }
    }
}
