//! The id of an entry of a Redis stream, and the clock that it is made from.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The id of a stream entry. Orders as the stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Milliseconds since 1970, by the clock of Redis.
    pub ms: u64,
    /// A number among the entries of one millisecond.
    pub sequence: u64,
}

impl EntryId {
    /// The lowest id that an entry may have.
    pub(crate) const FIRST: Self = Self { ms: 0, sequence: 0 };
    /// The highest id that an entry may have.
    pub(crate) const LAST: Self = Self { ms: u64::MAX, sequence: u64::MAX };

    /// Returns the age of the entry, by the clock of Redis that is in its id and the local one. It is zero where the
    /// two disagree.
    pub(crate) fn age(self) -> Duration {
        let ms = now_ms().saturating_sub(i64::try_from(self.ms).unwrap_or(i64::MAX));
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// Returns the id that follows.
    pub(crate) fn next(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { ms: self.ms.saturating_add(1), sequence: 0 },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

/// The error of a text that is not the id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an entry, such as 1700000000000-0")]
pub struct NoEntryId;

impl FromStr for EntryId {
    type Err = NoEntryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Without a sign, which the numbers' own reader would take.
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (ms, sequence) = text.split_once('-').unwrap_or((text, "0"));
        let (ms, sequence) = (number(ms).ok_or(NoEntryId)?, number(sequence).ok_or(NoEntryId)?);
        Ok(Self { ms, sequence })
    }
}

/// Returns the time in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_as_the_stream_does() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-9") < id("10-0") && id("10-2") < id("10-10"));
        assert_eq!(id("10-2").to_string(), "10-2");
    }
}
