//! The statements that walk through all posts, a chunk at a time by their ids: bases are taken, counts are compared with
//! what they are to be.

use super::{tables::Tables, types::CastTypes};

/// The statements that walk through all posts. Each takes how many posts a chunk has at most, or which these are, and
/// gives the last id of the chunk (NULL where there is none) and the number of its posts, before what it has done.
#[derive(Debug, Clone)]
pub struct Walks {
    /// Takes the bases of posts that have none. Gives how many were taken, and the sum of them.
    pub take_bases: Walk,
    /// Removes the bases of posts that do not exist. Gives how many.
    pub sweep_bases: Walk,
    /// Takes the bases away from posts, so that their counts are to be what the ledger has.
    pub clear_bases: Walk,
    /// Finds posts whose counts are not what they are to be. Gives their ids.
    pub miscounted: Walk,
    /// Finds, among the posts `$1`, those whose counts are not what they are to be: as [`Self::miscounted`].
    pub miscounted_among: String,
    /// Locks those of the posts `$1` that nobody has locked, where their counts stand. Gives their ids.
    pub lock: String,
    /// Sets the counts of the posts `$1` to what they are to be. Gives the ids and counts of those that were not.
    pub recount: String,
}

/// One statement for the first chunk of `$1` posts, and one for the next behind the id `$2`.
#[derive(Debug, Clone)]
pub struct Walk {
    /// For the first chunk.
    pub first: String,
    /// For the next.
    pub next: String,
}

impl Walk {
    /// Writes a statement around the part that says which rows of `table` a chunk has, in the order of `id`.
    pub(super) fn new(statement: &dyn Fn(&str) -> String, table: &str, id: &str, post_cast: &str) -> Self {
        let part = |behind: &str| format!("WHERE {table}.{id} IS NOT NULL{behind} ORDER BY {table}.{id} LIMIT $1::int8");
        let behind = format!(" AND {table}.{id} > $2::text::{post_cast}");
        Self { first: statement(&part("")), next: statement(&part(&behind)) }
    }
}

impl Walks {
    /// Writes the statements.
    #[must_use]
    pub fn new(tables: &Tables, types: &CastTypes<'_>) -> Self {
        let walk = |statement: &dyn Fn(&str) -> String, table: &str, id: &str| Walk::new(statement, table, id, types.post);
        let id = tables.id.to_string();
        let among = format!("WHERE p.{id} = ANY($1::text[]::{}[]) ORDER BY p.{id}", types.post);
        Self {
            take_bases: walk(&|part| take_bases(tables, part), "p", &id),
            sweep_bases: walk(&|part| sweep_bases(tables, part), "b", "post_id"),
            clear_bases: walk(&|part| clear_bases(tables, part), "p", &id),
            miscounted: walk(&|part| miscounted(tables, types, part), "p", &id),
            miscounted_among: miscounted(tables, types, &among),
            lock: lock(tables, types),
            recount: recount(tables, types),
        }
    }
}

/// Where a chunk ends, and how many posts it has.
pub(super) const END_OF_CHUNK: &str =
    "(SELECT chunk.id::text FROM chunk ORDER BY chunk.id DESC LIMIT 1), (SELECT count(*) FROM chunk)";

fn take_bases(tables: &Tables, part: &str) -> String {
    let Tables { posts, id, ledger, base, .. } = tables;
    let (views, join_counts) = (tables.views(), tables.join_counts());
    // A post that somebody has locked against new references has its base taken by a later run.
    let is_new = format!("NOT EXISTS (SELECT FROM {base} b WHERE b.post_id = chunk.id)");
    let unlocked = if tables.bases_lock_posts {
        format!(" JOIN {posts} p ON p.{id} = chunk.id WHERE {is_new} FOR KEY SHARE OF p SKIP LOCKED")
    } else {
        format!(" WHERE {is_new}")
    };
    format!(
        "\
-- take bases
WITH chunk AS MATERIALIZED (
  SELECT p.{id} AS id, {views} AS views FROM {posts} p{join_counts} {part}
), new AS MATERIALIZED (
  SELECT chunk.id, chunk.views FROM chunk{unlocked}
), taken AS (
  INSERT INTO {base} (post_id, base)
  SELECT new.id, greatest(new.views - (SELECT count(*) FROM {ledger} v WHERE v.post_id = new.id), 0) FROM new
  ON CONFLICT DO NOTHING RETURNING base
)
SELECT {END_OF_CHUNK}, (SELECT count(*) FROM taken), (SELECT coalesce(sum(taken.base), 0)::text FROM taken)"
    )
}

