//! A table that views are adopted from, as the catalogue describes it.

use tokio_postgres::Client;

use super::{Schema, catalogue::Table};
use crate::{
    DatabaseError,
    sql::identifier::{ColumnName, TableName},
};

/// A table that views are adopted from.
pub(crate) struct SourceTable {
    pub(crate) name: TableName,
    /// About how many rows it has; zero where nobody knows.
    pub(crate) about: u64,
    table: Table,
}

/// A column of it.
pub(crate) struct SourceColumn {
    pub(crate) name: String,
    /// The type's own name.
    pub(crate) type_name: String,
    /// The type as it is declared.
    pub(crate) declared: String,
    /// Whether an index finds rows in the order of this column.
    pub(crate) is_sorted: bool,
}

impl SourceTable {
    /// Finds the posts table.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn posts(client: &Client, schema: &Schema) -> Result<Self, DatabaseError> {
        Self::find(client, schema, &schema.tables.posts).await
    }

    /// Finds a table: one without a schema on the search path or, where that has none, in the schema of the posts.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] where there is none.
    pub(crate) async fn find(client: &Client, schema: &Schema, name: &TableName) -> Result<Self, DatabaseError> {
        let mut found = Table::find(client, name).await?;
        if found.is_none() && name.schema.is_none() {
            let beside = TableName { schema: schema.tables.posts.schema.clone(), table: name.table.clone() };
            found = Table::find(client, &beside).await?;
        }
        let table = found.ok_or_else(|| DatabaseError::Setup(format!("there is no table {name} to adopt views from")))?;
        Ok(Self { name: table.name(), about: table.estimated_rows.unsigned_abs(), table })
    }

    /// Returns whether there is a table of this name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(crate) async fn exists(client: &Client, name: &TableName) -> Result<bool, DatabaseError> {
        Ok(Table::find(client, name).await?.is_some())
    }

    /// Finds a column.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] where there is none.
    pub(crate) fn column(&self, name: &ColumnName) -> Result<SourceColumn, DatabaseError> {
        let column = self.table.column(name.as_str());
        let column = column.ok_or_else(|| DatabaseError::Setup(format!("the table {} has no column {name}", self.name)))?;
        Ok(SourceColumn {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            declared: column.declared.clone(),
            is_sorted: self.table.is_sorted_by(&column.name),
        })
    }
}
