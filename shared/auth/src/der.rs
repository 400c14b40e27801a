//! As much of DER (ITU-T X.690) as it takes to tell a key or a certificate from other bytes, and to find the key in a
//! certificate.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// The version of a certificate, which the oldest ones leave out.
pub(super) const EXPLICIT_0: u8 = 0xa0;

/// Returns the first element of some DER: its tag, what it holds, and what follows it.
pub(super) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
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

/// Returns the `SubjectPublicKeyInfo` of a certificate (RFC 5280, section 4.1), tag and all.
///
/// The library that verifies takes the first algorithm that it finds for the key's, which is the one that the authority
/// has signed with.
pub(super) fn key_of_certificate(certificate: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, inside, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut rest, _) = element(inside)? else { return None };
    if let (EXPLICIT_0, _, behind) = element(rest)? {
        rest = behind;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        // The number, the signature's algorithm, the issuer, the validity and the subject.
        let (found, _, behind) = element(rest)?;
        rest = (found == tag).then_some(behind)?;
    }
    let (SEQUENCE, _, behind) = element(rest)? else { return None };
    Some(&rest[..rest.len() - behind.len()])
}
