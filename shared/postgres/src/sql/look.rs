//! The statements that only read posts, counts and viewers.

use super::{tables::Tables, types::CastTypes};

/// The statements that only read.
pub(super) struct Looks {
    pub(super) hydrate: String,
    pub(super) counts: String,
    pub(super) look: String,
    pub(super) viewers_among: String,
    pub(super) compare: String,
}

/// Returns the statements that only read.
pub(super) fn looks(tables: &Tables, types: &CastTypes<'_>) -> Looks {
    let Tables { posts, id, ledger, .. } = tables;
    let CastTypes { post, viewer, post_sent, viewer_sent, .. } = *types;
    let (is_named, author, views, join_counts) = (tables.is_named(), tables.author(), tables.views(), tables.join_counts());
    let named = format!("unnest($1::int4[], $2::{post_sent}[]::{post}[]) AS named(place, id) JOIN {posts} p ON {is_named}");
    let hydrate = format!(
        "\
-- hydrate
SELECT named.place, {author}, {views},
  ARRAY(SELECT v.user_id::text FROM {ledger} v WHERE v.post_id = p.{id} LIMIT $3::int8 + 1)
FROM {named}{join_counts}"
    );
    let counts = format!("-- counts\nSELECT named.place, {views}\nFROM {named}{join_counts}");
    let look = format!(
        "\
-- look
WITH known AS MATERIALIZED (
  SELECT named.place, p.{id} AS id, {author} AS author, {views} AS views
  FROM {named}{join_counts}
), stored AS (
  SELECT pair.place, array_agg(v.user_id::text) AS viewers
  FROM unnest($3::int4[], $4::{viewer_sent}[]::{viewer}[]) AS pair(place, viewer) JOIN known ON known.place = pair.place
  JOIN {ledger} v ON v.post_id = known.id AND v.user_id = pair.viewer
  GROUP BY pair.place
)
SELECT known.place, known.author, known.views, coalesce(stored.viewers, '{{}}')
FROM known LEFT JOIN stored ON stored.place = known.place"
    );
    let viewers_among = format!(
        "\
-- viewers among
SELECT named.place,
  ARRAY(SELECT v.user_id::text FROM {ledger} v WHERE v.post_id = p.{id} AND v.user_id = ANY($3::{viewer_sent}[]::{viewer}[]))
FROM {named}"
    );
    let compare = format!(
        "\
-- compare
SELECT named.place, p.{id} IS NOT NULL, {views}, {author}
FROM unnest($1::int4[], $2::{post_sent}[]::{post}[], $3::int8[], $4::text[]) AS named(place, id, views, author)
LEFT JOIN {posts} p ON {is_named}{join_counts}
WHERE p.{id} IS NULL OR {views} IS DISTINCT FROM named.views OR coalesce({author}, '') IS DISTINCT FROM named.author"
    );
    Looks { hydrate, counts, look, viewers_among, compare }
}
