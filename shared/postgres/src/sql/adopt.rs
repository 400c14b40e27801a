//! The statements that bring existing views into the ledger, a chunk at a time.
//!
//! A chunk is a list of the source's keys (posts' ids, as the source has them), and of the viewers those whose hash falls
//! into one of so many parts: so a post with a million viewers is cut, too.

mod pairs;

use self::pairs::{From, Kept, STAGED, copy, elements, found, keys, table_of};
pub use self::pairs::{Origin, Raw, Target};
use super::tables::Tables;

/// Lets one adoption run at a time, over the ledger `$1`: two would take the same base for theirs. The number is the
/// project's own.
pub const TRY_TO_ADOPT: &str = "-- try to adopt\nSELECT pg_try_advisory_lock(722644, hashtext($1))";

/// What each transaction of an adoption begins with as well. A chunk's posts are looked up by their index: with the default
/// costs, a few thousand of them are worth reading all posts for each chunk.
pub const BEGIN: &str = " SET LOCAL jit = off; SET LOCAL work_mem = '64MB'; SET LOCAL random_page_cost = 1";

/// What is added where the source is to be copied, which may take longer than a statement may otherwise.
pub const BEGIN_STAGING: &str = "SET LOCAL statement_timeout = 0; SET LOCAL maintenance_work_mem = '256MB'";

/// Whether this role may make temporary tables, and the right that it needs for that.
pub const MAY_STAGE: &str = "\
-- adopt: may stage
SELECT has_database_privilege(current_database(), 'TEMPORARY'),
  format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user)";

/// Empties the copy of a post's pairs.
pub const EMPTY_COPY: &str = "TRUNCATE pg_temp.post_to_adopt";

/// Tells the planner what is in it.
pub const ANALYZE_COPY: &str = "ANALYZE pg_temp.post_to_adopt";

/// What the count of a post is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// What it is, as long as that is at least what the ledger explains.
    Keep,
    /// What the ledger explains.
    Ledger,
}

/// The statements of one adoption. Those of a chunk adopt, or look at, the pairs of part `$2` of `$1`, of the keys `$3`.
#[derive(Debug, Clone)]
pub struct AdoptStatements {
    /// Copies the source in the order of its posts, where it has no index for that.
    pub stage: Option<String>,
    /// Gives the next `$2` rows behind the key `$1`, as keys in their order and how many pairs each of them has. Of the
    /// array of a posts table, a row is a post.
    pub next: String,
    /// Counts the pairs without a post: those without a viewer, and the others.
    pub without_post: Option<String>,
    /// Makes the rows that the posts of a chunk lack in the table of counts (`$1` and `$2` are not looked at); none where the
    /// counts stand in the posts table.
    pub make_counts: Option<String>,
    /// Makes an empty copy for the pairs of a post that is cut.
    pub make_copy: String,
    /// Fills it with those of the keys `$1`.
    pub copy: String,
    /// What is done with a chunk.
    pub of_source: ChunkStatements,
    /// The same with a part of the post that was copied.
    pub of_copy: ChunkStatements,
}

/// What is done with a chunk.
#[derive(Debug, Clone)]
pub struct ChunkStatements {
    /// Adopts, and is refused where somebody has just stored one of the pairs.
    pub alone: String,
    /// Adopts, and passes over what somebody has just stored.
    pub beside: String,
    /// Tells the same numbers, and adopts nothing.
    pub look: String,
    /// Gives the adopted viewers, as post and viewer.
    pub adopted: String,
}

impl AdoptStatements {
    /// Writes the statements. `raw` says what the source's viewers are.
    #[must_use]
    pub fn new(target: &Target, origin: &Origin, raw: Raw, counting: Counting) -> Self {
        let [make_copy, copy] = copy(target, origin, raw);
        let chunks = |from| {
            let chunk = |kept, last: String| format!("-- adopt\nWITH {}{last}", found(target, origin, raw, from, kept));
            ChunkStatements {
                alone: chunk(Kept::New, adopt(target, counting, "")),
                beside: chunk(Kept::New, adopt(target, counting, "\n  ON CONFLICT DO NOTHING")),
                look: chunk(Kept::New, look()),
                adopted: chunk(Kept::Repeated, adopted()),
            }
        };
        Self {
            stage: stage(origin),
            next: next(target, origin, raw),
            without_post: without_post(origin),
            make_counts: make_counts(target, origin),
            make_copy,
            copy,
            of_source: chunks(From::Source),
            of_copy: chunks(From::Copy),
        }
    }
}

/// Adds up the first columns of what a chunk tells: its pairs, those without viewer, without post, that do not fit, the
/// authors' own, and the posts.
const TALLY: &str = "\
coalesce(sum(found.pairs), 0)::int8, coalesce(sum(found.no_viewer), 0)::int8, coalesce(sum(found.unknown_post), 0)::int8,
  coalesce(sum(found.unfit), 0)::int8, coalesce(sum(found.own), 0)::int8, count(found.post) FILTER (WHERE found.pairs > 0)";

