//! The statements that make an index by which a viewer's rows are found.

use super::{
    identifier::{TableName, quote},
    types::literal,
};

/// Lets one process make the index of the ledger `$1` at a time. The number is the project's own.
pub const TRY_TO_INDEX: &str = "-- try to index\nSELECT pg_try_advisory_lock(722645, hashtext($1))";

/// Lifts the deadline of statements for a session that does nothing but this.
pub const NO_DEADLINE: &str = "-- no deadline\nSET statement_timeout = 0; SET lock_timeout = 0";

/// How far the index has come that the backend `$1` makes: what it does, what is done of that, and how much there is.
pub const PROGRESS: &str = "\
-- viewer index: progress
SELECT phase, CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END, CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END
FROM pg_catalog.pg_stat_progress_create_index WHERE pid = $1::int4";

/// The backend of this session.
pub const BACKEND: &str = "-- backend\nSELECT pg_backend_pid()";

/// Gives the indexes of the ledger (`to_regclass` of its name) and of its partitions: the table of each, whether that is
/// partitioned, its parent, and of its indexes that begin with the viewer and the time the name, whether it is valid, and
/// the parent's index that it is attached to. A table without such an index has one row without it.
#[must_use]
pub fn indexes(ledger: &TableName) -> String {
    format!(
        "\
-- viewer index: indexes
WITH RECURSIVE tables AS (
  SELECT to_regclass({ledger})::oid AS oid, NULL::oid AS parent, 0 AS depth
  UNION ALL
  SELECT h.inhrelid, h.inhparent, tables.depth + 1 FROM tables JOIN pg_catalog.pg_inherits h ON h.inhparent = tables.oid
)
SELECT n.nspname::text, c.relname::text, c.relkind = 'p', tables.depth, parent.relname::text, own.name, own.is_valid, own.attached_to
FROM tables JOIN pg_catalog.pg_class c ON c.oid = tables.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class parent ON parent.oid = tables.parent
LEFT JOIN LATERAL (
  SELECT x.relname::text AS name, i.indisvalid AND i.indisready AS is_valid,
    (SELECT p.relname::text FROM pg_catalog.pg_inherits a JOIN pg_catalog.pg_class p ON p.oid = a.inhparent WHERE a.inhrelid = i.indexrelid) AS attached_to
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
  WHERE i.indrelid = c.oid AND i.indpred IS NULL
    AND (SELECT array_agg(a.attname::text ORDER BY key.place) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS key(number, place)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.number WHERE key.place <= 2) = '{{user_id,viewed_at}}'
) own ON true
WHERE c.relkind IN ('r', 'p')
ORDER BY tables.depth, c.oid, own.name",
        ledger = literal(&ledger.to_string())
    )
}

/// Whether the name `$2` is taken in the schema `$1`.
pub const IS_TAKEN: &str = "\
-- viewer index: is taken
SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text::name AND c.relname = $2::text::name";

/// Makes an index beside whoever reads and writes, or, of a partitioned table, one that its partitions' are attached to.
#[must_use]
pub fn create(table: &TableName, is_partitioned: bool, name: &str) -> String {
    let (concurrently, only) = if is_partitioned { ("", "ONLY ") } else { ("CONCURRENTLY ", "") };
    format!(
        "-- viewer index: create\nCREATE INDEX {concurrently}{} ON {only}{table} (user_id, viewed_at DESC, post_id)",
        quote(name)
    )
}

/// Attaches the index of a partition to its parent's.
#[must_use]
pub fn attach(parent: &TableName, child: &TableName) -> String {
    format!("-- viewer index: attach\nALTER INDEX {parent} ATTACH PARTITION {child}")
}

/// Drops an index that an earlier attempt has left unfinished.
#[must_use]
pub fn drop(index: &TableName) -> String {
    format!("-- viewer index: drop\nDROP INDEX CONCURRENTLY IF EXISTS {index}")
}
