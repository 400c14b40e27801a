//! How the pairs of a chunk are read from their source, and what fits.

use crate::{
    schema::id_type::IdType,
    sql::{
        identifier::{ColumnName, TableName},
        tables::Tables,
        types::UserKey,
    },
};

/// The copy of a source that has no index on its posts.
pub(super) const STAGED: &str = "pg_temp.views_to_adopt";

/// The copy of the pairs of one post that is cut: each part of it would read all of them.
pub(super) const COPIED: &str = "pg_temp.post_to_adopt";

/// The kind of a pair that the ledger has. The others are 0 (new), 1 (without viewer), 2 (without post), 3 (does not fit) and
/// 4 (the author's own).
const REPEATED: i32 = 5;

/// A number in its shortest spelling.
const NUMBER: &str = "'^(0|-?[1-9][0-9]{0,18})$'";
/// The id of a post, by the rules of [`views_core::ids`].
const POST: &str = "'^[A-Za-z0-9_-]{1,64}$'";

/// What the values of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {
    /// Any text.
    Text,
    /// UUIDs.
    Uuid,
    /// Numbers.
    Number,
    /// Elements of JSON arrays.
    Json,
}

/// Where views come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// An array in a column of the posts table.
    Array {
        /// The column.
        column: ColumnName,
    },
    /// A table of posts and viewers.
    Table {
        /// The table.
        table: TableName,
        /// Its column of posts.
        post: ColumnName,
        /// The declared type of that.
        post_type: String,
        /// What the values of that are.
        post_raw: Raw,
        /// Its column of viewers.
        viewer: ColumnName,
        /// Its column of the time of the view.
        at: Option<ColumnName>,
        /// Whether it is copied before it is read, in the order of its posts.
        is_staged: bool,
    },
}

/// Where views go to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The tables.
    pub tables: Tables,
    /// The type of posts' ids.
    pub post: IdType,
    /// The type of the ledger's viewers.
    pub viewer: IdType,
    /// The type of posts' ids for a cast, without a length limit.
    pub post_cast: String,
    /// The type of viewers for a cast.
    pub viewer_cast: String,
    /// The greatest count that there is room for.
    pub most_views: i64,
    /// The foreign keys of the ledger's viewers that lead to something readable.
    pub users: Vec<UserKey>,
}

/// Which of a chunk's viewers are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    /// Those that the ledger lacks.
    New,
    /// Those that it has.
    Repeated,
}

/// Returns the table that the pairs are read from, under the name `s`.
pub(super) fn table_of(table: &TableName, is_staged: bool) -> String {
    if is_staged { STAGED.to_owned() } else { table.to_string() }
}

/// Returns a value as what an id column holds, and NULL where it does not fit.
fn value(value: &str, raw: Raw, id_type: IdType, cast: &str, is_viewer: bool) -> String {
    let text = match raw {
        Raw::Uuid if id_type == IdType::Uuid => return value.to_owned(),
        Raw::Text | Raw::Number | Raw::Uuid => format!("{value}::text"),
        Raw::Json => {
            let number = format!("CASE WHEN {value}::text ~ {NUMBER} THEN {value}::text END");
            format!("(CASE jsonb_typeof({value}) WHEN 'string' THEN {value} #>> '{{}}' WHEN 'number' THEN {number} END)")
        }
    };
    match id_type {
        IdType::Uuid => format!("CASE WHEN {} THEN {text}::uuid END", is_uuid(&text)),
        IdType::Integer { greatest } => {
            let least = -i128::from(greatest) - 1;
            format!(
                "CASE WHEN {text} ~ {NUMBER} THEN CASE WHEN {text}::numeric BETWEEN {least} AND {greatest} THEN {text}::{cast} END END"
            )
        }
        // A post is whatever the posts table says; a viewer has one spelling.
        _ if !is_viewer => format!("({text})::{cast}"),
        IdType::Text { .. } | IdType::Padded { .. } | IdType::CaseInsensitive => {
            let longest = id_type.longest();
            let fits = longest.map_or_else(String::new, |longest| format!(" AND octet_length({text}) <= {longest}"));
            let uuid =
                if longest.is_some_and(|longest| longest < 36) { "NULL".to_owned() } else { format!("{text}::uuid::text") };
            // Most ids that are UUIDs are spelled as they are to be.
            let canonical = format!("octet_length({text}) = 36 AND {}{fits}", is_hyphenated(&text, "0-9a-f"));
            let (is_uuid, is_viewer_id) = (is_uuid(&text), is_viewer_id(&text));
            format!(
                "(CASE WHEN {canonical} THEN {text} WHEN {is_uuid} THEN {uuid} WHEN {is_viewer_id}{fits} THEN {text} END)::{cast}"
            )
        }
    }
}

/// Returns whether a text is a UUID as ids may be given it, hyphenated or not.
fn is_uuid(text: &str) -> String {
    format!(
        "CASE octet_length({text}) WHEN 36 THEN {} WHEN 32 THEN {text} COLLATE \"C\" ~ '^[0-9a-fA-F]*$' ELSE false END",
        is_hyphenated(text, "0-9a-fA-F")
    )
}

