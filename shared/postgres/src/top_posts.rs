//! The posts that are asked for most: the newest, and those with the most views.

use tokio_postgres::Row;
use views_core::ids::PostId;

use crate::{
    Database, DatabaseError,
    schema::{IdType, Schema},
    sql::{identifier::quote, warm},
};

/// What a column is called that says since when there is a post, unless it is named.
const CREATED_COLUMNS: [&str; 4] = ["created_at", "createdAt", "created", "inserted_at"];
/// The types of such a column.
const TIME_TYPES: [&str; 3] = ["timestamptz", "timestamp", "date"];
/// Posts that are handed out together.
const CHUNK: i64 = 1_000;

/// Which posts come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The newest: by this column, which says since when there is a post, or by one of the usual names; where there is
    /// none of these, by an id that is a number.
    Newest(Option<String>),
    /// Those with the most views.
    MostViewed,
}

/// Posts in an order, in chunks.
#[derive(Debug)]
pub struct TopPosts(std::vec::IntoIter<Row>);

impl Iterator for TopPosts {
    type Item = Vec<PostId>;

    fn next(&mut self) -> Option<Vec<PostId>> {
        let ids: Vec<String> = self.0.next()?.get(0);
        // What is no id of ours is nobody's to view.
        Some(ids.iter().filter_map(|id| PostId::parse(id).ok()).collect())
    }
}

/// Returns the first `number` posts in an order. Their ids are kept until they are handed out: some forty bytes each.
///
/// # Errors
/// [`DatabaseError`]; [`DatabaseError::Setup`] where the table does not tell which posts are the newest.
pub async fn top_posts(database: &Database, order: &Order, number: usize) -> Result<TopPosts, DatabaseError> {
    let schema = database.schema().await?;
    let tables = &schema.tables;
    let statement = match order {
        Order::Newest(created) => {
            let column = created_column(database, &schema, created.as_deref()).await?;
            warm::greatest(&tables.posts, &tables.id.to_string(), &column)
        }
        Order::MostViewed => warm::greatest(tables.counted(), &tables.counted_id(), &tables.counts.column.to_string()),
    };
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let rows = database.query(&statement, &[&number, &CHUNK]).await?;
    Ok(TopPosts(rows.into_iter()))
}

/// Returns the column, quoted, by which posts are put in the order of their age.
async fn created_column(database: &Database, schema: &Schema, named: Option<&str>) -> Result<String, DatabaseError> {
    let table = schema.tables.posts.to_string();
    let names: Vec<&str> = named.map_or_else(|| CREATED_COLUMNS.to_vec(), |name| vec![name]);
    let rows = database.query(warm::COLUMNS, &[&table, &names]).await?;
    let setup = |text| Err(DatabaseError::Setup(text));
    if let Some(name) = named {
        return match rows.first().map(|row| row.get::<_, bool>(2)) {
            Some(true) => Ok(quote(name)),
            Some(false) => setup(format!("this role may not read {name}: GRANT SELECT ({}) ON {table} to it", quote(name))),
            None => setup(format!("the table {table} has no column {name}: name another one with --created-column")),
        };
    }
    let fits = |row: &&Row| TIME_TYPES.contains(&row.get::<_, &str>(1)) && row.get::<_, bool>(2);
    if let Some(row) = rows.iter().find(fits) {
        return Ok(quote(row.get(0)));
    }
    match schema.post_type {
        IdType::Integer { .. } => Ok(schema.tables.id.to_string()),
        _ => setup(format!(
            "{table} does not tell which posts are the newest: name the column with the time of their creation with \
             --created-column (CREATED_COLUMN) and GRANT SELECT of it to this role, or choose the posts by their views"
        )),
    }
}
