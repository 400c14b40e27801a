//! Which columns the tables have, and of which types.

use views_core::ids::MAX_POST_ID;

use super::{
    catalogue::{Column, Table},
    id_type::{ID_TYPES, IdType},
    problems::Problems,
};
use crate::config::PostsSettings;

/// The columns that the statements name, with types that they can work with.
pub(super) struct Layout<'a> {
    pub(super) id: &'a Column,
    pub(super) author: &'a Column,
    pub(super) count: &'a Column,
    pub(super) post_type: IdType,
    pub(super) author_type: IdType,
    /// The type of the ledger's viewers; where there is no ledger yet, they will be of the authors' type.
    pub(super) viewer_type: IdType,
}

const COUNT_TYPES: &str = "bigint, integer or smallint";
const TIME_TYPES: &str = "timestamptz or timestamp";
/// What to do about a table that has the ledger's name and was made for something else.
const IN_THE_WAY: &str = "rename this table, which is in the ledger's way, and run `view-syncd migrate`";

impl<'a> Layout<'a> {
    /// Finds the columns, and notes what is wrong with them; nothing where one is missing or of a type that cannot be used.
    pub(super) fn read(
        posts: &'a Table,
        ledger: Option<&'a Table>,
        settings: &PostsSettings,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut named = |name: &str, flag: &str, wanted, fits: &dyn Fn(&Column) -> bool| {
            let Some(column) = posts.column(name) else {
                problems.add(format!("the table {} has no column {name}: name it with {flag}", posts.name()));
                return None;
            };
            if !fits(column) {
                problems.add(format!("{}: name another one with {flag}", wrong_type(posts, column, wanted)));
            }
            Some(column)
        };
        let is_id = |column: &Column| IdType::of(column).is_some();
        let id = named(settings.id.as_str(), "--post-id-column (POST_ID_COLUMN)", ID_TYPES, &is_id);
        let author = named(settings.author.as_str(), "--author-column (AUTHOR_COLUMN)", ID_TYPES, &is_id);
        let is_count = |column: &Column| matches!(column.type_name.as_str(), "int8" | "int4" | "int2");
        let count = named(settings.count.as_str(), "--count-column (COUNT_COLUMN)", COUNT_TYPES, &is_count);
        if let Some(count) = count.filter(|count| count.is_generated) {
            problems.add(format!(
                "the column {} of {} is generated, so that nothing can be added to it: name an ordinary one with --count-column \
                 (COUNT_COLUMN)",
                count.name,
                posts.name()
            ));
        }
        let post_type = id.and_then(IdType::of);
        let viewer_type = ledger.map(|ledger| read_ledger(ledger, id, post_type, problems));
        let author_type = author.and_then(IdType::of)?;
        Some(Self {
            id: id?,
            author: author?,
            count: count?,
            post_type: post_type?,
            author_type,
            viewer_type: viewer_type.unwrap_or(Some(author_type))?,
        })
    }
}

/// Returns the type of the ledger's viewers.
fn read_ledger(ledger: &Table, id: Option<&Column>, post_type: Option<IdType>, problems: &mut Problems) -> Option<IdType> {
    let [post, viewer, viewed_at] = ["post_id", "user_id", "viewed_at"].map(|name| {
        let column = ledger.column(name);
        match column {
            None => problems.add(format!("the table {} has no column {name}: {IN_THE_WAY}", ledger.name())),
            Some(column) if column.is_generated => {
                problems.add(format!(
                    "the column {name} of {} is generated, so that no view can be stored: {IN_THE_WAY}",
                    ledger.name()
                ));
            }
            Some(_) => {}
        }
        column
    });
    if let (Some(post), Some(id), Some(post_type)) = (post, id, post_type)
        && !IdType::of(post).is_some_and(|own| own.holds_all_of(post_type, MAX_POST_ID))
    {
        problems.add(format!(
            "{}: run ALTER TABLE {} ALTER post_id TYPE {}",
            wrong_type(ledger, post, &format!("{}, the type of the posts' ids,", id.declared)),
            ledger.name(),
            id.declared
        ));
    }
    if let Some(viewer) = viewer.filter(|viewer| IdType::of(viewer).is_none()) {
        problems.add(format!("{}: {IN_THE_WAY}", wrong_type(ledger, viewer, ID_TYPES)));
    }
    // A date would be taken, too, but has lost when the view was.
    if let Some(viewed_at) = viewed_at.filter(|column| !matches!(column.type_name.as_str(), "timestamptz" | "timestamp" | "date"))
    {
        problems.add(format!("{}: {IN_THE_WAY}", wrong_type(ledger, viewed_at, TIME_TYPES)));
    }
    viewer.and_then(IdType::of)
}

fn wrong_type(table: &Table, column: &Column, wanted: &str) -> String {
    format!("the column {} of {} is of type {}, where {wanted} is needed", column.name, table.name(), column.declared)
}
