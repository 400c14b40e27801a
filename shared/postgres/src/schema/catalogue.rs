//! A table as PostgreSQL's catalogue describes it to this role.

use serde::Deserialize;
use tokio_postgres::Client;

use super::SchemaError;
use crate::sql::{
    catalogue,
    identifier::{TableName, quote},
};

/// A table, and what the role may do with it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) table: String,
    /// `r` for a table, `p` for a partitioned one; views and the like have other letters.
    kind: String,
    /// The role that asks.
    role: String,
    /// Its rights on the schema.
    pub(super) schema_rights: Vec<String>,
    /// Whether row level security applies to the role, so that rows may be invisible to it.
    pub(super) hides_rows: bool,
    /// Whether the role is the owner, or may act as it.
    pub(super) is_owned: bool,
    /// Whether the role may remove rows.
    pub(super) is_deletable: bool,
    /// Those who have rights on it and may be anybody: `PUBLIC`, `anon` and `authenticated`, quoted.
    pub(super) open_to: Vec<String>,
    /// The columns by which an index sorts all rows.
    sorted_columns: Vec<String>,
    /// About how many rows it has, as last counted; zero where nobody has.
    pub(super) estimated_rows: i64,
    /// Whether other tables inherit from it, whose rows are its own and which its indexes and keys know nothing of.
    pub(super) has_heirs: bool,
    columns: Vec<Column>,
    /// All indexes that keep rows out: unique ones, and those of exclusion constraints.
    pub(super) indexes: Vec<Index>,
    pub(super) foreign_keys: Vec<ForeignKey>,
}

/// A column, and what the role may do with it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type, or the one that its domain is made from.
    pub(super) type_name: String,
    /// The same with its schema, quoted, for a cast without a length limit.
    pub(super) cast_name: String,
    /// For a `varchar` its limit plus four, or -1.
    pub(super) modifier: i32,
    /// The type as it is declared.
    pub(super) declared: String,
    /// Whether a row must be given a value for it.
    pub(super) is_required: bool,
    /// Whether no value can be given to it.
    pub(super) is_generated: bool,
    /// Whether it can be updated in a table, or through a view.
    pub(super) is_updatable: bool,
    rights: Vec<String>,
    /// The sequence that its default takes numbers from, where the role may not use that.
    pub(super) forbidden_sequence: Option<String>,
}

/// An index that keeps rows out.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    /// The columns of its key; none in the place of an expression.
    pub(super) columns: Vec<Option<String>>,
    pub(super) is_unique: bool,
    pub(super) is_valid: bool,
    /// Whether it is checked with each statement: then it is not deferrable.
    pub(super) is_immediate: bool,
    pub(super) is_partial: bool,
}

/// A foreign key.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    schema: String,
    table: String,
    /// Whether the role may read what it leads to.
    is_readable: bool,
    /// Pairs of a column of this table and the one that it refers to.
    columns: Vec<(String, String)>,
}

impl Table {
    /// Looks a table up.
    ///
    /// # Errors
    /// [`SchemaError`] when the catalogue cannot be read.
    pub(super) async fn find(client: &Client, name: &TableName) -> Result<Option<Self>, SchemaError> {
        let rows = client.query(catalogue::TABLE, &[&name.schema, &name.table]).await?;
        rows.first().map(|row| serde_json::from_str(row.get(0)).map_err(SchemaError::Unreadable)).transpose()
    }

    /// Returns the name with its schema.
    pub(super) fn name(&self) -> TableName {
        TableName { schema: Some(self.schema.clone()), table: self.table.clone() }
    }

    /// Returns the role, quoted.
    pub(super) fn role(&self) -> String {
        quote(&self.role)
    }

    /// Returns whether rows are kept here, and not in what a view shows or another server has.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p")
    }

    /// Returns whether it is a view, whose rows are those of other tables.
    pub(super) fn is_view(&self) -> bool {
        self.kind == "v"
    }

    /// Returns whether an index sorts all rows by a column.
    pub(super) fn is_sorted_by(&self, column: &str) -> bool {
        self.sorted_columns.iter().any(|sorted| sorted == column)
    }

    /// Returns the unique indexes on a column alone that hold for all rows.
    pub(super) fn keys_on<'a>(&'a self, column: &'a str) -> impl Iterator<Item = &'a Index> {
        self.indexes.iter().filter(move |index| index.holds_for_all() && index.is_on(&[column]))
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }
}

impl Column {
    pub(super) fn allows(&self, right: &str) -> bool {
        self.rights.iter().any(|granted| granted == right)
    }
}

impl Index {
    /// Returns whether its key is these columns, in any order, and nothing else.
    pub(super) fn is_on(&self, columns: &[&str]) -> bool {
        self.columns.len() == columns.len() && columns.iter().all(|column| self.has(column))
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|own| own.as_deref() == Some(column))
    }

    /// Returns whether no two rows ever have the same values: nothing that is committed breaks it.
    pub(super) fn holds_for_all(&self) -> bool {
        self.is_unique && self.is_valid && !self.is_partial
    }
}

impl ForeignKey {
    /// Returns what a column refers to by this key.
    pub(super) fn target_of(&self, column: &str) -> Option<&str> {
        self.columns.iter().find(|(own, _)| own == column).map(|(_, theirs)| theirs.as_str())
    }

    /// Returns what a column alone refers to by this key, where the role may read that.
    pub(super) fn readable_target_of(&self, column: &str) -> Option<&str> {
        self.target_of(column).filter(|_| self.is_readable && self.columns.len() == 1)
    }

    /// Returns the table that it leads to.
    pub(super) fn table(&self) -> TableName {
        TableName { schema: Some(self.schema.clone()), table: self.table.clone() }
    }
}

/// Finds a table of this name that the search path leaves out, because the role may not look into its schema: the
/// schema and the role, both quoted.
pub(super) async fn find_hidden(client: &Client, table: &str) -> Result<Option<(String, String)>, SchemaError> {
    let rows = client.query(catalogue::HIDDEN_TABLE, &[&table]).await?;
    Ok(rows.first().map(|row| (quote(row.get(0)), quote(row.get(1)))))
}
