//! The types of id columns, and which ids they can hold.

use views_core::ids::is_canonical_uuid;

use super::catalogue::Column;

/// What an id column may be, for messages.
pub(super) const ID_TYPES: &str = "uuid, text, varchar, char, citext, bigint, integer or smallint";

/// The type of an id column, as far as it decides which ids can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdType {
    /// `uuid`.
    Uuid,
    /// `text`, or `varchar` with its limit in characters.
    Text {
        /// The limit, if there is one.
        longest: Option<usize>,
    },
    /// `char`, which is padded with blanks to its length. They are no part of the id.
    Padded {
        /// The length in characters.
        longest: Option<usize>,
    },
    /// `citext`, to which two ids are one that differ by their case. They are told apart all the same.
    CaseInsensitive,
    /// `smallint`, `integer` or `bigint`, with the greatest number that it holds.
    Integer {
        /// The greatest number; the least is its negative less one.
        greatest: i64,
    },
}

impl IdType {
    /// Returns the type of a column; none where ids cannot be kept in it.
    pub(super) fn of(column: &Column) -> Option<Self> {
        Some(match column.type_name.as_str() {
            "uuid" => Self::Uuid,
            "text" => Self::Text { longest: None },
            // The catalogue keeps the limit plus the four bytes of a length word.
            "varchar" => Self::Text { longest: usize::try_from(column.modifier - 4).ok() },
            "bpchar" => Self::Padded { longest: usize::try_from(column.modifier - 4).ok() },
            "citext" => Self::CaseInsensitive,
            "int8" => Self::Integer { greatest: i64::MAX },
            "int4" => Self::Integer { greatest: i32::MAX.into() },
            "int2" => Self::Integer { greatest: i16::MAX.into() },
            _ => return None,
        })
    }

    /// Returns whether a canonical id can be a value of this type. A number counts only in its shortest spelling: `007`
    /// is no post's id.
    ///
    /// This is asked for every view, so it takes no memory.
    #[must_use]
    pub fn accepts(self, id: &str) -> bool {
        match self {
            Self::Uuid => is_canonical_uuid(id.as_bytes()),
            Self::Text { longest } | Self::Padded { longest } => longest.is_none_or(|longest| id.len() <= longest),
            Self::CaseInsensitive => true,
            Self::Integer { greatest } => {
                is_shortest_number(id) && id.parse::<i64>().is_ok_and(|number| (-greatest - 1..=greatest).contains(&number))
            }
        }
    }

    /// Returns whether ids are texts, which may spell a UUID in any way.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text { .. } | Self::Padded { .. } | Self::CaseInsensitive)
    }

    /// Returns how many characters a text may have, where that is limited.
    pub(crate) fn longest(self) -> Option<usize> {
        match self {
            Self::Text { longest } | Self::Padded { longest } => longest,
            Self::Uuid | Self::CaseInsensitive | Self::Integer { .. } => None,
        }
    }

    /// Returns a value that hardly exists, as an SQL expression that can be cast to the type.
    pub(super) fn made_up(self) -> &'static str {
        match self {
            Self::Uuid => "gen_random_uuid()",
            Self::Text { .. } | Self::Padded { .. } | Self::CaseInsensitive => "'nobody'",
            Self::Integer { .. } => "1",
        }
    }

    /// As what type ids are sent where there are many of them.
    pub(super) fn sent(self) -> &'static str {
        if self == Self::Uuid { "uuid" } else { "text" }
    }

    /// Returns whether it can hold every id of another column, none of which is longer than `longest`, and both are
    /// compared by an index on this one.
    pub(super) fn holds_all_of(self, other: Self, longest: usize) -> bool {
        let is_long_enough = self.longest().is_none_or(|own| own >= other.longest().unwrap_or(longest).min(longest));
        match (self, other) {
            (Self::Text { .. }, other) => other.is_text() && is_long_enough,
            (Self::Padded { .. }, Self::Padded { .. }) => is_long_enough,
            (Self::Integer { greatest: own }, Self::Integer { greatest: theirs }) => own == theirs,
            _ => self == other,
        }
    }
}

/// Returns whether a text is a number as PostgreSQL itself would write it.
fn is_shortest_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let begins_well = match digits {
        [] => false,
        [b'0'] => text == "0",
        [first, ..] => *first != b'0',
    };
    begins_well && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_accepts_what_it_can_store_and_nothing_else() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        assert!(IdType::Uuid.accepts(uuid));
        assert!(!IdType::Uuid.accepts("42"));
        let bigint = IdType::Integer { greatest: i64::MAX };
        assert!(bigint.accepts("42") && bigint.accepts("-7") && bigint.accepts("0"));
        assert!(bigint.accepts("9223372036854775807") && bigint.accepts("-9223372036854775808"));
        assert!(!bigint.accepts("9223372036854775808") && !bigint.accepts(uuid));
        let integer = IdType::Integer { greatest: i32::MAX.into() };
        assert!(integer.accepts("2147483647") && !integer.accepts("2147483648"));
        assert!(IdType::Text { longest: None }.accepts(uuid));
        assert!(!IdType::Text { longest: Some(8) }.accepts("123456789"));
    }

    #[test]
    fn a_number_has_one_spelling() {
        let bigint = IdType::Integer { greatest: i64::MAX };
        for spelling in ["007", "-0", "00", "+7", "7 ", "0x7", "-", "", "--7", "auth0|7"] {
            assert!(!bigint.accepts(spelling), "{spelling:?}");
        }
    }

    #[test]
    fn a_ledger_may_be_as_wide_as_the_posts_or_as_any_id() {
        let text = |longest| IdType::Text { longest };
        assert!(text(None).holds_all_of(text(Some(8)), 64) && text(Some(64)).holds_all_of(text(None), 64));
        assert!(text(Some(36)).holds_all_of(text(Some(36)), 64) && text(Some(80)).holds_all_of(text(Some(200)), 64));
        assert!(!text(Some(36)).holds_all_of(text(None), 64) && !text(Some(36)).holds_all_of(text(Some(40)), 64));
        assert!(!IdType::Uuid.holds_all_of(text(None), 64));
        let padded = |longest| IdType::Padded { longest: Some(longest) };
        assert!(padded(36).holds_all_of(padded(36), 64) && text(None).holds_all_of(padded(36), 64));
        assert!(!padded(64).holds_all_of(text(None), 64) && !padded(36).holds_all_of(padded(40), 64));
        assert!(text(None).holds_all_of(IdType::CaseInsensitive, 64) && !IdType::CaseInsensitive.holds_all_of(text(None), 64));
    }
}
