//! The statements that store pairs, and those that find out whose posts are locked.

use super::{tables::Tables, types::CastTypes};

/// Returns the one statement that stores pairs.
pub(super) fn insert(tables: &Tables, types: &CastTypes<'_>) -> String {
    let Tables { posts, id, ledger, .. } = tables;
    let CastTypes { post, viewer, post_sent, viewer_sent, most_views, .. } = *types;
    let (is_named, author, views) = (tables.is_named(), tables.author(), tables.views());
    let (counted, counted_id, count) = (tables.counted(), tables.counted_id(), &tables.counts.column);
    let (raw, new_views) = (tables.raw_views_of("n"), tables.views_of("n"));
    let named = format!("unnest($4::int4[], $5::{post_sent}[]::{post}[], $6::int8[]) AS named(place, id, pairs)");
    let (known, locked) = if tables.counts.table.is_some() {
        let join_counts = tables.join_counts();
        let lock_posts = tables.lock_posts();
        let join_posts = if lock_posts.is_empty() { String::new() } else { format!(" JOIN {posts} p ON p.{id} = known.id") };
        let known = format!(
            "SELECT named.place, named.pairs, p.{id} AS id, {author} AS author, {views} AS views, c.{counted_id} IS NULL AS lacks_row
  FROM {named} JOIN {posts} p ON {is_named}{join_counts}"
        );
        let locked = format!(
            "SELECT known.place, known.pairs, known.id, known.author, {views} AS views
  FROM known JOIN {counted} c ON c.{counted_id} = known.id{join_posts}
  FOR NO KEY UPDATE OF c SKIP LOCKED{lock_posts}"
        );
        (known, locked)
    } else {
        let known = format!(
            "SELECT named.place, named.pairs, p.{id} AS id, {views} AS views, false AS lacks_row
  FROM {named} JOIN {posts} p ON {is_named}"
        );
        let locked = format!(
            "SELECT known.place, known.pairs, p.{id} AS id, {author} AS author, {views} AS views
  FROM known JOIN {posts} p ON p.{id} = known.id
  FOR NO KEY UPDATE OF p SKIP LOCKED"
        );
        (known, locked)
    };
    format!(
        "\
-- insert
WITH known AS MATERIALIZED (
  {known}
), locked AS MATERIALIZED (
  {locked}
), open AS MATERIALIZED (
  SELECT place, id, author FROM locked WHERE views <= {most_views} - pairs
), inserted AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at)
  SELECT open.id, pair.viewer, to_timestamp(pair.ms / 1000.0::float8)
  FROM unnest($1::int4[], $2::{viewer_sent}[]::{viewer}[], $3::int8[]) AS pair(place, viewer, ms) JOIN open ON open.place = pair.place
  WHERE open.author IS DISTINCT FROM pair.viewer::text
  ORDER BY pair.place, pair.viewer
  ON CONFLICT DO NOTHING
  RETURNING post_id, user_id
), added AS (
  SELECT post_id, count(*) AS views, array_agg(user_id::text) FILTER (WHERE $7::bool) AS viewers FROM inserted GROUP BY post_id
), counted AS (
  UPDATE {counted} n SET {count} = {raw} + added.views FROM added WHERE n.{counted_id} = added.post_id
  RETURNING n.{counted_id} AS id, {new_views} AS views
)
SELECT known.place, locked.place IS NOT NULL, open.place IS NOT NULL, coalesce(counted.views, locked.views, known.views),
  coalesce(added.views, 0), locked.author, coalesce(added.viewers, '{{}}'), known.lacks_row
FROM known
LEFT JOIN locked ON locked.place = known.place
LEFT JOIN open ON open.place = known.place
LEFT JOIN counted ON counted.id = known.id
LEFT JOIN added ON added.post_id = known.id"
    )
}

/// Returns the statement that finds posts which nobody has locked.
pub(super) fn unlocked(tables: &Tables, types: &CastTypes<'_>) -> String {
    let CastTypes { post, post_sent, most_views, .. } = *types;
    let Tables { posts, id, .. } = tables;
    let (is_named, views) = (tables.is_named(), tables.views());
    let (join, locked) = match &tables.counts.table {
        Some(counts) => (format!(" JOIN {counts} c ON c.{} = p.{id}", tables.counted_id()), "c"),
        None => (String::new(), "p"),
    };
    format!(
        "\
-- unlocked
SELECT named.place FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {posts} p ON {is_named}{join}
WHERE {views} < {most_views}
FOR NO KEY UPDATE OF {locked} SKIP LOCKED{}",
        tables.lock_posts()
    )
}

/// Returns the statement that makes rows in the table of counts; none where the counts stand in the posts table.
pub(super) fn make_counts(tables: &Tables, types: &CastTypes<'_>) -> Option<String> {
    let CastTypes { post, post_sent, .. } = *types;
    let Tables { posts, id, .. } = tables;
    let counts = tables.counts.table.as_ref()?;
    let (counted_id, count) = (tables.counted_id(), &tables.counts.column);
    Some(format!(
        "\
-- make counts
INSERT INTO {counts} ({counted_id}, {count})
SELECT p.{id}, 0 FROM unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {posts} p ON {}
WHERE NOT EXISTS (SELECT FROM {counts} c WHERE c.{counted_id} = p.{id})
ORDER BY p.{id}{}
ON CONFLICT DO NOTHING",
        tables.is_named(),
        tables.lock_posts()
    ))
}

/// Returns the beginning of the statement that locks posts, to which their ids are added.
pub(super) fn lock(tables: &Tables) -> String {
    format!("-- lock\nSELECT FROM {} n WHERE n.{}", tables.counted(), tables.counted_id())
}