/// Tells the numbers of a chunk, and how many pairs would be new.
fn look() -> String {
    format!("\nSELECT {TALLY}, coalesce(sum(found.n), 0)::int8, 0::int8 FROM found")
}

/// Tells the numbers of a chunk and adopts what is new: of the posts whose rows nobody has locked, and whose counts have
/// room. `$4` is the count of its only post that is known to be explained by the ledger. Gives how many pairs were new,
/// how many those of other posts are, these posts, of each changed post its id and its count now, and the greatest of the
/// counts that are explained now.
///
/// What is to be looked for in a chunk's own posts stands in `IN (…) IS TRUE`, which is a hash table, or is added up: no
/// plan can foresee how many they are, and a join made for a few would compare each with each.
///
/// All that a count is made from (itself, its base, the rows of the ledger) is of the moment of the statement's
/// snapshot; what is written is the difference, so that what others have written by the time of the lock stays.
fn adopt(target: &Target, counting: Counting, on_conflict: &str) -> String {
    let Target { tables, most_views, post_cast, .. } = target;
    let Tables { posts, id, ledger, base, .. } = tables;
    let (counted, counted_id, join_counts, views) = (tables.counted(), tables.counted_id(), tables.join_counts(), tables.views());
    let (count, lock_posts) = (&tables.counts.column, tables.lock_posts());
    let (new_views, raw_views) = (tables.views_of("n"), tables.raw_views_of("n"));
    let row = if join_counts.is_empty() { "p" } else { "c" };
    let join_posts = if lock_posts.is_empty() { String::new() } else { format!(" JOIN {posts} p ON p.{id} = found.post") };
    // Of a post that the ledger has nothing of, nothing has to be counted; nor of one whose count is what it was when its last
    // part had been adopted, and has been explained.
    let rows = format!("CASE WHEN added.is_seen THEN (SELECT count(*) FROM {ledger} v WHERE v.post_id = added.post) ELSE 0 END");
    let change = match counting {
        Counting::Keep => "old.n - least(old.n, old.base)",
        Counting::Ledger => "old.rows + old.n - old.views",
    };
    let eaten = match counting {
        Counting::Keep => "least(old.n, old.base)",
        Counting::Ledger => "old.base",
    };
    format!(
        "\
, locked AS MATERIALIZED (
  SELECT found.post, found.n, found.views, found.is_seen, {views} AS newest
  FROM found JOIN {counted} {row} ON {row}.{counted_id} = found.post{join_posts}
  WHERE found.n > 0
  FOR NO KEY UPDATE OF {row} SKIP LOCKED{lock_posts}
), open AS MATERIALIZED (
  SELECT locked.post, locked.views, locked.is_seen FROM locked WHERE locked.newest <= {most_views} - locked.n
), shut AS MATERIALIZED (
  SELECT found.post, found.n FROM found WHERE found.n > 0 AND (found.post IN (SELECT open.post FROM open)) IS NOT TRUE
), inserted AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at)
  SELECT found.post, one.viewer, coalesce(one.at, now()) FROM found CROSS JOIN LATERAL unnest(found.viewers, found.times) one(viewer, at)
  WHERE (found.post IN (SELECT open.post FROM open)) IS TRUE{on_conflict}
  RETURNING post_id
), added AS MATERIALIZED (
  SELECT one.post, sum(one.n)::int8 AS n, max(one.views) AS views, bool_or(one.is_seen) AS is_seen FROM (
    SELECT inserted.post_id::{post_cast} AS post, 1 AS n, NULL::int8 AS views, NULL::bool AS is_seen FROM inserted
    UNION ALL SELECT open.post::{post_cast}, 0, open.views, open.is_seen FROM open
  ) one GROUP BY one.post HAVING sum(one.n) > 0
), old AS MATERIALIZED (
  SELECT added.post, added.n, added.views, b.post_id IS NOT NULL AS has_base, {rows_if} AS rows,
    coalesce(b.base, CASE WHEN added.views > 0 AND added.views IS DISTINCT FROM $4::int8 THEN greatest(added.views - {rows}, 0) ELSE 0 END) AS base
  FROM added LEFT JOIN {base} b ON b.post_id = added.post
), changes AS MATERIALIZED (
  SELECT old.post, old.has_base, old.base, {eaten} AS eaten, {change} AS change, old.views + {change} AS views FROM old
), counted AS (
  UPDATE {counted} n SET {count} = {raw_views} + changes.change
  FROM changes WHERE n.{counted_id} = changes.post AND changes.change <> 0
  RETURNING n.{counted_id} AS post, {new_views} AS views, changes.views AS explained
), eaten AS (
  UPDATE {base} b SET base = greatest(b.base - changes.eaten, 0)
  FROM changes WHERE b.post_id = changes.post AND changes.has_base AND changes.eaten <> 0
), remembered AS (
  INSERT INTO {base} (post_id, base) SELECT changes.post, changes.base - changes.eaten FROM changes
  WHERE NOT changes.has_base AND changes.base > 0 ORDER BY changes.post
  ON CONFLICT DO NOTHING
)
SELECT {TALLY}, (SELECT coalesce(sum(added.n), 0)::int8 FROM added),
  (SELECT coalesce(sum(shut.n), 0)::int8 FROM shut), ARRAY(SELECT shut.post::text FROM shut),
  (SELECT coalesce(array_agg(counted.post::text ORDER BY counted.post), '{{}}') FROM counted),
  (SELECT coalesce(array_agg(counted.views ORDER BY counted.post), '{{}}') FROM counted),
  (SELECT max(counted.explained) FROM counted)
