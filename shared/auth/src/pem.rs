//! Public keys in PEM (RFC 7468): any number of blocks, of mixed kinds, with text of any sort between them.
//!
//! The library that verifies looks at the first block only, takes a private key for a public one, and has a key that
//! can never verify anything fail with the first token. All of that is found here, before the key is taken into use.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RsaParameters};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};

use super::{
    algorithms::{Algorithms, KeyKind},
    der,
    key::Key,
};

/// The sizes of RSA keys that verify, in bits (RFC 7518, section 3.3, and the crypto library's own bound).
pub(super) const RSA_BITS: std::ops::RangeInclusive<u32> = 2_048..=8_192;

/// What is wrong with a file of public keys. Never repeats what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no block at all.
    #[error("holds no RSA, P-256 or Ed25519 public key in PEM form")]
    NoBlock,
    /// A block cannot be used, and with it none of the file.
    #[error("block {number} (line {line}) {why}")]
    Block {
        /// Which block, from 1 on.
        number: usize,
        /// On which line it begins, from 1 on.
        line: usize,
        /// Why.
        why: BlockError,
    },
}

/// What is wrong with one block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Its marks are not those of a block.
    #[error("does not end with the line that its first one asks for")]
    Torn,
    /// It holds a secret, which does not belong here.
    #[error("is a private key, which belongs to whoever signs the tokens: give the public key alone (openssl pkey -pubout)")]
    Private,
    /// RSA, too small or too large.
    #[error("is an RSA key of {0} bits: it must have 2048 to 8192")]
    RsaSize(u32),
    /// Its tokens are not accepted.
    #[error("is no RSA, P-256 or Ed25519 public key, but a P-384 one: --jwt-algorithms ES384 accepts its tokens")]
    P384,
    /// Anything else.
    #[error("is no RSA, P-256 or Ed25519 public key")]
    Unknown,
}

/// Reads all public keys of a file, each with the algorithms that its kind binds.
///
/// # Errors
/// [`PemError`] when there is none, or one that cannot be used: a key that is left out silently would refuse good
/// tokens.
pub(super) fn public_keys(file: &[u8], algorithms: &Algorithms) -> Result<Vec<Key>, PemError> {
    let text = String::from_utf8_lossy(file);
    let lines = numbered_lines(text.trim_start_matches('\u{feff}'));
    let mut lines = lines.iter().map(|(line, number)| (line.trim(), *number));
    let mut keys = Vec::new();
    while let Some((first, line)) = lines.by_ref().find(|(line, _)| line.contains("-----BEGIN")) {
        let number = keys.len() + 1;
        let failed = |why| PemError::Block { number, line, why };
        let label = label(first).ok_or_else(|| failed(BlockError::Torn))?;
        if label.contains("PRIVATE KEY") {
            return Err(failed(BlockError::Private));
        }
        let end = format!("-----END {label}-----");
        let mut block = format!("{first}\n");
        loop {
            let Some((next, _)) = lines.next().filter(|(next, _)| !next.contains("-----BEGIN")) else {
                return Err(failed(BlockError::Torn));
            };
            block.extend([next, "\n"]);
            if next == end {
                break;
            }
        }
        let key = if label.contains("CERTIFICATE") { certified_key(&block) } else { public_key(block.as_bytes()) };
        let (key, kind) = key.map_err(failed)?;
        let algorithms = algorithms.of(kind);
        if algorithms.is_empty() {
            return Err(failed(BlockError::P384));
        }
        keys.push(Key { key, algorithms, id: None });
    }
    if keys.is_empty() { Err(PemError::NoBlock) } else { Ok(keys) }
}

/// Returns the lines with their numbers, from 1 on, wherever each system ends them. Files that were put together
/// without a line break between them have the last line of one and the first of the next on one line, and get it back.
fn numbered_lines(text: &str) -> Vec<(String, usize)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let split = |(line, number): (&str, usize)| {
        let parts = line.replace("----------BEGIN ", "-----\n-----BEGIN ");
        parts.split('\n').map(|part| (part.to_owned(), number)).collect::<Vec<_>>()
    };
    text.split('\n').zip(1..).flat_map(split).collect()
}

/// Reads the public key of a certificate, whoever has signed it.
fn certified_key(block: &str) -> Result<(DecodingKey, KeyKind), BlockError> {
    let body: String = block.lines().filter(|line| !line.starts_with('-')).collect();
    let certificate = STANDARD.decode(body).map_err(|_| BlockError::Unknown)?;
    let key = der::key_of_certificate(&certificate).ok_or(BlockError::Unknown)?;
    public_key(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(key)).as_bytes())
}

/// Returns what a block calls itself.
fn label(line: &str) -> Option<&str> {
    line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")
}

