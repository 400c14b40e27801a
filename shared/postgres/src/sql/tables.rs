//! The application's tables and those beside them, as statements name them, and the expressions that depend on where
//! the counts stand.

use super::identifier::{ColumnName, TableName};

/// The column of a count in a table of counts.
pub const COUNT_TABLE_VIEWS: &str = "views";
/// The column of a base in the table of bases.
pub const BASE: &str = "base";
/// The column of a post's id in a table of counts, in the ledger, and in the table of bases.
pub const POST_ID: &str = "post_id";

/// The tables, each with its schema, and the columns of the posts table.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The posts.
    pub posts: TableName,
    /// The column with a post's id.
    pub id: ColumnName,
    /// Whether two ids are one to the database that are not the same text: then a post is found by its own spelling only.
    pub ids_ignore_case: bool,
    /// The column with a post's author, where there is one.
    pub author: Option<Author>,
    /// Where the counts stand.
    pub counts: Counts,
    /// The ledger.
    pub ledger: TableName,
    /// The table of bases: how much of a post's count no row of the ledger explains.
    pub base: TableName,
    /// Whether storing a base waits for whoever has locked the post, as a foreign key leads there, and the role may lock
    /// posts to find that out.
    pub bases_lock_posts: bool,
}

/// The column of authors.
#[derive(Debug, Clone)]
pub struct Author {
    /// Its name.
    pub column: ColumnName,
    /// Whether authors are texts, which may spell a UUID in any way.
    pub is_text: bool,
}

/// Where the counts stand.
#[derive(Debug, Clone)]
pub struct Counts {
    /// The table of counts; none where they stand in the posts table.
    pub table: Option<TableName>,
    /// The column.
    pub column: ColumnName,
    /// Whether the column may hold what is no whole number, or one beyond all integers.
    pub is_numeric: bool,
    /// Whether the rows of posts may be locked, too, where counts stand apart: that needs a right, and is of use where a
    /// foreign key leads to them.
    pub locks_posts: bool,
}

impl Tables {
    /// Returns whether the post `p` is the one of the id `named.id`.
    pub(super) fn is_named(&self) -> String {
        let id = &self.id;
        let exactly = if self.ids_ignore_case { format!(" AND p.{id}::text = named.id::text") } else { String::new() };
        format!("p.{id} = named.id{exactly}")
    }

    /// Returns the canonical spelling of the author of the post `p`: that of [`views_core::ids::ViewerId`], in SQL.
    pub(super) fn author(&self) -> String {
        let Some(Author { column, is_text }) = &self.author else { return "NULL::text".to_owned() };
        let author = format!("p.{column}::text");
        if !is_text {
            return author;
        }
        let uuid = "'^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})$'";
        format!("CASE WHEN {author} ~ {uuid} THEN {author}::uuid::text ELSE {author} END")
    }

    /// Returns the table with the counts.
    pub fn counted(&self) -> &TableName {
        self.counts.table.as_ref().unwrap_or(&self.posts)
    }

    /// Returns the column of the posts' ids in the table with the counts.
    pub fn counted_id(&self) -> String {
        if self.counts.table.is_some() { format!("\"{POST_ID}\"") } else { self.id.to_string() }
    }

    /// Returns how the counts of the posts `p` are joined, where they stand apart.
    pub(super) fn join_counts(&self) -> String {
        match &self.counts.table {
            Some(counts) => format!(" LEFT JOIN {counts} c ON c.{} = p.{}", self.counted_id(), self.id),
            None => String::new(),
        }
    }

    /// Returns the count of the post `p` whose counts are joined.
    pub(super) fn views(&self) -> String {
        self.views_of(if self.counts.table.is_some() { "c" } else { "p" })
    }

    /// Returns the count in a row of the table with the counts.
    pub(super) fn views_of(&self, row: &str) -> String {
        let views = self.raw_views_of(row);
        if self.counts.is_numeric {
            // One that is none (NaN), or beyond all integers, is full, and nobody else's error.
            format!("least(greatest({views}, {}), {})::int8", i64::MIN, i64::MAX)
        } else {
            format!("{views}::int8")
        }
    }

    /// Returns the same as the column has it.
    pub(super) fn raw_views_of(&self, row: &str) -> String {
        format!("coalesce({row}.{}, 0)", self.counts.column)
    }

    /// Returns the lock of the posts `p` where counts stand apart: held against whoever is about to delete a post, or
    /// has locked it for that, as a foreign key would wait for them.
    pub(super) fn lock_posts(&self) -> &'static str {
        if self.counts.locks_posts { " FOR KEY SHARE OF p SKIP LOCKED" } else { "" }
    }
}