/// Returns whether a text of 36 bytes is a hyphenated UUID of these digits. Every pair is asked: a regular expression
/// that counts digits or hyphens takes several times as long.
fn is_hyphenated(text: &str, digits: &str) -> String {
    format!(
        "{text} COLLATE \"C\" LIKE '________-____-____-____-____________' AND {text} COLLATE \"C\" ~ '^[-{digits}]*$' \
         AND octet_length(replace({text} COLLATE \"C\", '-', '')) = 32"
    )
}

/// Returns whether a text may be a viewer's id, by the rules of [`views_core::ids`].
fn is_viewer_id(text: &str) -> String {
    format!("octet_length({text}) BETWEEN 1 AND 128 AND {text} COLLATE \"C\" !~ '[^!-~]'")
}

/// Returns whether a post may have views at all, by the rules for ids.
fn fits(target: &Target) -> String {
    if target.post.is_text() { format!("p.{}::text COLLATE \"C\" ~ {POST}", target.tables.id) } else { "true".to_owned() }
}

/// Returns an array as a set of rows, and its length.
pub(super) fn elements(column: &str, raw: Raw) -> [String; 2] {
    if raw == Raw::Json {
        // What is no array is one element that fits nowhere.
        let array = format!(
            "CASE jsonb_typeof({column}) WHEN 'array' THEN {column} WHEN 'null' THEN '[]'::jsonb ELSE '[{{}}]'::jsonb END"
        );
        return [format!("jsonb_array_elements({array})"), format!("jsonb_array_length({array})")];
    }
    [format!("unnest({column})"), format!("cardinality({column})")]
}

/// Returns the posts of a chunk's keys (`keys`), and where the pairs of each are: all keys without a post are one row.
pub(super) fn keys(target: &Target, origin: &Origin) -> String {
    let Tables { posts, id, ids_ignore_case, ledger, .. } = &target.tables;
    let (author, fits) = (target.tables.author(), fits(target));
    let (join_counts, views) = (target.tables.join_counts(), target.tables.views());
    // Whether the ledger has any view of the post: where it has none, no pair has to be looked for.
    let is_seen = format!("(SELECT true FROM {ledger} v WHERE v.post_id = p.{id} LIMIT 1)");
    let of_post = format!("p.{id} AS post, {author} AS author, {fits} AS fits, {is_seen} AS is_seen, {views} AS views");
    match origin {
        Origin::Array { column } => format!(
            "\
keys AS MATERIALIZED (
  SELECT {of_post}, p.{column} AS elements FROM {posts} p{join_counts} WHERE p.{id} = ANY($3::text[]::{key_type}[])
  ORDER BY p.{id}
)",
            key_type = target.post_cast,
        ),
        Origin::Table { post_type, post_raw, .. } => {
            let value = value("named.key", *post_raw, target.post, &target.post_cast, false);
            let exactly = if *ids_ignore_case { format!(" AND p.{id}::text = named.key::text") } else { String::new() };
            format!(
                "\
named AS MATERIALIZED (
  SELECT {of_post}, named.key
  FROM unnest($3::text[]::{post_type}[]) named(key) LEFT JOIN {posts} p ON p.{id} = {value}{exactly}{join_counts}
), keys AS MATERIALIZED (
  SELECT named.post, named.author, named.fits, named.is_seen, named.views, array_agg(named.key) AS keys FROM named
  GROUP BY named.post, named.author, named.fits, named.is_seen, named.views ORDER BY named.post
)"
            )
        }
    }
}

/// Where the pairs of a chunk are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Where they come from.
    Source,
    /// The copy of the pairs of its only post.
    Copy,
}

/// Returns the raw viewers and the times of some posts, or of one of them.
fn rows(origin: &Origin, raw: Raw, [posts, key]: [&str; 2], array: &str, condition: &str) -> String {
    match origin {
        Origin::Array { .. } => {
            let from = if posts.is_empty() { String::new() } else { format!(" FROM {posts} p WHERE p.{key} {condition}") };
            format!("SELECT {} AS raw, NULL::timestamptz AS at{from}", elements(array, raw)[0])
        }
        Origin::Table { table, post, viewer, at, is_staged, .. } => {
            let at = at.as_ref().map_or_else(|| "NULL::timestamptz".to_owned(), |at| format!("s.{at}::timestamptz"));
            let table = table_of(table, *is_staged);
            format!("SELECT s.{viewer} AS raw, {at} AS at FROM {table} s WHERE s.{post} {condition}")
        }
    }
}

/// Returns the hash of a raw viewer, which tells its part: two spellings of one UUID have one hash.
fn hash(raw: Raw) -> String {
    let text = match raw {
        Raw::Uuid | Raw::Number => "source.raw::text",
        Raw::Text => "lower(replace(source.raw::text, '-', ''))",
        Raw::Json => "lower(replace(source.raw #>> '{}', '-', ''))",
    };
    format!("(hashtext(coalesce({text}, '')) & 2147483647)")
}