fn public_key(block: &[u8]) -> Result<(DecodingKey, KeyKind), BlockError> {
    let rsa = || DecodingKey::from_rsa_pem(block);
    let key = rsa().or_else(|_| DecodingKey::from_ec_pem(block)).or_else(|_| DecodingKey::from_ed_pem(block));
    let key = key.map_err(|_| BlockError::Unknown)?;
    // The library that takes it apart believes what the block says of itself; the one that will verify with it does not.
    let bytes = key.try_get_as_bytes().map_err(|_| BlockError::Unknown)?;
    let kind = match key.family() {
        AlgorithmFamily::Rsa => {
            let bits = RsaParameters::public_modulus_len(bytes).map_err(|_| BlockError::Unknown)?;
            if !RSA_BITS.contains(&bits) {
                return Err(BlockError::RsaSize(bits));
            }
            KeyKind::Rsa
        }
        AlgorithmFamily::Ec if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok() => KeyKind::P256,
        AlgorithmFamily::Ec if ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes).is_ok() => KeyKind::P384,
        AlgorithmFamily::Ed if ParsedPublicKey::new(&ED25519, bytes).is_ok() => KeyKind::Ed25519,
        _ => return Err(BlockError::Unknown),
    };
    Ok((key, kind))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use testkit::tokens::SigningKey;

    use super::*;

    fn read(file: &str) -> Result<Vec<Key>, PemError> {
        public_keys(file.as_bytes(), &Algorithms::default())
    }

    fn algorithms(file: &str) -> Result<Vec<Algorithm>, PemError> {
        read(file).map(|keys| keys.into_iter().flat_map(|key| key.algorithms).collect())
    }

    #[test]
    fn keys_of_all_kinds_stand_beside_each_other_with_text_between() {
        let keys = [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()];
        let [rsa, ec, ed] = keys.each_ref().map(SigningKey::public_key_pem);
        let file = format!("\u{feff}# of this year\r\n{}\r\nold ones:\n  {ec}{ed}# the end", rsa.replace('\n', "\r\n"));
        assert_eq!(algorithms(&file), Ok(vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]));
    }

    #[test]
    fn line_breaks_of_any_sort_will_do_and_between_blocks_none() {
        let keys = [SigningKey::rs256(), SigningKey::es256(), SigningKey::eddsa()];
        let [rsa, ec, ed] = keys.each_ref().map(|key| key.public_key_pem().trim_end());
        let all = Ok(vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
        assert_eq!(algorithms(&format!("{rsa}{ec}{ed}")), all);
        assert_eq!(algorithms(&format!("{rsa}\n{ec}\n{ed}\n").replace('\n', "\r")), all);
        let private = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----";
        let error = PemError::Block { number: 2, line: ec.lines().count(), why: BlockError::Private };
        assert_eq!(algorithms(&format!("{ec}{private}")), Err(error));
    }

    #[test]
    fn the_key_of_a_certificate_is_its_own_whoever_has_signed_it() {
        let kinds = [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519];
        let expected = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
        for authority in [kinds[0], kinds[1], kinds[2], &rcgen::PKCS_ECDSA_P384_SHA384] {
            let key = rcgen::KeyPair::generate_for(authority).unwrap();
            let authority = rcgen::CertifiedIssuer::self_signed(rcgen::CertificateParams::default(), key).unwrap();
            for (kind, algorithm) in kinds.into_iter().zip(expected) {
                let key = rcgen::KeyPair::generate_for(kind).unwrap();
                let certificate = rcgen::CertificateParams::default().signed_by(&key, &authority).unwrap();
                assert_eq!(algorithms(&certificate.pem()), Ok(vec![algorithm]));
                let [certified, plain] = [certificate.pem(), key.public_key_pem()].map(|pem| read(&pem).unwrap().remove(0).key);
                assert_eq!(certified.try_get_as_bytes().unwrap(), plain.try_get_as_bytes().unwrap());
            }
        }
    }

    #[test]
    fn more_algorithms_are_those_of_the_keys_own_kind() {
        let keys = [SigningKey::rs256(), SigningKey::es256(), SigningKey::es384(), SigningKey::eddsa()];
        let file: String = keys.iter().map(SigningKey::public_key_pem).collect();
        assert!(matches!(algorithms(&file), Err(PemError::Block { number: 3, why: BlockError::P384, .. })));
        let more = Algorithms::parse("RS512,PS384,ES384").unwrap();
        let found: Vec<_> = public_keys(file.as_bytes(), &more).unwrap().into_iter().map(|key| key.algorithms).collect();
        let expected: [&[Algorithm]; 4] = [
            &[Algorithm::RS256, Algorithm::RS512, Algorithm::PS384],
            &[Algorithm::ES256],
            &[Algorithm::ES384],
            &[Algorithm::EdDSA],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_bad_block_is_named_and_refuses_the_file() {
        let good = SigningKey::es256().public_key_pem().to_owned();
        let lines = good.lines().count();
        let block = |label: &str| format!("-----BEGIN {label}-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END {label}-----\n");
        for (bad, why) in [
            (block("PRIVATE KEY"), BlockError::Private),
            (block("ENCRYPTED PRIVATE KEY"), BlockError::Private),
            (block("RSA PRIVATE KEY"), BlockError::Private),
            (block("EC PRIVATE KEY"), BlockError::Private),
            (block("OPENSSH PRIVATE KEY"), BlockError::Private),
            (block("PUBLIC KEY"), BlockError::Unknown),
            (block("EC PARAMETERS"), BlockError::Unknown),
            ("-----BEGIN PUBLIC KEY-----\nMIGH\n".to_owned(), BlockError::Torn),
            (format!("-----BEGIN PUBLIC KEY-----\nMIGH\n{good}"), BlockError::Torn),
            (format!("key={good}"), BlockError::Torn),
        ] {
            let error = PemError::Block { number: 2, line: lines + 1, why };
            assert_eq!(algorithms(&format!("{good}{bad}")), Err(error), "{bad}");
        }
        assert_eq!(algorithms("MIGH"), Err(PemError::NoBlock));
        assert_eq!(algorithms(""), Err(PemError::NoBlock));
    }
}
