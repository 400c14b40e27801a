//! What the application's posts table and the ledger look like, read from the catalogue, and whether that is what this
//! project needs.

pub(super) mod cache;
mod catalogue;
mod count_type;
mod distinct_ids;
mod examination;
pub(crate) mod id_type;
mod layout;
mod migration;
mod preconditions;
mod problems;
mod purpose;
mod source_table;

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use views_core::ids::{PostId, ViewerId, is_canonical_uuid};

pub(crate) use self::source_table::{SourceColumn, SourceTable};
use self::{
    catalogue::Table,
    layout::{Found, Layout},
};
pub use self::{examination::Examination, id_type::IdType, migration::Migrated, problems::Problems, purpose::Purpose};
use crate::{
    config::PostsSettings,
    sql::{
        Statements,
        adopt::Target,
        duplicates,
        identifier::{ColumnName, TableName, quote},
        migration::{Creation, DeclaredTypes},
        tables::{Author, COUNT_TABLE_VIEWS, Counts, POST_ID, Tables},
        types::{CastTypes, UserKey},
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
    /// The names of the tables, and of the columns of the posts table.
    pub tables: Tables,
    /// The statements that name these tables.
    pub statements: Statements,
    /// Where existing views go to.
    pub(crate) target: Target,
    /// The statements that create what is missing.
    pub(crate) creation: Creation,
    /// Which tables are there, and who else may do anything with them.
    pub(crate) beside: Beside,
    /// Whether the column of counts is missing, and to be added.
    pub(crate) lacks_count: bool,
    /// Why no foreign key can lead to the posts; empty where one can.
    pub(crate) unreferenced: String,
    /// Whether the posts are those of a view.
    pub(crate) is_view: bool,
    /// Where nothing keeps the posts' ids unique: how to look for one that stands twice, and what is to be done.
    pub(crate) repeatable: Option<Repeatable>,
    /// About how many posts there are; zero where nobody knows.
    pub estimated_posts: u64,
    /// Whether posts can be gone through in the order of their ids.
    pub(crate) is_sorted: bool,
    /// Whether an index of the ledger leads from a viewer to his rows.
    pub(crate) has_viewer_index: bool,
    loaded: Instant,
}

/// A table beside the posts.
#[derive(Debug, Clone)]
pub(crate) struct TableBeside {
    pub(crate) name: TableName,
    /// Whether the role may close it to others.
    pub(crate) is_owned: bool,
    /// Those who have rights on it and may be anybody.
    pub(crate) open_to: Vec<String>,
    /// Whether a foreign key leads from its posts to somewhere.
    pub(crate) is_referring: bool,
}

/// The tables beside the posts, where they are there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    pub(crate) ledger: Option<TableBeside>,
    pub(crate) counts: Option<TableBeside>,
    pub(crate) base: Option<TableBeside>,
}

/// Posts whose ids nothing keeps unique.
#[derive(Debug, Clone)]
pub(crate) struct Repeatable {
    /// Each finds an id that stands twice, if it finds any.
    pub(crate) statements: [String; 2],
    /// What is told of it where there is none.
    pub(crate) warning: String,
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
        let ledger = PostsSettings::beside(&settings.ledger, &posts.schema);
        let base = PostsSettings::base_of(&ledger);
        let count_table = settings.count_table.as_ref().map(|table| PostsSettings::beside(table, &posts.schema));
        let found_ledger = Table::find(client, &ledger).await?;
        let found_counts = match &count_table {
            Some(table) => Table::find(client, table).await?,
            None => None,
        };
        // Views are stored without a look at it.
        let found_base = if purpose == Purpose::Work { None } else { Table::find(client, &base).await? };
        let found =
            Found { posts: &posts, ledger: found_ledger.as_ref(), counts: found_counts.as_ref(), base: found_base.as_ref() };
        let layout = Layout::read(found, settings, purpose, &mut problems);
        if let Some(layout) = &layout {
            preconditions::check(found, [&ledger, &base], settings, layout, purpose, &mut problems);
        }
        let Some(layout) = layout.filter(|_| problems.is_empty()) else { return Err(SchemaError::Unfit(problems)) };