FROM found",
        rows_if = if counting == Counting::Ledger { rows.as_str() } else { "0::int8" },
    )
}

/// Gives the adopted pairs of a chunk.
fn adopted() -> String {
    "\nSELECT found.post::text, viewer::text FROM found CROSS JOIN LATERAL unnest(found.viewers) viewer".to_owned()
}

/// Gives the next keys, and how many pairs each of them has.
fn next(target: &Target, origin: &Origin, raw: Raw) -> String {
    match origin {
        Origin::Array { column } => format!(
            "\
-- adopt: next
SELECT p.{id}::text, coalesce({length}, 0)::int8 FROM {posts} p
WHERE $1::text IS NULL OR p.{id} > $1::text::{key_type} ORDER BY p.{id} LIMIT $2::int8",
            id = target.tables.id,
            posts = target.tables.posts,
            key_type = target.post_cast,
            length = elements(&format!("p.{column}"), raw)[1],
        ),
        // The last key may have more rows than were looked at.
        Origin::Table { table, post, post_type, is_staged, .. } => format!(
            "\
-- adopt: next
WITH grouped AS MATERIALIZED (
  SELECT few.key, count(*) AS n FROM (
    SELECT s.{post} AS key FROM {table} s
    WHERE s.{post} IS NOT NULL AND ($1::text IS NULL OR s.{post} > $1::text::{post_type}) ORDER BY s.{post} LIMIT $2::int8
  ) few GROUP BY few.key ORDER BY few.key
), last AS MATERIALIZED (
  SELECT grouped.key FROM grouped ORDER BY grouped.key DESC LIMIT 1
)
SELECT grouped.key::text, CASE WHEN grouped.key = (SELECT last.key FROM last)
  THEN (SELECT count(*) FROM {table} s WHERE s.{post} = (SELECT last.key FROM last)) ELSE grouped.n END
FROM grouped ORDER BY grouped.key",
            table = table_of(table, *is_staged),
        ),
    }
}

fn without_post(origin: &Origin) -> Option<String> {
    let Origin::Table { table, post, viewer, is_staged, .. } = origin else { return None };
    let table = table_of(table, *is_staged);
    Some(format!(
        "-- adopt: without post\nSELECT count(*) FILTER (WHERE s.{viewer} IS NULL), count(s.{viewer}) FROM {table} s WHERE s.{post} IS NULL"
    ))
}

fn stage(origin: &Origin) -> Option<String> {
    let Origin::Table { table, post, viewer, at, is_staged: true, .. } = origin else { return None };
    let at = at.as_ref().map(|at| format!(", s.{at} AS {at}")).unwrap_or_default();
    Some(format!(
        "\
-- adopt: stage
CREATE TEMPORARY TABLE views_to_adopt AS SELECT s.{post} AS {post}, s.{viewer} AS {viewer}{at} FROM {table} s ORDER BY s.{post};
CREATE INDEX ON {STAGED} ({post});
ANALYZE {STAGED}"
    ))
}

/// Makes the rows that posts lack in the table of counts, without which there would be nothing to be locked.
fn make_counts(target: &Target, origin: &Origin) -> Option<String> {
    let tables = &target.tables;
    let counts = tables.counts.table.as_ref()?;
    let (counted_id, count) = (tables.counted_id(), &tables.counts.column);
    let Tables { posts, id, .. } = tables;
    Some(format!(
        "\
-- adopt: make counts
WITH {keys}
INSERT INTO {counts} ({counted_id}, {count})
SELECT p.{id}, 0 FROM keys JOIN {posts} p ON p.{id} = keys.post AND ($1::int4 = 1 OR $2::int4 >= 0)
WHERE NOT EXISTS (SELECT FROM {counts} c WHERE c.{counted_id} = p.{id})
ORDER BY p.{id}{lock_posts}
ON CONFLICT DO NOTHING",
        keys = keys(target, origin),
        lock_posts = tables.lock_posts()
    ))
}
