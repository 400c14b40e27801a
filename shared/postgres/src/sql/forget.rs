//! The statements that erase a viewer from the ledger. What the rows counted moves into the posts' bases.

use super::{adopt::Target, tables::Tables};

/// The statements that erase one viewer. `$1` are the spellings of his id that the ledger may have.
#[derive(Debug, Clone)]
pub struct ForgetStatements {
    /// Gives up to `$2` posts of the viewer's rows, but for the posts `$3`: by an index on viewers.
    pub viewed: String,
    /// Gives those of the posts `$2` that the viewer has viewed.
    pub among: String,
    /// Looks at the next `$2` posts of the ledger behind the post `$3`, each by one look at the index of pairs. Gives the
    /// last of them, how many there were, and those that the viewer has viewed.
    pub walk: String,
    /// Removes the viewer's rows of the posts `$2`, of which `$3` are locked, and adds as many to the bases. Those of the
    /// rest go that have no count. Gives how many rows each post had.
    pub erase: String,
    /// Removes those of the viewer's rows of the posts `$3`, which are locked, that were viewed up to `$2` milliseconds since
    /// 1970, and takes as many from the counts. Gives how many rows each post had.
    pub take_back: String,
}

impl ForgetStatements {
    /// Writes the statements.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let Tables { ledger, .. } = &target.tables;
        let (post, viewer) = (&target.post_cast, &target.viewer_cast);
        let is_his = format!("v.user_id = ANY($1::text[]::{viewer}[])");
        let viewed = format!(
            "\
-- forget: viewed
SELECT v.post_id::text FROM {ledger} v WHERE {is_his} AND v.post_id <> ALL($3::text[]::{post}[]) LIMIT $2::int8"
        );
        let among = format!(
            "\
-- forget: among
SELECT v.post_id::text FROM {ledger} v WHERE v.post_id = ANY($2::text[]::{post}[]) AND {is_his}"
        );
        let next = |behind: &str| {
            format!("SELECT v.post_id::{post} AS post_id FROM {ledger} v WHERE {behind} ORDER BY v.post_id LIMIT 1")
        };
        let walk = format!(
            "\
-- forget: walk
WITH RECURSIVE next AS (
  ({first})
  UNION ALL
  SELECT ({behind}) FROM next WHERE next.post_id IS NOT NULL
), walked AS MATERIALIZED (
  SELECT next.post_id FROM next WHERE next.post_id IS NOT NULL LIMIT $2::int8
)
SELECT (SELECT walked.post_id::text FROM walked ORDER BY walked.post_id DESC LIMIT 1), (SELECT count(*) FROM walked),
  ARRAY(SELECT walked.post_id::text FROM walked WHERE EXISTS (SELECT FROM {ledger} v WHERE v.post_id = walked.post_id AND {is_his}))",
            first = next(&format!("$3::text IS NULL OR v.post_id > $3::text::{post}")),
            behind = next("v.post_id > next.post_id"),
        );
        Self { viewed, among, walk, erase: erase(target, &is_his), take_back: take_back(target, &is_his) }
    }
}

fn erase(target: &Target, is_his: &str) -> String {
    let Tables { ledger, base, .. } = &target.tables;
    let (counted, counted_id, views) = (target.tables.counted(), target.tables.counted_id(), target.tables.views_of("n"));
    let post = &target.post_cast;
    // The base of a post that has none yet is what `migrate` would have remembered, and the rows that go.
    format!(
        "\
-- forget: erase
WITH counted AS MATERIALIZED (
  SELECT n.{counted_id}::{post} AS post, {views} AS views FROM {counted} n WHERE n.{counted_id} = ANY($3::text[]::{post}[])
), open AS MATERIALIZED (
  SELECT counted.post FROM counted
  UNION ALL SELECT named.post FROM unnest($2::text[]::{post}[]) AS named(post)
    WHERE NOT EXISTS (SELECT FROM {counted} n WHERE n.{counted_id} = named.post)
), before AS MATERIALIZED (
  SELECT counted.post, greatest(counted.views - (SELECT count(*) FROM {ledger} v WHERE v.post_id = counted.post), 0) AS base
  FROM counted WHERE NOT EXISTS (SELECT FROM {base} b WHERE b.post_id = counted.post)
), removed AS (
  DELETE FROM {ledger} v USING open WHERE v.post_id = open.post AND {is_his} RETURNING v.post_id::{post} AS post
), gone AS MATERIALIZED (
  SELECT removed.post, count(*) AS n FROM removed GROUP BY removed.post
), moved AS (
  UPDATE {base} b SET base = b.base + gone.n FROM gone WHERE b.post_id = gone.post
), remembered AS (
  INSERT INTO {base} AS b (post_id, base)
  SELECT before.post, before.base + gone.n FROM before JOIN gone ON gone.post = before.post ORDER BY before.post
  ON CONFLICT (post_id) DO UPDATE SET base = b.base + (SELECT gone.n FROM gone WHERE gone.post = b.post_id)
)
SELECT gone.post::text, gone.n FROM gone"
    )
}

fn take_back(target: &Target, is_his: &str) -> String {
    let (counted, counted_id, raw_views) = (target.tables.counted(), target.tables.counted_id(), target.tables.raw_views_of("n"));
    format!(
        "\
-- forget: take back
WITH removed AS (
  DELETE FROM {ledger} v USING unnest($3::text[]::{post}[]) AS named(post)
  WHERE v.post_id = named.post AND {is_his} AND v.viewed_at <= to_timestamp($2::int8 / 1000.0::float8)
  RETURNING v.post_id::{post} AS post
), gone AS MATERIALIZED (
  SELECT removed.post, count(*) AS n FROM removed GROUP BY removed.post
), counted AS (
  UPDATE {counted} n SET {count} = greatest({raw_views} - gone.n, 0) FROM gone WHERE n.{counted_id} = gone.post
)
SELECT gone.post::text, gone.n FROM gone",
        ledger = target.tables.ledger,
        post = target.post_cast,
        count = target.tables.counts.column,
    )
}
