//! The statements of the session that decides which partitions a process drains: it holds an advisory lock for each of
//! them, and one that all members share. The numbers are the project's own; every lock also has the hash of the ledger.

use views_core::partition::Partition;

/// The number of the lock of a server's only partition.
const WHOLE: i32 = 722_643;
/// The number of the lock of a cluster's first partition; those of the others follow.
const FIRST_OF_CLUSTER: i32 = 722_643_000;
/// The number of the lock that all members share that drain a server without a cluster.
const MEMBER: i32 = 722_645;
/// The same of a cluster. While views are moved from the one to the other, both drain into one ledger.
const MEMBER_OF_CLUSTER: i32 = 722_646;

/// Has the server notice within seconds when the session's machine is gone without a word, so that its locks are free.
pub const SESSION: &str = "\
-- lease session
SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 2; SET tcp_user_timeout = 7000";

/// Shows others that this session stands by to drain the ledger `$1`, or drains: any number hold this lock at once, and
/// nobody waits for it.
pub const BE_PRESENT: &str = "-- be present\nSELECT pg_try_advisory_lock_shared(722644, hashtext($1))";

/// Has this session count where the partitions of the ledger `$1` are shared out among those who share the lock `$2`.
pub const JOIN: &str = "-- join\nSELECT pg_try_advisory_lock_shared($2::int4, hashtext($1))";

/// Has it count no longer.
pub const LEAVE: &str = "-- leave\nSELECT pg_advisory_unlock_shared($2::int4, hashtext($1))";

/// Who holds which of these locks over the ledger `$1`: the number of the lock, and the backend.
pub const HOLDERS: &str = "\
-- lease holders
SELECT l.classid::int8, l.pid FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND (l.classid IN (722643, 722645, 722646) OR l.classid BETWEEN 722643000 AND 722643255)
  AND l.objid::int8 = (hashtext($1)::int8 & 4294967295)
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())";

/// Takes those of the locks `$2` over the ledger `$1` that no other session holds. Gives each with whether this one has
/// it now.
pub const TAKE: &str = "\
-- take leases
SELECT wanted.number, pg_try_advisory_lock(wanted.number, hashtext($1)) FROM unnest($2::int4[]) AS wanted(number)";

/// Gives the locks `$2` over the ledger `$1` back.
pub const GIVE_BACK: &str = "\
-- give leases back
SELECT pg_advisory_unlock(given.number, hashtext($1)) FROM unnest($2::int4[]) AS given(number)";

/// Names a session, for whoever looks at `pg_stat_activity`.
pub const NAME_SESSION: &str = "-- name session\nSELECT set_config('application_name', $1, false)";

/// Gives a session back the name that it had at first.
pub const UNNAME_SESSION: &str = "-- unname session\nRESET application_name";

/// The numbers of all such locks that the session of the backend `$1` holds.
pub const HELD_BY: &str = "\
-- leases held by
SELECT l.classid::int8 FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid = $1::int4
  AND (l.classid = 722643 OR l.classid BETWEEN 722643000 AND 722643255)";

/// Returns the number of a partition's lock.
#[must_use]
pub fn number(partition: Partition, is_in_cluster: bool) -> i32 {
    if is_in_cluster { FIRST_OF_CLUSTER + i32::from(partition.number()) } else { WHOLE }
}

/// Returns the partition whose lock has a number.
#[must_use]
pub fn partition(number: i64, is_in_cluster: bool) -> Option<Partition> {
    if !is_in_cluster {
        return (number == i64::from(WHOLE)).then_some(Partition::WHOLE);
    }
    let mut partitions = Partition::of_cluster().chain([Partition::LEGACY]);
    partitions.find(|partition| i64::from(self::number(*partition, true)) == number)
}

/// Returns the number of the lock that all members share.
#[must_use]
pub fn member_number(is_in_cluster: bool) -> i32 {
    if is_in_cluster { MEMBER_OF_CLUSTER } else { MEMBER }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions that know of no partitions take the same lock.
    #[test]
    fn the_lock_of_a_server_without_a_cluster_is_what_it_was() {
        assert_eq!(number(Partition::WHOLE, false), 722_643);
        assert_eq!(number(Partition::LEGACY, true), 722_643_064);
        for partition in Partition::of_cluster().chain([Partition::LEGACY]) {
            assert_eq!(self::partition(number(partition, true).into(), true), Some(partition));
        }
        assert_eq!([partition(722_643, false), partition(722_643, true)], [Some(Partition::WHOLE), None]);
    }
}
