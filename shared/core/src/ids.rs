//! Post and viewer ids: what is accepted, and the one spelling in which each is kept.
//!
//! An id becomes a part of a Redis key, of a hash tag and of a stream entry, so anything that could move it to another key
//! or slot (a brace, a colon) is refused before it comes near one.

use std::fmt;

use arrayvec::ArrayString;
use uuid::Uuid;

/// The longest post id, in characters.
pub const MAX_POST_ID: usize = 64;
/// The longest viewer id, in characters.
pub const MAX_VIEWER_ID: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("the id is empty")]
    Empty,
    /// The text has more characters than an id of its kind may have.
    #[error("the id is too long")]
    TooLong,
    /// The text has a character that an id of its kind may not have.
    #[error("the id has a character that is not allowed")]
    Character,
}

/// A post's id: 1-64 characters of `[A-Za-z0-9_-]`; a UUID in its lower-case hyphenated form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PostId(ArrayString<MAX_POST_ID>);

/// A viewer's id, the token's `sub`: 1-128 printable ASCII characters without spaces; a UUID in its lower-case
/// hyphenated form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViewerId(ArrayString<MAX_VIEWER_ID>);

impl PostId {
    /// Reads a post id and brings it into its one spelling.
    ///
    /// # Errors
    /// [`IdError`] when the text is not 1-64 characters of `[A-Za-z0-9_-]`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        canonical(text, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-').map(Self)
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ViewerId {
    /// Reads a viewer id and brings it into its one spelling.
    ///
    /// # Errors
    /// [`IdError`] when the text is not 1-128 printable ASCII characters without spaces.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        canonical(text, |byte| byte.is_ascii_graphic()).map(Self)
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks length and characters, then spells a UUID (hyphenated or not, in any case) in its canonical form.
fn canonical<const N: usize>(text: &str, allowed: impl Fn(u8) -> bool) -> Result<ArrayString<N>, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    // Every id may hold what a UUID holds.
    let is_kept_as_it_is = is_canonical_uuid(text.as_bytes());
    if !is_kept_as_it_is && !text.bytes().all(allowed) {
        return Err(IdError::Character);
    }
    // Every allowed character is one byte long, so the length in bytes is the length in characters.
    let mut id = ArrayString::from(text).map_err(|_| IdError::TooLong)?;
    // The crate also reads braced and URN forms; the lengths keep those out (a viewer id may hold braces and colons).
    if !is_kept_as_it_is
        && matches!(text.len(), 32 | 36)
        && let Ok(uuid) = Uuid::try_parse(text)
    {
        let mut spelling = Uuid::encode_buffer();
        id.clear();
        id.push_str(uuid.hyphenated().encode_lower(&mut spelling));
    }
    Ok(id)
}

/// Returns whether a text is a UUID as nearly everybody sends it, and as it is kept.
#[must_use]
pub fn is_canonical_uuid(text: &[u8]) -> bool {
    const SHAPE: &[u8; 36] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    // Without a branch in it, so that the compiler looks at many characters at once: this is done for every view.
    let fits = |byte: u8, shape: u8| {
        let hexadecimal = byte.is_ascii_digit() | matches!(byte, b'a'..=b'f');
        ((shape == b'x') & hexadecimal) | ((shape == b'-') & (byte == b'-'))
    };
    text.len() == SHAPE.len() && text.iter().zip(SHAPE).fold(true, |fit, (byte, shape)| fit & fits(*byte, *shape))
}

impl fmt::Display for PostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostId({})", self.0)
    }
}

impl fmt::Display for ViewerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ViewerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ViewerId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

    #[test]
    fn two_spellings_of_one_uuid_are_one_post() {
        for spelling in [UUID, "550E8400-E29B-41D4-A716-446655440000", "550e8400e29b41d4a716446655440000"] {
            assert_eq!(PostId::parse(spelling).unwrap().as_str(), UUID);
            assert_eq!(ViewerId::parse(spelling).unwrap().as_str(), UUID);
        }
    }

    #[test]
    fn an_id_that_is_no_uuid_keeps_its_spelling() {
        for id in ["42", "Post_7-a", "ckv9QZ", "g50e8400-e29b-41d4-a716-446655440000", &"x".repeat(64)] {
            assert_eq!(PostId::parse(id).unwrap().as_str(), id);
        }
        assert_eq!(ViewerId::parse("auth0|5f7c:{8}").unwrap().as_str(), "auth0|5f7c:{8}");
    }

    #[test]
    fn what_could_move_an_id_to_another_key_is_refused() {
        for id in ["a{b", "a}b", "a:b", "a b", "a\nb", "a\0b", "é", "a/b", "a*", "{550e8400e29b41d4a716446655440000}"] {
            assert_eq!(PostId::parse(id), Err(IdError::Character), "{id:?}");
        }
        for id in ["a b", "a\tb", "a\u{7f}", "имя", "a\r\nb"] {
            assert_eq!(ViewerId::parse(id), Err(IdError::Character), "{id:?}");
        }
    }

    #[test]
    fn empty_and_overlong_ids_are_refused() {
        assert_eq!(PostId::parse(""), Err(IdError::Empty));
        assert_eq!(ViewerId::parse(""), Err(IdError::Empty));
        assert_eq!(PostId::parse(&"a".repeat(65)), Err(IdError::TooLong));
        assert!(ViewerId::parse(&"a".repeat(128)).is_ok());
        assert_eq!(ViewerId::parse(&"a".repeat(129)), Err(IdError::TooLong));
    }
}
