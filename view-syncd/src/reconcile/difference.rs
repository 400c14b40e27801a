//! What differs between Redis, the ledger, bases and counts.

use serde::Serialize;

/// The kinds of differences, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The count is not base and ledger.
    WrongCount,
    /// The base is none: below zero.
    WrongBase,
    /// The set has viewers whom neither the ledger nor the outbox has.
    SetWithoutLedger,
    /// The ledger has viewers whom the set lacks, which is to have them all.
    LedgerWithoutSet,
    /// `persisted` is not the count.
    WrongPersisted,
    /// `recorded` is not the size of the set.
    WrongRecorded,
    /// `recorded` less `acked` is not what the outbox has.
    WrongAcked,
    /// The author is not that of the post.
    WrongAuthor,
    /// The outbox has pairs of a post of which Redis has nothing else, or which is gone.
    OrphanedPair,
}

/// One number or text of Redis or PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    Nothing,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) kind: Kind,
    pub(crate) post: String,
    /// What is there; of viewers and pairs, how many.
    pub(crate) found: Value,
    /// What would be right.
    pub(crate) expected: Value,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::WrongCount,
        Self::WrongBase,
        Self::SetWithoutLedger,
        Self::LedgerWithoutSet,
        Self::WrongPersisted,
        Self::WrongRecorded,
        Self::WrongAcked,
        Self::WrongAuthor,
        Self::OrphanedPair,
    ];

    /// Returns it in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::WrongCount => "wrong count",
            Self::WrongBase => "wrong base",
            Self::SetWithoutLedger => "set without ledger",
            Self::LedgerWithoutSet => "ledger without set",
            Self::WrongPersisted => "wrong persisted",
            Self::WrongRecorded => "wrong recorded",
            Self::WrongAcked => "wrong acked",
            Self::WrongAuthor => "wrong author",
            Self::OrphanedPair => "orphaned outbox pair",
        }
    }

    /// Returns whether it is about viewers or pairs, of which the number is told.
    fn is_counted(self) -> bool {
        matches!(self, Self::SetWithoutLedger | Self::LedgerWithoutSet | Self::OrphanedPair)
    }
}

impl Difference {
    /// Returns a difference of numbers.
    pub(crate) fn of_numbers(kind: Kind, post: impl Into<String>, found: i64, expected: i64) -> Self {
        Self { kind, post: post.into(), found: Value::Number(found), expected: Value::Number(expected) }
    }

    /// Returns whether another look has found the same: numbers that both move on a busy post stay as far apart.
    pub(crate) fn is_still(&self, later: &Self) -> bool {
        let same = self.kind == later.kind && self.post == later.post;
        match (&self.found, &self.expected, &later.found, &later.expected) {
            _ if !same => false,
            _ if self.kind.is_counted() => true,
            (Value::Number(found), Value::Number(expected), Value::Number(now), Value::Number(wanted)) => {
                found - expected == now - wanted
            }
            (found, expected, now, wanted) => found == now && expected == wanted,
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Value| match value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) => format!("{text:?}"),
            Value::Nothing => "nothing".to_owned(),
        };
        let (post, found) = (&self.post, text(&self.found));
        if self.kind.is_counted() {
            let what = if self.kind == Kind::OrphanedPair { "pair" } else { "viewer" };
            let s = if self.found == Value::Number(1) { "" } else { "s" };
            return write!(f, "{post}: {found} {what}{s}");
        }
        write!(f, "{post}: {found}, not {}", text(&self.expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_on_both_sides_is_the_same_difference() {
        let of = |found, expected| Difference::of_numbers(Kind::WrongRecorded, "7", found, expected);
        assert!(of(5, 6).is_still(&of(50, 51)) && !of(5, 6).is_still(&of(6, 6)));
        let viewers = |found| Difference::of_numbers(Kind::SetWithoutLedger, "7", found, 0);
        assert!(viewers(1).is_still(&viewers(2)) && !viewers(1).is_still(&of(1, 0)));
        assert_eq!(viewers(1).to_string(), "7: 1 viewer");
        assert_eq!(of(5, 6).to_string(), "7: 5, not 6");
    }
}
