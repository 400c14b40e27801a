//! The statements that compare counts, bases and the ledger, and those that set bases right.

use super::{
    adopt::Target,
    bases::{END_OF_CHUNK, Walk, truth},
    tables::Tables,
};

/// The statements of one comparison.
#[derive(Debug, Clone)]
pub struct CompareStatements {
    /// Finds posts whose counts are not their bases and what the ledger has of them, or whose bases are none. Gives the
    /// ids, the counts, the bases (NULL where none is remembered) and the numbers of the ledger's rows.
    pub walk: Walk,
    /// The same among the posts `$1`.
    pub among: String,
    /// Sets the bases of the posts `$1`, which are locked, to what the ledger does not explain of their counts. Gives
    /// their ids and bases.
    pub set_bases: String,
}

impl CompareStatements {
    /// Writes the statements.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let id = target.tables.id.to_string();
        let among = format!("WHERE p.{id} = ANY($1::text[]::{}[]) ORDER BY p.{id}", target.post_cast);
        Self {
            walk: Walk::new(&|part| compare(target, part), "p", &id, &target.post_cast),
            among: compare(target, &among),
            set_bases: set_bases(target),
        }
    }
}

fn compare(target: &Target, part: &str) -> String {
    let Tables { posts, id, ledger, base, .. } = &target.tables;
    let (views, join_counts, truth) = (target.tables.views(), target.tables.join_counts(), truth(target.most_views));
    let all = |column: &str| format!("(SELECT coalesce(array_agg({column} ORDER BY d.id), '{{}}') FROM different d)");
    format!(
        "\
-- compare counts
WITH chunk AS MATERIALIZED (
  SELECT p.{id} AS id, {views} AS views FROM {posts} p{join_counts} {part}
), known AS MATERIALIZED (
  SELECT chunk.id, chunk.views, b.base, (SELECT count(*) FROM {ledger} v WHERE v.post_id = chunk.id) AS stored
  FROM chunk LEFT JOIN {base} b ON b.post_id = chunk.id
), different AS MATERIALIZED (
  SELECT known.id, known.views, known.base, known.stored FROM known
  WHERE known.views <> {truth} OR known.base < 0 OR (known.base IS NULL AND known.views > known.stored)
)
SELECT {END_OF_CHUNK}, {ids}, {counts}, {bases}, {rows}",
        ids = all("d.id::text"),
        counts = all("d.views"),
        bases = all("d.base"),
        rows = all("d.stored"),
    )
}

fn set_bases(target: &Target) -> String {
    let Tables { ledger, base, .. } = &target.tables;
    let (counted, counted_id, views) = (target.tables.counted(), target.tables.counted_id(), target.tables.views_of("n"));
    format!(
        "\
-- set bases
INSERT INTO {base} (post_id, base)
SELECT n.{counted_id}, greatest({views} - (SELECT count(*) FROM {ledger} v WHERE v.post_id = n.{counted_id}), 0)
FROM {counted} n WHERE n.{counted_id} = ANY($1::text[]::{post}[]) ORDER BY n.{counted_id}
ON CONFLICT (post_id) DO UPDATE SET base = excluded.base
RETURNING post_id::text, base",
        post = target.post_cast,
    )
}
