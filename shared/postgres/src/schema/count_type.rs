//! The types of count columns, and how many views they hold.

use super::catalogue::Column;

/// What a count's column may be, for messages.
pub(super) const COUNT_TYPES: &str = "bigint, integer, smallint or numeric";

/// The type of a count's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountType {
    /// The greatest count that it holds.
    pub(super) greatest: i64,
    /// Whether it may hold what is no whole number, or one beyond all integers.
    pub(super) is_numeric: bool,
}

impl CountType {
    /// A `bigint`.
    pub(super) const BIGINT: Self = Self { greatest: i64::MAX, is_numeric: false };

    /// Returns the type of a column; none where counts cannot be kept in it.
    pub(super) fn of(column: &Column) -> Option<Self> {
        let integer = |greatest| Some(Self { greatest, is_numeric: false });
        match column.type_name.as_str() {
            "int8" => Some(Self::BIGINT),
            "int4" => integer(i32::MAX.into()),
            "int2" => integer(i16::MAX.into()),
            "numeric" => Some(Self { greatest: greatest_numeric(column.modifier), is_numeric: true }),
            _ => None,
        }
    }
}

/// Returns the greatest integer of a `numeric(precision, scale)`, which the catalogue keeps in one number plus four.
fn greatest_numeric(modifier: i32) -> i64 {
    if modifier < 4 {
        return i64::MAX;
    }
    let (precision, scale) = (((modifier - 4) >> 16) & 0xffff, (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400);
    let digits = u32::try_from(precision - scale).unwrap_or(0);
    10_i64.checked_pow(digits).map_or(i64::MAX, |power| power - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_column_holds_as_many_views_as_its_digits_say() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (precision, scale, greatest) in
            [(5, 0, 99_999), (5, 2, 999), (18, 0, 999_999_999_999_999_999), (19, 0, i64::MAX), (1_000, 0, i64::MAX), (2, 4, 0)]
        {
            assert_eq!(greatest_numeric(modifier(precision, scale)), greatest, "numeric({precision}, {scale})");
        }
        assert_eq!(greatest_numeric(-1), i64::MAX);
    }
}
