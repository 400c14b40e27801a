//! The application's posts table, as the application would have made it.

use tokio_postgres::{Client, Row};

/// The type of the posts' and users' ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdType {
    /// `uuid`
    #[default]
    Uuid,
    /// `text`
    Text,
    /// `varchar(64)`
    Varchar,
    /// `bigint`
    Bigint,
}

impl IdType {
    /// All of them, for a test that runs with each.
    pub const ALL: [Self; 4] = [Self::Uuid, Self::Text, Self::Varchar, Self::Bigint];

    /// Returns the type's name in SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Varchar => "varchar(64)",
            Self::Bigint => "bigint",
        }
    }
}

/// Names and types of the posts table. The default is that of both programs' settings, with uuids.
///
/// Names are quoted where they are used, so any are possible; a dot separates the schema from the table.
#[derive(Clone, Debug)]
pub struct PostsTable {
    /// The table, which may be `schema.table`.
    pub table: String,
    /// The primary key.
    pub id_column: String,
    /// The author's user id.
    pub author_column: String,
    /// The number of views.
    pub count_column: String,
    /// The type of both ids.
    pub id_type: IdType,
    /// The count's type in SQL.
    pub count_type: String,
}

impl Default for PostsTable {
    fn default() -> Self {
        Self {
            table: "posts".to_owned(),
            id_column: "id".to_owned(),
            author_column: "author_id".to_owned(),
            count_column: "views_count".to_owned(),
            id_type: IdType::default(),
            count_type: "integer".to_owned(),
        }
    }
}

impl PostsTable {
    /// Returns the default with ids of another type.
    pub fn with_ids(id_type: IdType) -> Self {
        Self { id_type, ..Self::default() }
    }

    /// Creates the table, and its schema if it names one.
    pub async fn create(&self, client: &Client) {
        let schema = self
            .table
            .split_once('.')
            .map_or_else(String::new, |(schema, _)| format!("create schema if not exists {};", quoted(schema)));
        let (table, id, author, count) = self.names();
        let (id_type, count_type) = (self.id_type.sql(), &self.count_type);
        let statement = format!(
            "{schema} create table {table} \
             ({id} {id_type} primary key, {author} {id_type}, {count} {count_type} not null default 0)"
        );
        client.batch_execute(&statement).await.expect("cannot create the posts table");
    }

    /// Inserts a post without views; the author may be `None`.
    pub async fn insert_post(&self, client: &Client, id: &str, author_id: impl Into<Option<&str>>) {
        let (table, id_column, author, _) = self.names();
        let id_type = self.id_type.sql();
        let statement = format!("insert into {table} ({id_column}, {author}) values ($1::text::{id_type}, $2::text::{id_type})");
        let inserted = client.execute(&statement, &[&id, &author_id.into()]).await;
        inserted.unwrap_or_else(|error| panic!("cannot insert the post {id}: {error:?}"));
    }

    /// Deletes a post.
    pub async fn delete_post(&self, client: &Client, id: &str) {
        let (table, id_column, _, _) = self.names();
        let statement = format!("delete from {table} where {id_column}::text = $1");
        client.execute(&statement, &[&id]).await.expect("cannot delete a post");
    }

    /// Returns a post's number of views in the posts table.
    pub async fn views_count(&self, client: &Client, id: &str) -> i64 {
        let (table, id_column, _, count) = self.names();
        let statement = format!("select {count}::bigint from {table} where {id_column}::text = $1");
        let row: Option<Row> = client.query_opt(&statement, &[&id]).await.expect("cannot read the count");
        row.unwrap_or_else(|| panic!("there is no post {id}")).get(0)
    }

    /// Returns a post's number of views in the posts table and its number of rows in the ledger, as they are at one moment.
    pub async fn views_and_rows(&self, client: &Client, id: &str) -> (i64, i64) {
        let (table, id_column, _, count) = self.names();
        let statement = format!(
            "select {count}::bigint, (select count(*) from post_views where post_id::text = $1) from {table} where {id_column}::text = $1"
        );
        let row: Option<Row> = client.query_opt(&statement, &[&id]).await.expect("cannot read the count");
        let row = row.unwrap_or_else(|| panic!("there is no post {id}"));
        (row.get(0), row.get(1))
    }

    fn names(&self) -> (String, String, String, String) {
        let table = self.table.split('.').map(quoted).collect::<Vec<_>>().join(".");
        (table, quoted(&self.id_column), quoted(&self.author_column), quoted(&self.count_column))
    }
}

/// Returns a post's number of rows in the ledger `post_views`, which the programs create themselves.
pub async fn ledger_count(client: &Client, post_id: &str) -> i64 {
    let statement = "select count(*) from post_views where post_id::text = $1";
    client.query_one(statement, &[&post_id]).await.expect("cannot read the ledger").get(0)
}

/// Returns the viewers of a post in the ledger, sorted.
pub async fn ledger_viewers(client: &Client, post_id: &str) -> Vec<String> {
    let statement = "select user_id::text from post_views where post_id::text = $1 order by user_id::text collate \"C\"";
    let rows = client.query(statement, &[&post_id]).await.expect("cannot read the ledger");
    rows.iter().map(|row| row.get(0)).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
