//! What the application's posts table and the ledger look like, read from the catalogue, and whether that is what this
//! project needs.

pub(super) mod cache;
mod catalogue;
mod id_type;
mod layout;
mod migration;
mod preconditions;
mod problems;
mod source_table;

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use views_core::ids::{PostId, ViewerId, is_canonical_uuid};

use self::{catalogue::Table, layout::Layout};
pub(crate) use self::source_table::{SourceColumn, SourceTable};
pub use self::{id_type::IdType, migration::Migrated, preconditions::Purpose, problems::Problems};
use crate::{
    config::PostsSettings,
    sql::{
        CastTypes, LEDGER_TABLE, Statements, UserKey,
        adopt::Target,
        canonical,
        identifier::{TableName, quote},
    },
};

/// What is wrong with the tables, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The catalogue could not be read.
    #[error("cannot read the catalogue: {0}")]
    Catalogue(#[from] tokio_postgres::Error),
    /// The catalogue says what this program does not understand.
    #[error("cannot understand the catalogue: {0}")]
    Unreadable(serde_json::Error),
    /// The tables are there or not, and not as they are needed.
    #[error("{0}")]
    Unfit(Problems),
}

/// The length of a UUID without hyphens.
const COMPACT_UUID: usize = 32;

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
    /// Where existing views go to.
    pub(crate) target: Target,
    /// The posts table.
    pub(crate) posts: TableName,
    /// The table of bases.
    pub(crate) base: TableName,
    ledger_exists: bool,
    loaded: Instant,
}

impl Schema {
    /// Reads the catalogue, and demands what the purpose needs.
    ///
    /// # Errors
    /// [`SchemaError::Unfit`] with everything that is not as it is needed.
    pub async fn load(client: &Client, settings: &PostsSettings, purpose: Purpose) -> Result<Self, SchemaError> {
        let loaded = Instant::now();
        let mut problems = Problems::default();
        let Some(posts) = Table::find(client, &settings.table).await? else {
            problems.add(explain_absence(client, &settings.table).await?);
            return Err(SchemaError::Unfit(problems));
        };
        let ledger = TableName { schema: Some(posts.schema.clone()), table: LEDGER_TABLE.to_owned() };
        let found = Table::find(client, &ledger).await?;
        let layout = Layout::read(&posts, found.as_ref(), settings, &mut problems);
        if let Some(layout) = &layout {
            preconditions::check(&posts, found.as_ref(), layout, purpose, &mut problems);
        }
        let Some(layout) = layout.filter(|_| problems.is_empty()) else { return Err(SchemaError::Unfit(problems)) };

        let Layout { id, author, count, post_type, author_type, viewer_type, .. } = layout;
        let users = found.iter().flat_map(|ledger| &ledger.foreign_keys).filter_map(|key| {
            let column = key.readable_target_of("user_id")?;
            Some(UserKey { name: key.name.clone(), table: key.table(), column: quote(column) })
        });
        let types = CastTypes {
            post: post_type.cast(),
            viewer: viewer_type.cast(),
            post_sent: post_type.sent(),
            viewer_sent: viewer_type.sent(),
            author_is_text: matches!(author_type, IdType::Text { .. }),
            authors_are_viewers: author_type.cast() == viewer_type.cast(),
            made_up_viewer: viewer_type.made_up(),
            most_views: IdType::of(count).map_or(i64::MAX, IdType::greatest),
            post_declared: &id.declared,
            viewer_declared: &author.declared,
        };
        let users = users.collect::<Vec<_>>();
        let statements = Statements::new(&posts.schema, settings, &types, &users);
        let base = TableName { schema: ledger.schema.clone(), table: format!("{}_base", ledger.table) };
        let target = Target {
            posts: posts.name().to_string(),
            id: settings.id.to_string(),
            id_cast: post_type.cast().to_owned(),
            author: match types.author_is_text {
                true => canonical(&format!("p.{}::text", settings.author)),
                false => format!("p.{}::text", settings.author),
            },
            counted: [posts.name().to_string(), settings.id.to_string()],
            join_counts: String::new(),
            views: format!("coalesce(p.{}, 0)::int8", settings.count),
            count: settings.count.to_string(),
            ledger: ledger.to_string(),
            base: base.to_string(),
            post: post_type,
            viewer: viewer_type,
            users: users.iter().map(|key| (key.table.to_string(), key.column.clone())).collect(),
            most_views: types.most_views,
        };
        Ok(Self { post_type, viewer_type, statements, ledger, target, posts: posts.name(), base, ledger_exists: found.is_some(), loaded })
    }

    /// Returns whether there may be a post of this id. A UUID in a column of texts may be kept without its hyphens.
    #[must_use]
    pub fn accepts_post(&self, post: &PostId) -> bool {
        let id = post.as_str();
        let is_compact = |longest| longest >= COMPACT_UUID && is_canonical_uuid(id.as_bytes());
        self.post_type.accepts(id) || matches!(self.post_type, IdType::Text { longest: Some(longest) } if is_compact(longest))
    }

    /// Returns whether the ledger can hold this viewer.
    #[must_use]
    pub fn accepts_viewer(&self, viewer: &ViewerId) -> bool {
        self.viewer_type.accepts(viewer.as_str())
    }

    /// Returns whether the ledger is there.
    #[must_use]
    pub fn has_ledger(&self) -> bool {
        self.ledger_exists
    }

    /// Returns whether it was read longer ago than this.
    fn is_older_than(&self, age: Duration) -> bool {
        self.loaded.elapsed() > age
    }
}

/// Why the table of posts is not to be found, and what to do.
async fn explain_absence(client: &Client, table: &TableName) -> Result<String, SchemaError> {
    if table.schema.is_none()
        && let Some((schema, role)) = catalogue::find_hidden(client, &table.table).await?
    {
        return Ok(format!(
            "the role {role} lacks a right, without which it does not find the table {}: GRANT USAGE ON SCHEMA {schema} TO {role}",
            quote(&table.table)
        ));
    }
    Ok(format!("there is no table {table}: create it, or name the table of posts with --posts-table (POSTS_TABLE)"))
}
