//! The SQL types into which ids are cast, and keys of the ledger's viewers.

use super::identifier::TableName;

/// The SQL types into which the ids, which arrive as text, are cast.
#[derive(Debug, Clone, Copy)]
pub struct CastTypes<'a> {
    /// Of a post's id, without a length limit: a cast to `varchar(n)` would cut silently.
    pub post: &'a str,
    /// Of a viewer's id, likewise.
    pub viewer: &'a str,
    /// As what the drain and the scan send posts' ids: as they are, or as texts.
    pub post_sent: &'a str,
    /// As what the drain sends viewers' ids.
    pub viewer_sent: &'a str,
    /// Whether authors and viewers are of one type.
    pub authors_are_viewers: bool,
    /// A viewer that hardly exists, as an expression that can be cast to the viewers' type.
    pub made_up_viewer: &'a str,
    /// The greatest count that the count's column holds.
    pub most_views: i64,
}

/// A foreign key of the ledger's viewers alone, to where the role may read.
#[derive(Debug, Clone)]
pub struct UserKey {
    /// The constraint's name.
    pub name: String,
    /// The table that it leads to.
    pub table: TableName,
    /// The column there, quoted.
    pub column: String,
}

/// Returns a text as SQL writes it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