        let users = found.ledger.iter().flat_map(|ledger| &ledger.foreign_keys).filter_map(|key| {
            let column = key.readable_target_of("user_id")?;
            Some(UserKey { name: key.name.clone(), table: key.table(), column: quote(column) })
        });
        let types = CastTypes {
            post: layout.post_cast(),
            viewer: layout.viewer_cast(),
            post_sent: layout.post_type.sent(),
            viewer_sent: layout.viewer_type.sent(),
            authors_are_viewers: layout.authors_are_viewers(),
            made_up_viewer: layout.viewer_type.made_up(),
            most_views: layout.count_type.greatest,
        };
        let refers =
            |table: Option<&Table>| table.is_some_and(|table| table.foreign_keys.iter().any(|key| key.table() == posts.name()));
        // A right on any of the columns is one to lock rows.
        let may_lock = posts.columns().any(|column| column.allows("UPDATE"));
        let counts = Counts {
            column: count_table.as_ref().map_or(settings.count.clone(), |_| ColumnName::literal(COUNT_TABLE_VIEWS)),
            is_numeric: layout.count_type.is_numeric,
            locks_posts: count_table.is_some() && (refers(found.ledger) || refers(found.counts)) && may_lock,
            table: count_table,
        };
        let tables = Tables {
            posts: posts.name(),
            id: settings.id.clone(),
            ids_ignore_case: layout.post_type == IdType::CaseInsensitive,
            author: settings.author.clone().map(|column| Author { column, is_text: layout.author_is_text() }),
            counts,
            ledger,
            base,
            bases_lock_posts: refers(found.base) && may_lock,
        };
        let users: Vec<UserKey> = users.collect();
        let unreferenced = preconditions::referenceable(&posts, layout.id).err();
        let declared = DeclaredTypes { post: &layout.id.declared, viewer: layout.viewer_declared() };
        Ok(Self {
            post_type: layout.post_type,
            viewer_type: layout.viewer_type,
            statements: Statements::new(&tables, &types, &users),
            creation: Creation::new(&tables, &declared, unreferenced.is_none()),
            beside: Beside {
                ledger: found.ledger.map(TableBeside::of),
                counts: found.counts.map(TableBeside::of),
                base: found.base.map(TableBeside::of),
            },
            lacks_count: layout.count.is_none() && tables.counts.table.is_none(),
            unreferenced: unreferenced.unwrap_or_default(),
            is_view: posts.is_view(),
            repeatable: repeatable(&posts, &tables),
            estimated_posts: posts.estimated_rows.unsigned_abs(),
            has_viewer_index: found.ledger.is_some_and(|ledger| ledger.is_sorted_by("user_id")),
            is_sorted: posts.is_view() || posts.is_sorted_by(tables.id.as_str()),
            target: Target {
                tables: tables.clone(),
                post: layout.post_type,
                viewer: layout.viewer_type,
                post_cast: types.post.to_owned(),
                viewer_cast: types.viewer.to_owned(),
                most_views: types.most_views,
                users,
            },
            tables,
            loaded,
        })
    }

    /// Returns whether there may be a post of this id. A UUID in a column of texts may be kept without its hyphens.
    #[must_use]
    pub fn accepts_post(&self, post: &PostId) -> bool {
        let id = post.as_str();
        let is_compact = |longest| longest >= COMPACT_UUID && is_canonical_uuid(id.as_bytes());
        self.post_type.accepts(id) || self.post_type.longest().is_some_and(is_compact)
    }

    /// Returns whether the ledger can hold this viewer.
    #[must_use]
    pub fn accepts_viewer(&self, viewer: &ViewerId) -> bool {
        self.viewer_type.accepts(viewer.as_str())
    }

    /// Returns whether the table of bases is there, as far as that was looked at.
    #[must_use]
    pub fn has_base(&self) -> bool {
        self.beside.base.is_some()
    }

    /// Returns whether an index is known by which posts can be gone through in the order of their ids.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.is_sorted && !self.is_view
    }

    /// Returns whether it was read longer ago than this.
    fn is_older_than(&self, age: Duration) -> bool {
        self.loaded.elapsed() > age
    }
}

impl TableBeside {
    fn of(table: &Table) -> Self {
        let is_referring = table.foreign_keys.iter().any(|key| key.target_of(POST_ID).is_some());
        Self { name: table.name(), is_owned: table.is_owned, open_to: table.open_to.clone(), is_referring }
    }
}

/// Returns how to look for ids that stand twice, where nothing keeps them unique.
fn repeatable(posts: &Table, tables: &Tables) -> Option<Repeatable> {
    let id = tables.id.as_str();
    if posts.keys_on(id).next().is_some() && !posts.has_heirs {
        return None;
    }
    let is_sorted = posts.is_sorted_by(id);
    let (name, column) = (&tables.posts, quote(id));
    let advice = match (posts.is_table(), is_sorted) {
        (true, true) => String::new(),
        (true, false) => format!(
            "; and no index finds one by its id, so that each look-up reads the whole table: run CREATE INDEX ON \
                                  {name} ({column})"
        ),
        (false, _) => ", as that is no table of this database's own".to_owned(),
    };
    let warning =
        format!("nothing keeps the column {column} of {name} unique; a post that is there twice would be counted twice{advice}");
    Some(Repeatable { statements: duplicates::statements(tables, is_sorted, posts.is_table()), warning })
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
