//! What the application's posts table and the ledger look like: the types of their ids, read from the catalogue.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    settings::PostsSettings,
    sql::{self, CastTypes, LEDGER_TABLE, Statements, identifier::TableName},
};

/// What is wrong with the tables, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The catalogue could not be read.
    #[error("cannot read the catalogue: {0}")]
    Catalogue(#[from] tokio_postgres::Error),
    /// There is no such table.
    #[error("there is no table {0}: create it, or name the table of posts with --posts-table (POSTS_TABLE)")]
    NoTable(String),
    /// There is no such column.
    #[error("the table {table} has no column {column}: name it with {flag}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column that is missing.
        column: String,
        /// The flag that names it.
        flag: &'static str,
    },
    /// The column's type is none that this project can work with.
    #[error("the column {column} of {table} is of type {found}, where {wanted} is needed")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The ledger is missing.
    #[error("there is no ledger table {0}: run `view-syncd migrate`")]
    NoLedger(String),
}

/// The type of an id column, as far as it decides which ids can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdType {
    /// `uuid`.
    Uuid,
    /// `text`, or `varchar` with its limit in characters.
    Text {
        /// The limit, if there is one.
        longest: Option<usize>,
    },
    /// `smallint`, `integer` or `bigint`, with the greatest number that it holds.
    Integer {
        /// The greatest number; the least is its negative less one.
        greatest: i64,
    },
}

/// A column as the catalogue describes it.
#[derive(Debug, Clone)]
struct Column {
    type_name: String,
    modifier: i32,
    declared: String,
}

/// The application's tables, and the statements that fit them.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The type of post ids.
    pub post_type: IdType,
    /// The type of viewer ids.
    pub viewer_type: IdType,
    /// The statements that name these tables.
    pub statements: Statements,
    /// The ledger, where it is or will be.
    pub ledger: TableName,
    ledger_exists: bool,
}

impl IdType {
    fn of(column: &Column) -> Option<Self> {
        Some(match column.type_name.as_str() {
            "uuid" => Self::Uuid,
            "text" => Self::Text { longest: None },
            // The catalogue keeps the limit plus the four bytes of a length word.
            "varchar" => Self::Text { longest: usize::try_from(column.modifier - 4).ok() },
            "int8" => Self::Integer { greatest: i64::MAX },
            "int4" => Self::Integer { greatest: i32::MAX.into() },
            "int2" => Self::Integer { greatest: i16::MAX.into() },
            _ => return None,
        })
    }

    /// Whether a canonical id can be a value of this type. A number counts only in its shortest spelling: `007` is no post's id.
    #[must_use]
    pub fn accepts(self, id: &str) -> bool {
        match self {
            Self::Uuid => id.len() == 36 && Uuid::try_parse(id).is_ok(),
            Self::Text { longest } => longest.is_none_or(|longest| id.len() <= longest),
            Self::Integer { greatest } => {
                id.parse::<i64>().is_ok_and(|number| (-greatest - 1..=greatest).contains(&number) && number.to_string() == id)
            }
        }
    }

    /// The greatest number that a column of this type holds.
    fn greatest(self) -> i64 {
        if let Self::Integer { greatest } = self { greatest } else { i64::MAX }
    }

    /// A value that hardly exists, as an SQL expression.
    fn made_up(self) -> &'static str {
        match self {
            Self::Uuid => "gen_random_uuid()",
            Self::Text { .. } => "'nobody'::text",
            Self::Integer { greatest } if greatest == i64::MAX => "0::int8",
            Self::Integer { greatest } if greatest == i64::from(i32::MAX) => "0::int4",
            Self::Integer { .. } => "0::int2",
        }
    }

    /// As what type ids are sent where there are many of them.
    fn sent(self) -> &'static str {
        if self == Self::Uuid { "uuid" } else { "text" }
    }

    /// The type's name for a cast, without a length limit.
    fn cast(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Text { .. } => "text",
            Self::Integer { greatest } if greatest == i64::MAX => "int8",
            Self::Integer { greatest } if greatest == i64::from(i32::MAX) => "int4",
            Self::Integer { .. } => "int2",
        }
    }
}

const ID_TYPES: &str = "uuid, text, varchar, bigint, integer or smallint";

