//! Partitions: a Redis Cluster's slots in 64 ranges, each with an outbox of its own beside the posts whose views are in it.
//!
//! An outbox has the first slot of its range. So it is on the primary of its posts, unless a range is split between two,
//! and what a failover loses of the one it loses of the other. A server without a cluster has a single partition.

use crc16::{State, XMODEM};

/// How many slots a Redis Cluster has.
pub const SLOTS: u16 = 16_384;
/// How many partitions a cluster has.
const NUMBER: u8 = 64;
/// How many slots of a cluster are in one partition.
const SLOTS_EACH: u16 = SLOTS / NUMBER as u16;

/// Hash tags, of which the first has the first slot of the first partition, and so on.
const TAGS: [&str; NUMBER as usize] = [
    "1bz", "nbd", "04s", "o4m", "dlj", "3el", "003", "23e", "5nw", "bgq", "pt6", "c1x", "5j7", "7ia", "4x6", "c58", "17p", "n7n",
    "0ay", "06", "130", "30f", "0e9", "4v", "h85", "bvs", "4mt", "cdr", "qsu", "7xc", "4i4", "6jb", "fjl", "1cj", "265", "05c",
    "ng4", "9n2", "22u", "m2k", "7l1", "5og", "c0h", "49n", "7hq", "hho", "6zp", "asv", "356", "1rh", "gio", "8iq", "31v", "d8p",
    "5f", "8m1", "b3k", "092l", "6o2", "4ld", "7ys", "hym", "6kr", "abt",
];

/// The names of a cluster's partitions, for operators.
const NAMES: [&str; NUMBER as usize] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21",
    "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34", "35", "36", "37", "38", "39", "40", "41", "42",
    "43", "44", "45", "46", "47", "48", "49", "50", "51", "52", "53", "54", "55", "56", "57", "58", "59", "60", "61", "62", "63",
];

/// One of the parts that the posts are divided into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u8);

impl Partition {
    /// All that there is, without a cluster.
    pub const WHOLE: Self = Self(0);
    /// In a cluster, the outbox of the server that the keys were moved from. Nothing is added to it.
    pub const LEGACY: Self = Self(NUMBER);

    /// Returns the partition of a slot of a cluster.
    #[must_use]
    pub fn of_slot(slot: u16) -> Self {
        // There are 64 of them.
        Self((slot % SLOTS / SLOTS_EACH) as u8)
    }

    /// Returns the partitions of a cluster in their order.
    pub fn of_cluster() -> impl Iterator<Item = Self> + Clone {
        (0..NUMBER).map(Self)
    }

    /// Returns its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns its name for operators: its number or, of [`LEGACY`](Self::LEGACY), a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("legacy")
    }

    /// Returns the hash tag of its keys in a cluster; none of [`LEGACY`](Self::LEGACY).
    #[must_use]
    pub fn tag(self) -> Option<&'static str> {
        TAGS.get(usize::from(self.0)).copied()
    }
}

/// Returns the slot of a key: of what stands between its first brace and the next closing one, or of all of it where
/// there is nothing.
///
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    State::<XMODEM>::calculate(hashed(key)) % SLOTS
}

/// Returns the part of a key that its slot depends on.
#[must_use]
pub fn hashed(key: &[u8]) -> &[u8] {
    let tag = || {
        let start = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[start..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[start..start + length])
    };
    tag().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tag_has_the_first_slot_of_its_partition() {
        for (number, partition) in Partition::of_cluster().enumerate() {
            let key = format!("views:outbox:{{{}}}", partition.tag().unwrap());
            assert_eq!(usize::from(slot(key.as_bytes())), number * 256);
            assert_eq!(Partition::of_slot(slot(key.as_bytes())), partition);
        }
        assert_eq!(Partition::of_cluster().count(), 64);
        assert_eq!(Partition::of_slot(SLOTS - 1).number(), 63);
        assert_eq!(Partition::LEGACY.tag(), None);
        assert!(Partition::of_cluster().all(|partition| partition.name() == partition.number().to_string()));
        assert_eq!(Partition::LEGACY.name(), "legacy");
    }

    #[test]
    fn slots_are_those_of_redis() {
        // The example of the specification, and what `CLUSTER KEYSLOT` says.
        for (key, expected) in [("123456789", 12_739), ("foo{bar}{zap}", 5_061), ("foo{}{bar}", 8_363), ("foo{{bar}}zap", 4_015)]
        {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(slot(b"{post:7:views}:meta"), slot(b"post:7:views"));
    }
}
