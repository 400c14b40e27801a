//! The statements that find out whether the ledger takes pairs at all, and which viewers are missing elsewhere.

use super::{
    tables::Tables,
    types::{CastTypes, UserKey},
};

/// Returns, for each foreign key of the ledger's viewers, its name and the statement that finds whom it does not find.
pub(super) fn unknown_viewers(types: &CastTypes<'_>, users: &[UserKey]) -> Vec<(String, String)> {
    let CastTypes { viewer, viewer_sent, .. } = *types;
    let statement = |UserKey { name, table, column }: &UserKey| {
        let statement = format!(
            "\
-- unknown_viewers
SELECT wanted.viewer::text FROM unnest($1::{viewer_sent}[]::{viewer}[]) AS wanted(viewer)
WHERE NOT EXISTS (SELECT FROM {table} u WHERE u.{column} = wanted.viewer)"
        );
        (name.clone(), statement)
    };
    users.iter().map(statement).collect()
}

/// Returns the statement that finds pairs which could be in the ledger and are not.
pub(super) fn candidates(tables: &Tables, types: &CastTypes<'_>, users: &[UserKey]) -> String {
    let Tables { posts, id, ledger, .. } = tables;
    let CastTypes { post, viewer, made_up_viewer, authors_are_viewers, .. } = *types;
    let of_users =
        |UserKey { table, column, .. }: &UserKey| format!("UNION {} ", from_both_ends(column, &table.to_string(), viewer, 8));
    let mut others: String = users.iter().map(of_users).collect();
    if let Some(author) = tables.author.as_ref().map(|author| &author.column).filter(|_| authors_are_viewers) {
        others += &format!("UNION (SELECT p.{author}::{viewer} FROM {posts} p WHERE p.{author} IS NOT NULL LIMIT 16)");
    }
    let some_posts = from_both_ends(&id.to_string(), &posts.to_string(), post, 16);
    let some_posts = match &tables.counts.table {
        // What is wrong with counts shows where there are some.
        Some(counts) => format!(
            "({} UNION ALL (SELECT ends.id FROM {some_posts} AS ends(id) WHERE NOT EXISTS (SELECT FROM {counts})))",
            from_both_ends(&tables.counted_id(), &counts.to_string(), post, 16)
        ),
        None => some_posts,
    };
    format!(
        "\
-- probe candidates
WITH some_posts AS (
  SELECT ends.id FROM {some_posts} AS ends(id)
), some_viewers AS (
  (SELECT v.user_id::{viewer} AS viewer FROM {ledger} v LIMIT 16) {others} UNION SELECT {made_up_viewer}::{viewer}
)
SELECT some_posts.id::text, some_viewers.viewer::text FROM some_posts, some_viewers
WHERE NOT EXISTS (SELECT FROM {ledger} v WHERE v.post_id = some_posts.id AND v.user_id = some_viewers.viewer)
ORDER BY random() LIMIT 16"
    )
}

/// Returns the statement that stores a pair and counts it.
pub(super) fn probe(tables: &Tables, types: &CastTypes<'_>) -> String {
    let Tables { ledger, .. } = tables;
    let CastTypes { post, viewer, .. } = *types;
    let (counted, counted_id, count, raw) =
        (tables.counted(), tables.counted_id(), &tables.counts.column, tables.raw_views_of("n"));
    let count = match &tables.counts.table {
        // Most of these posts have a row there. One that has none would pass without a look at the table.
        Some(counts) => format!(
            "INSERT INTO {counts} AS n ({counted_id}, {count}) SELECT inserted.post_id, 1 FROM inserted
ON CONFLICT ({counted_id}) DO UPDATE SET {count} = {raw} + 1 RETURNING 1"
        ),
        None => format!(
            "UPDATE {counted} n SET {count} = {raw} + 1 FROM inserted WHERE n.{counted_id} = inserted.post_id RETURNING 1"
        ),
    };
    format!(
        "\
-- probe
WITH inserted AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at) VALUES ($1::text::{post}, $2::text::{viewer}, now()) RETURNING post_id
)
{count}"
    )
}

/// Returns the statement that offers the ledger a pair again.
pub(super) fn probe_known(tables: &Tables) -> String {
    let ledger = &tables.ledger;
    format!(
        "\
-- probe known
WITH known AS MATERIALIZED (
  SELECT few.post_id, few.user_id FROM (SELECT v.post_id, v.user_id FROM {ledger} v LIMIT 100) few ORDER BY random() LIMIT 1
), again AS (
  INSERT INTO {ledger} (post_id, user_id, viewed_at) SELECT known.post_id, known.user_id, now() FROM known ON CONFLICT DO NOTHING
)
SELECT FROM known"
    )
}

/// Returns the first and the last values of a column that has an index, as a query in parentheses: what is wrong with
/// some of them may not be with others, such as those of another partition.
fn from_both_ends(column: &str, table: &str, cast: &str, number: usize) -> String {
    let end = |order: &str| {
        let known = format!("t.{column} IS NOT NULL");
        format!("(SELECT t.{column}::{cast} FROM {table} t WHERE {known} ORDER BY t.{column} {order} LIMIT {number})")
    };
    format!("({} UNION {})", end("ASC"), end("DESC"))
}
