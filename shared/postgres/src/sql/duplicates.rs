//! The statements that look for a post's id that stands twice in a table where nothing keeps it unique. Each gives one
//! such id, if it finds any; all together have a bound of time.

use super::tables::Tables;

/// Rows that are looked at first, wherever they stand.
const SAMPLE: u32 = 20_000;

/// Returns the statements, the cheapest first. Without an index on the ids, one that goes through them in order would
/// sort them all.
#[must_use]
pub fn statements(tables: &Tables, has_index: bool, is_table: bool) -> [String; 2] {
    let Tables { posts, id, .. } = tables;
    let sample = format!(
        "\
-- duplicates: sample
SELECT few.id::text FROM (SELECT p.{id} AS id FROM {posts} p WHERE p.{id} IS NOT NULL LIMIT {SAMPLE}) few
GROUP BY few.id HAVING count(*) > 1 LIMIT 1"
    );
    let all = if has_index || !is_table {
        format!(
            "\
-- duplicates: in order
SELECT pair.id::text FROM (SELECT p.{id} AS id, lag(p.{id}) OVER (ORDER BY p.{id}) AS before FROM {posts} p) pair
WHERE pair.id = pair.before LIMIT 1"
        )
    } else {
        format!(
            "\
-- duplicates: twins
SELECT p.{id}::text FROM (SELECT p.tableoid AS part, p.ctid AS place, p.{id} AS id FROM {posts} p LIMIT {SAMPLE}) few
JOIN {posts} p ON p.{id} = few.id AND (p.tableoid, p.ctid) <> (few.part, few.place) LIMIT 1"
        )
    };
    [sample, all]
}