fn sweep_bases(tables: &Tables, part: &str) -> String {
    let Tables { posts, id, base, .. } = tables;
    format!(
        "\
-- sweep bases
WITH chunk AS MATERIALIZED (
  SELECT b.post_id AS id FROM {base} b {part}
), swept AS (
  DELETE FROM {base} b USING chunk
  WHERE b.post_id = chunk.id AND NOT EXISTS (SELECT FROM {posts} p WHERE p.{id} = chunk.id) RETURNING 1
)
SELECT {END_OF_CHUNK}, (SELECT count(*) FROM swept)"
    )
}

fn clear_bases(tables: &Tables, part: &str) -> String {
    let Tables { posts, id, base, .. } = tables;
    let (views, join_counts) = (tables.views(), tables.join_counts());
    format!(
        "\
-- clear bases
WITH chunk AS MATERIALIZED (
  SELECT p.{id} AS id, {views} AS views FROM {posts} p{join_counts} {part}
), cleared AS (
  UPDATE {base} b SET base = 0 FROM chunk WHERE b.post_id = chunk.id AND b.base <> 0 RETURNING 1
), made AS (
  INSERT INTO {base} (post_id, base) SELECT chunk.id, 0 FROM chunk
  WHERE chunk.views <> 0 AND NOT EXISTS (SELECT FROM {base} b WHERE b.post_id = chunk.id) ORDER BY chunk.id
  ON CONFLICT DO NOTHING RETURNING 1
)
SELECT {END_OF_CHUNK}"
    )
}

/// Returns what a post's count is to be. One whose base was never remembered keeps what no row explains.
pub(super) fn truth(most_views: i64) -> String {
    // A base may be as large as numbers are, where a count is none.
    let explained = "coalesce(known.base::numeric + known.stored, greatest(known.views, known.stored))";
    format!("least({explained}, {most_views})::int8")
}

fn miscounted(tables: &Tables, types: &CastTypes<'_>, part: &str) -> String {
    let Tables { posts, id, ledger, base, .. } = tables;
    let (views, join_counts, truth) = (tables.views(), tables.join_counts(), truth(types.most_views));
    format!(
        "\
-- miscounted
WITH chunk AS MATERIALIZED (
  SELECT p.{id} AS id, {views} AS views FROM {posts} p{join_counts} {part}
), known AS (
  SELECT chunk.id, chunk.views, b.base, (SELECT count(*) FROM {ledger} v WHERE v.post_id = chunk.id) AS stored
  FROM chunk LEFT JOIN {base} b ON b.post_id = chunk.id
)
SELECT {END_OF_CHUNK}, ARRAY(SELECT known.id::text FROM known WHERE known.views <> {truth})"
    )
}

fn lock(tables: &Tables, types: &CastTypes<'_>) -> String {
    let (counted, counted_id) = (tables.counted(), tables.counted_id());
    format!(
        "\
-- lock miscounted
SELECT n.{counted_id}::text FROM {counted} n WHERE n.{counted_id} = ANY($1::text[]::{}[]) FOR NO KEY UPDATE OF n SKIP LOCKED",
        types.post
    )
}

fn recount(tables: &Tables, types: &CastTypes<'_>) -> String {
    let Tables { ledger, base, counts, .. } = tables;
    let (counted, counted_id, views, truth) =
        (tables.counted(), tables.counted_id(), tables.views_of("n"), truth(types.most_views));
    format!(
        "\
-- recount
WITH known AS MATERIALIZED (
  SELECT n.{counted_id} AS id, {views} AS views, b.base,
    (SELECT count(*) FROM {ledger} v WHERE v.post_id = n.{counted_id}) AS stored
  FROM {counted} n LEFT JOIN {base} b ON b.post_id = n.{counted_id}
  WHERE n.{counted_id} = ANY($1::text[]::{post}[])
)
UPDATE {counted} n SET {count} = {truth} FROM known WHERE n.{counted_id} = known.id AND known.views <> {truth}
RETURNING n.{counted_id}::text, {views}",
        post = types.post,
        count = counts.column
    )
}
