//! What the catalogue says of a source: its types, and by what index its pairs are found.

use tokio_postgres::Client;

use super::Source;
use crate::{
    DatabaseError,
    schema::{Schema, SourceColumn, SourceTable},
    sql::adopt::{Origin, Raw},
};

/// What a column has to be, and what to do where it is not.
type Wanted = (&'static str, &'static str);

const ELEMENTS: Wanted = (
    "an array of text, uuid or integers, or jsonb",
    "make a view that has a row for each pair, and name that with --from-table (lists with commas: unnest(string_to_array(…, ',')))",
);
const VALUES: Wanted = ("text, uuid or an integer", "make a view that casts it to text, and name that with --from-table");
const TIMES: Wanted = (
    "a timestamp or a date",
    "leave the time out, or make a view that converts it (milliseconds: to_timestamp(time / 1000.0)), and name that with --from-table",
);

/// A source that was found.
pub(super) struct Found {
    pub(super) origin: Origin,
    /// What its viewers are.
    pub(super) raw: Raw,
    /// About how many posts or pairs it has; zero where nobody knows.
    pub(super) about: u64,
}

/// Finds a source.
///
/// # Errors
/// [`DatabaseError::Setup`] where it is not there, or nothing can be read from it.
pub(super) async fn find(client: &Client, schema: &Schema, source: &Source) -> Result<Found, DatabaseError> {
    match source {
        Source::Array(column) => {
            let posts = SourceTable::posts(client, schema).await?;
            let found = posts.column(column)?;
            let raw = found.type_name.strip_prefix('_').map_or_else(|| (found.type_name == "jsonb").then_some(Raw::Json), raw);
            let raw = raw.ok_or_else(|| wrong_type(&posts, &found, ELEMENTS))?;
            Ok(Found { origin: Origin::Array { column: column.clone() }, raw, about: posts.about })
        }
        Source::Table { table, post, viewer, at } => {
            let pairs = SourceTable::find(client, schema, table).await?;
            let [of_post, of_viewer] = [pairs.column(post)?, pairs.column(viewer)?];
            let raw_of = |column: &SourceColumn| raw(&column.type_name).ok_or_else(|| wrong_type(&pairs, column, VALUES));
            let (post_raw, raw) = (raw_of(&of_post)?, raw_of(&of_viewer)?);
            if let Some(at) = at {
                let of_time = pairs.column(at)?;
                if !matches!(of_time.type_name.as_str(), "timestamptz" | "timestamp" | "date") {
                    return Err(wrong_type(&pairs, &of_time, TIMES));
                }
            }
            let origin = Origin::Table {
                table: pairs.name.clone(),
                post: post.clone(),
                post_type: of_post.declared,
                post_raw,
                viewer: viewer.clone(),
                at: at.clone(),
                is_staged: !of_post.is_sorted,
            };
            Ok(Found { origin, raw, about: pairs.about })
        }
    }
}

/// Demands that the table of bases is there.
///
/// # Errors
/// [`DatabaseError::Setup`] where it is not.
pub(super) async fn demand_bases(client: &Client, schema: &Schema) -> Result<(), DatabaseError> {
    let base = &schema.tables.base;
    match SourceTable::exists(client, base).await? {
        true => Ok(()),
        false => Err(DatabaseError::Setup(format!("there is no table of bases {base}: run `view-syncd migrate`"))),
    }
}

/// Returns what the values of a type are.
fn raw(type_name: &str) -> Option<Raw> {
    match type_name {
        "uuid" => Some(Raw::Uuid),
        "text" | "varchar" | "bpchar" | "citext" | "name" => Some(Raw::Text),
        "int2" | "int4" | "int8" | "numeric" => Some(Raw::Number),
        _ => None,
    }
}

fn wrong_type(table: &SourceTable, column: &SourceColumn, (wanted, remedy): Wanted) -> DatabaseError {
    DatabaseError::Setup(format!(
        "the column {} of {} is of type {}, where {wanted} is needed: {remedy}",
        column.name, table.name, column.declared
    ))
}
