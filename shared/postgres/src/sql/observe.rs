//! The statements that look at the server and at other sessions, and change nothing.

/// What the server and this session are: the version as a number and in words, whether it is a standby, whether the
/// session may not write, the clock in milliseconds since 1970, the role, and whether the connection is encrypted.
pub const SERVER_STATE: &str = "\
-- observe: server
SELECT current_setting('server_version_num')::int4, current_setting('server_version'), pg_is_in_recovery(),
  current_setting('transaction_read_only') = 'on', (extract(epoch FROM clock_timestamp()) * 1000)::int8, current_user::text,
  coalesce((SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false)";

/// The backend that serves this session.
pub const BACKEND: &str = "-- observe: backend\nSELECT pg_backend_pid()";

/// Who drains into the ledger `$1`, and who stands by: the backend, the number of the lock of a partition or of all that are
/// present, its session's name, its client's address (NULL where that is a socket, or not to be seen), and for how many
/// milliseconds it is connected.
pub const CANDIDATES: &str = "\
-- observe: candidates
SELECT l.pid, l.classid::int8, coalesce(a.application_name, ''), host(a.client_addr),
  (extract(epoch FROM clock_timestamp() - a.backend_start) * 1000)::int8
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND (l.classid IN (722643, 722644) OR l.classid BETWEEN 722643000 AND 722643255)
  AND l.objid::int8 = (hashtext($1)::int8 & 4294967295)
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
ORDER BY l.classid, l.pid";

/// Other sessions of this database that hold locks of writers on one of the tables `$1`, or do nothing in an open
/// transaction: the backend, its role, name and state, for how many milliseconds its transaction is open and its state
/// has been what it is (NULL where this role may not see that), the locks, whether one of them keeps all writers out,
/// and its transaction by the name that locks know it by, which is to be seen by every role.
pub const SESSIONS: &str = "\
-- observe: sessions
SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
  (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::int8,
  (extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::int8,
  coalesce(held.locks, '{}'), coalesce(held.keeps_out, false), coalesce(held.transaction, '')
FROM pg_catalog.pg_stat_activity a LEFT JOIN LATERAL (
  SELECT array_agg(DISTINCT l.mode || ' on ' || l.relation::regclass::text) AS locks,
    bool_or(l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) AS keeps_out,
    max(l.virtualtransaction) AS transaction
  FROM pg_catalog.pg_locks l
  WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation' AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
    AND l.database = a.datid AND l.relation IN (SELECT to_regclass(name)::oid FROM unnest($1::text[]) AS name)
) held ON true
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (held.locks IS NOT NULL OR a.state LIKE 'idle in transaction%')
ORDER BY a.xact_start NULLS LAST, a.pid LIMIT 100";