/// Returns the statements that make an empty copy, and that fill it with the pairs of the keys `$1`.
pub(super) fn copy(target: &Target, origin: &Origin, raw: Raw) -> [String; 2] {
    let (posts, id) = (target.tables.posts.to_string(), target.tables.id.to_string());
    let (array, key_type) = match origin {
        Origin::Array { column } => (format!("p.{column}"), &target.post_cast),
        Origin::Table { post_type, .. } => (String::new(), post_type),
    };
    let of = |condition: &str| rows(origin, raw, [&posts, &id], &array, condition);
    let hash = hash(raw);
    [
        format!(
            "\
-- adopt: make copy
CREATE TEMPORARY TABLE post_to_adopt AS SELECT source.raw, source.at, {hash} AS hash FROM ({}) source;
CREATE INDEX ON {COPIED} (hash)",
            of("IS NULL AND false")
        ),
        format!(
            "-- adopt: copy\nINSERT INTO {COPIED} SELECT source.raw, source.at, {hash} FROM ({}) source ORDER BY 3",
            of(&format!("= ANY($1::text[]::{key_type}[])"))
        ),
    ]
}

/// Returns the common beginning of all that is done with the pairs of a chunk: `found`, of each post how many pairs it has,
/// what they are, and the viewers that are kept, each once and with the earliest time.
///
/// A post's pairs are dealt with on their own, so each is sorted among its post's only, and all that follows has a row for
/// each post.
pub(super) fn found(target: &Target, origin: &Origin, raw: Raw, from: From, kept: Kept) -> String {
    let ledger = &target.tables.ledger;
    let (source, hash) = match from {
        From::Source => (rows(origin, raw, ["", ""], "keys.elements", "= ANY(keys.keys)"), hash(raw)),
        From::Copy => (format!("SELECT s.raw, s.at, s.hash FROM {COPIED} s"), "source.hash".to_owned()),
    };
    let is_null = if raw == Raw::Json { "source.raw IS NULL OR jsonb_typeof(source.raw) = 'null'" } else { "source.raw IS NULL" };
    let viewer = value("source.raw", raw, target.viewer, &target.viewer_cast, true);
    // The first hash of a part.
    let first = |part: &str| format!("({part}::int8 * 2147483648 + $1::int4 - 1) / $1::int4");
    let (least, beyond) = (first("$2::int4"), first("($2::int4 + 1)"));
    let users = target.users.iter();
    let unknown_users: String = users
        .map(|UserKey { table, column, .. }| {
            format!("\n            OR (SELECT true FROM {table} u WHERE u.{column} = valued.viewer LIMIT 1) IS NULL")
        })
        .collect();
    let kept = match kept {
        Kept::New => 0,
        Kept::Repeated => REPEATED,
    };
    format!(
        "\
{keys}, found AS MATERIALIZED (
  SELECT keys.post, keys.is_seen, keys.views, told.* FROM keys CROSS JOIN LATERAL (
    SELECT sum(one.n) AS pairs, sum(one.n) FILTER (WHERE one.kind = 1) AS no_viewer,
      sum(one.n) FILTER (WHERE one.kind = 2) AS unknown_post, sum(one.n) FILTER (WHERE one.kind = 3) AS unfit,
      sum(one.n) FILTER (WHERE one.kind = 4) AS own, count(*) FILTER (WHERE one.kind = {kept}) AS n,
      array_agg(one.viewer) FILTER (WHERE one.kind = {kept}) AS viewers,
      array_agg(one.at) FILTER (WHERE one.kind = {kept}) AS times
    FROM (
      SELECT grouped.viewer, grouped.at, grouped.n, CASE WHEN grouped.kind = 0 AND keys.is_seen IS TRUE AND
          (SELECT true FROM {ledger} v WHERE v.post_id = keys.post AND v.user_id = grouped.viewer LIMIT 1)
        THEN {REPEATED} ELSE grouped.kind END AS kind
      FROM (
        SELECT each.viewer, each.kind, min(each.at) AS at, count(*)::int4 AS n FROM (
          SELECT valued.viewer, valued.at, CASE
            WHEN valued.is_nobody THEN 1
            WHEN keys.post IS NULL THEN 2
            WHEN valued.viewer IS NULL OR NOT keys.fits{unknown_users} THEN 3
            WHEN valued.viewer::text = keys.author THEN 4
            ELSE 0 END AS kind
          FROM (
            SELECT {is_null} AS is_nobody, {viewer} AS viewer, source.at FROM ({source}) source
            WHERE $1::int4 = 1 OR ({hash} >= {least} AND {hash} < {beyond})
            -- Each value is looked at once.
            OFFSET 0
          ) valued
        ) each GROUP BY each.viewer, each.kind ORDER BY each.viewer, each.kind
      ) grouped
      -- Each of them is looked for once.
      OFFSET 0
    ) one
  ) told
)",
        keys = keys(target, origin),
    )
}