impl Schema {
    /// Reads the catalogue.
    ///
    /// # Errors
    /// [`SchemaError`] when the posts table or one of its columns is missing or of a type that cannot be used, or when a ledger is there
    /// that does not fit.
    pub async fn load(client: &Client, posts: &PostsSettings) -> Result<Self, SchemaError> {
        let names = [posts.id.as_str(), posts.author.as_str(), posts.count.as_str()];
        let Some((schema, [id, author, count])) = columns(client, &posts.table, names).await? else {
            return Err(SchemaError::NoTable(posts.table.to_string()));
        };
        let table = TableName { schema: Some(schema.clone()), table: posts.table.table.clone() };
        let present = |column: Option<Column>, name: &str, flag| {
            column.ok_or_else(|| SchemaError::NoColumn { table: table.to_string(), column: name.to_owned(), flag })
        };
        let id = present(id, names[0], "--post-id-column (POST_ID_COLUMN)")?;
        let author = present(author, names[1], "--author-column (AUTHOR_COLUMN)")?;
        let count = present(count, names[2], "--count-column (COUNT_COLUMN)")?;
        let wrong = |table: &TableName, column: &str, found: &Column, wanted| SchemaError::Type {
            table: table.to_string(),
            column: column.to_owned(),
            found: found.declared.clone(),
            wanted,
        };
        if !matches!(count.type_name.as_str(), "int8" | "int4" | "int2") {
            return Err(wrong(&table, names[2], &count, "bigint, integer or smallint"));
        }
        let post_type = IdType::of(&id).ok_or_else(|| wrong(&table, names[0], &id, ID_TYPES))?;
        let author_type = IdType::of(&author).ok_or_else(|| wrong(&table, names[1], &author, ID_TYPES))?;
        let mut viewer_type = author_type;

        let ledger = TableName { schema: Some(schema.clone()), table: LEDGER_TABLE.to_owned() };
        let found = columns(client, &ledger, ["post_id", "user_id", "viewed_at"]).await?;
        let ledger_exists = found.is_some();
        if let Some((_, [ledger_post, ledger_viewer, viewed_at])) = found {
            let missing = |column: &str| SchemaError::NoColumn {
                table: ledger.to_string(),
                column: column.to_owned(),
                flag: "`view-syncd migrate`, once the table that is in the way has been renamed",
            };
            let ledger_post = ledger_post.ok_or_else(|| missing("post_id"))?;
            let ledger_viewer = ledger_viewer.ok_or_else(|| missing("user_id"))?;
            viewed_at.ok_or_else(|| missing("viewed_at"))?;
            if IdType::of(&ledger_post).map(IdType::cast) != Some(post_type.cast()) {
                return Err(wrong(&ledger, "post_id", &ledger_post, "the type of the posts table's id"));
            }
            viewer_type = IdType::of(&ledger_viewer).ok_or_else(|| wrong(&ledger, "user_id", &ledger_viewer, ID_TYPES))?;
        }
        let types = CastTypes {
            post: post_type.cast(),
            viewer: viewer_type.cast(),
            post_sent: post_type.sent(),
            viewer_sent: viewer_type.sent(),
            author_is_text: matches!(author_type, IdType::Text { .. }),
            authors_are_viewers: author_type.cast() == viewer_type.cast(),
            made_up_viewer: viewer_type.made_up(),
            most_views: IdType::of(&count).map_or(i64::MAX, IdType::greatest),
            post_declared: &id.declared,
            viewer_declared: &author.declared,
        };
        let statements = Statements::new(&schema, posts, &types);
        Ok(Self { post_type, viewer_type, statements, ledger, ledger_exists })
    }

    /// Demands that the ledger is there.
    ///
    /// # Errors
    /// [`SchemaError::NoLedger`] where it is not.
    pub fn require_ledger(&self) -> Result<(), SchemaError> {
        if self.ledger_exists { Ok(()) } else { Err(SchemaError::NoLedger(self.ledger.to_string())) }
    }
}

/// Finds a table's real schema and some of its columns, in the order asked for; `None` where there is no such table.
async fn columns<const N: usize>(
    client: &Client,
    table: &TableName,
    names: [&str; N],
) -> Result<Option<(String, [Option<Column>; N])>, tokio_postgres::Error> {
    let rows = client.query(sql::COLUMNS, &[&table.to_string(), &names.as_slice()]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let schema: String = first.get(0);
    let columns = names.map(|name| {
        let row = rows.iter().find(|row| row.get::<_, Option<&str>>(2) == Some(name))?;
        Some(Column { type_name: row.get(3), modifier: row.get(4), declared: row.get(5) })
    });
    Ok(Some((schema, columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_accepts_what_it_can_store_and_nothing_else() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        assert!(IdType::Uuid.accepts(uuid));
        assert!(!IdType::Uuid.accepts("42"));
        let bigint = IdType::Integer { greatest: i64::MAX };
        assert!(bigint.accepts("42") && bigint.accepts("-7") && bigint.accepts("9223372036854775807"));
        assert!(!bigint.accepts("9223372036854775808") && !bigint.accepts(uuid));
        let integer = IdType::Integer { greatest: i32::MAX.into() };
        assert!(integer.accepts("2147483647") && !integer.accepts("2147483648"));
        assert!(IdType::Text { longest: None }.accepts(uuid));
        assert!(!IdType::Text { longest: Some(8) }.accepts("123456789"));
    }

    #[test]
    fn a_number_has_one_spelling() {
        let bigint = IdType::Integer { greatest: i64::MAX };
        for spelling in ["007", "-0", "+7", "7 ", "0x7"] {
            assert!(!bigint.accepts(spelling), "{spelling:?}");
        }
    }
}
