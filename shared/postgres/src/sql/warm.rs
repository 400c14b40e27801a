//! The statements that choose the posts which are loaded into Redis before anybody asks for them.

use super::identifier::TableName;

/// Gives those of the columns `$2` that the table `$1` (quoted) has, in that order, each with its type, and whether this
/// role may read it.
pub const COLUMNS: &str = "\
-- warm: columns
SELECT a.attname::text, t.typname::text, has_column_privilege(a.attrelid, a.attnum, 'SELECT')
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attname = ANY($2::text[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY array_position($2::text[], a.attname::text)";

/// Returns the statement that gives the ids of the `$1` posts with the greatest values of a column, the greatest first,
/// in lists of up to `$2`. The columns are quoted.
///
/// Where the column has an index, that is read backwards, as far as it is needed. Otherwise all of the table is read
/// once, and no more than `$1` posts of it are kept.
#[must_use]
pub fn greatest(table: &TableName, id: &str, column: &str) -> String {
    format!(
        "\
-- warm: greatest
SELECT array_agg(placed.id ORDER BY placed.place)
FROM (
  SELECT chosen.id, row_number() OVER () - 1 AS place
  FROM (SELECT p.{id}::text AS id FROM {table} p WHERE p.{column} IS NOT NULL ORDER BY p.{column} DESC LIMIT $1::int8) chosen
) placed
GROUP BY placed.place / $2::int8 ORDER BY placed.place / $2::int8"
    )
}
