//! The statements that create what stands beside the posts, and that close it to everybody else.

use super::{
    identifier::{TableName, quote},
    tables::Tables,
    types::literal,
};

/// The types of columns, as they are declared.
#[derive(Debug, Clone, Copy)]
pub struct DeclaredTypes<'a> {
    /// Of a post's id.
    pub post: &'a str,
    /// Of a viewer's id.
    pub viewer: &'a str,
}

/// The statements that create what stands beside the posts.
#[derive(Debug, Clone)]
pub struct Creation {
    /// Creates the ledger.
    pub ledger: String,
    /// Creates the table of counts; none where the counts stand in the posts table.
    pub counts: Option<String>,
    /// Adds the column of counts to the posts table. Nothing is written into any row.
    pub count_column: String,
    /// Creates the table of bases, without a foreign key: storing bases would lock every post.
    pub base: String,
    /// Adds the foreign key of the table of bases once they are stored, without a look at what is there.
    pub base_key: Option<String>,
}

impl Creation {
    /// Writes the statements. A foreign key leads to the posts where `is_referenced`.
    #[must_use]
    pub fn new(tables: &Tables, types: &DeclaredTypes<'_>, is_referenced: bool) -> Self {
        let Tables { posts, id, ledger, base, counts, .. } = tables;
        let DeclaredTypes { post, viewer } = *types;
        let reference = format!("REFERENCES {posts} ({id}) ON DELETE CASCADE");
        let references = if is_referenced { format!(" {reference}") } else { String::new() };
        let of_ledger = format!(
            "\
-- create ledger
CREATE TABLE IF NOT EXISTS {ledger} (
  post_id {post} NOT NULL{references},
  user_id {viewer} NOT NULL,
  viewed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (post_id, user_id)
)"
        );
        let of_counts = counts.table.as_ref().map(|table| {
            format!(
                "\
-- create counts
CREATE TABLE IF NOT EXISTS {table} (
  post_id {post} PRIMARY KEY{references},
  views bigint NOT NULL DEFAULT 0
)"
            )
        });
        let count_column = format!(
            "-- add count column\nALTER TABLE {posts} ADD COLUMN IF NOT EXISTS {} bigint NOT NULL DEFAULT 0",
            counts.column
        );
        let of_base = format!(
            "-- create base\nCREATE TABLE IF NOT EXISTS {base} (\n  post_id {post} PRIMARY KEY,\n  base bigint NOT NULL\n)"
        );
        let base_key = is_referenced
            .then(|| format!("-- reference base\nALTER TABLE {base} ADD FOREIGN KEY (post_id) {reference} NOT VALID"));
        Self { ledger: of_ledger, counts: of_counts, count_column, base: of_base, base_key }
    }
}

/// Gives a row where a table has a foreign key.
#[must_use]
pub fn has_key(table: &TableName) -> String {
    let table = literal(&table.to_string());
    format!(
        "-- has key\nSELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid = to_regclass({table}) LIMIT 1"
    )
}

/// Gives the names of a table's foreign keys of which nobody has looked yet whether all rows keep them.
#[must_use]
pub fn unproven_keys(table: &TableName) -> String {
    let table = literal(&table.to_string());
    format!(
        "-- unproven keys\nSELECT k.conname::text FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND NOT k.convalidated AND k.conrelid = to_regclass({table})"
    )
}

/// Looks whether all rows keep a foreign key. Rows may be read and written meanwhile.
#[must_use]
pub fn prove_key(table: &TableName, key: &str) -> String {
    format!("-- prove key\nALTER TABLE {table} VALIDATE CONSTRAINT {}", quote(key))
}

/// Takes all rights on a table away from roles, which are quoted.
#[must_use]
pub fn revoke(table: &TableName, roles: &[String]) -> String {
    format!("-- revoke\nREVOKE ALL ON {table} FROM {}", roles.join(", "))
}
