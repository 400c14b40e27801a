//! Which columns the tables have, and of which types.

use views_core::ids::MAX_POST_ID;

use super::{
    catalogue::{Column, Table},
    count_type::{COUNT_TYPES, CountType},
    id_type::{ID_TYPES, IdType},
    problems::Problems,
    purpose::Purpose,
};
use crate::{
    config::PostsSettings,
    sql::tables::{BASE, COUNT_TABLE_VIEWS, POST_ID},
};

/// The tables as they were found.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) posts: &'a Table,
    pub(super) ledger: Option<&'a Table>,
    /// The table of counts, where one is named and there.
    pub(super) counts: Option<&'a Table>,
    /// The table of bases, where it is there and looked at.
    pub(super) base: Option<&'a Table>,
}

/// The columns that the statements name, with types that they can work with.
pub(super) struct Layout<'a> {
    pub(super) id: &'a Column,
    pub(super) author: Option<&'a Column>,
    /// The column of the counts in the posts table, unless there is a table of counts, or it is missing and to be added.
    pub(super) count: Option<&'a Column>,
    pub(super) post_type: IdType,
    pub(super) count_type: CountType,
    /// The column of the ledger's viewers; where there is no ledger yet, they will be of the authors' type.
    pub(super) viewer: Option<&'a Column>,
    pub(super) viewer_type: IdType,
}

const TIME_TYPES: &str = "timestamptz or timestamp";
/// What to do about a table that has the ledger's name and was made for something else.
const IN_THE_WAY: &str = "rename this table, which is in the ledger's way, and run `view-syncd migrate`, or name another one with \
                          --ledger-table (LEDGER_TABLE)";
/// The same of the table of counts.
const COUNTS_IN_THE_WAY: &str = "rename this table, which is in the way of the one of counts, or name another one with --count-table \
                                 (COUNT_TABLE)";
/// The same of the table of bases.
const BASE_IN_THE_WAY: &str = "rename this table, which is in the way of the one of bases, or name another ledger with --ledger-table \
                               (LEDGER_TABLE)";

impl<'a> Layout<'a> {
    /// Finds the columns, and notes what is wrong with them; nothing where one is missing or of a type that cannot be used.
    pub(super) fn read(found: Found<'a>, settings: &PostsSettings, purpose: Purpose, problems: &mut Problems) -> Option<Self> {
        let Found { posts, ledger, counts, base } = found;
        let id = named(posts, settings.id.as_str(), ID_FLAG, "", problems);
        let author = settings.author.as_ref().map(|author| named(posts, author.as_str(), AUTHOR_FLAG, NO_AUTHOR, problems));
        let is_author_missing = author.is_some_and(|author| author.is_none());
        let author = author.flatten();
        for (column, flag) in id.map(|id| (id, ID_FLAG)).into_iter().chain(author.map(|author| (author, AUTHOR_FLAG))) {
            if IdType::of(column).is_none() {
                problems.add(format!("{}: name another one with {flag}", wrong_type(posts, column, ID_TYPES)));
            }
        }
        let (count, count_type) = read_count(posts, settings, purpose, problems);
        let post_type = id.and_then(IdType::of);
        if let (Some(counts), Some(id)) = (counts, id) {
            read_counts(counts, id, post_type, problems);
        }
        if let (Some(base), Some(id)) = (base, id) {
            read_base(base, id, post_type, problems);
        }
        let viewer = ledger.map(|ledger| read_ledger(ledger, id, post_type, problems));
        let viewer_type = match viewer {
            Some(viewer) => viewer.and_then(IdType::of),
            None => author.map_or(Some(ANY_VIEWER), IdType::of).map(as_viewers),
        };
        if is_author_missing {
            return None;
        }
        Some(Self {
            id: id?,
            author,
            count,
            post_type: post_type?,
            count_type: count_type?,
            viewer: viewer.flatten(),
            viewer_type: viewer_type?,
        })
    }

    /// Returns the type of post ids for a cast, without a length limit.
    pub(super) fn post_cast(&self) -> &'a str {
        cast(self.id, self.post_type)
    }

    /// Returns the type of viewers for a cast.
    pub(super) fn viewer_cast(&self) -> &'a str {
        match (self.viewer, self.author) {
            (Some(viewer), _) => cast(viewer, self.viewer_type),
            (None, Some(author)) => cast(author, self.viewer_type),
            (None, None) => "text",
        }
    }

    /// Returns whether authors are texts, which may spell a UUID in any way.
    pub(super) fn author_is_text(&self) -> bool {
        self.author.and_then(IdType::of).is_some_and(IdType::is_text)
    }

    /// Returns whether authors and viewers are of one type.
    pub(super) fn authors_are_viewers(&self) -> bool {
        let author = self.author.and_then(|author| Some(cast(author, IdType::of(author)?)));
        author == Some(self.viewer_cast())
    }

    /// Returns the type as which a new ledger declares its viewers.
    pub(super) fn viewer_declared(&self) -> &'a str {
        let author = self.author.filter(|author| IdType::of(author) != Some(IdType::CaseInsensitive));
        author.map_or("text", |author| &author.declared)
    }
}

const ID_FLAG: &str = "--post-id-column (POST_ID_COLUMN)";
const AUTHOR_FLAG: &str = "--author-column (AUTHOR_COLUMN)";
const COUNT_FLAG: &str = "--count-column (COUNT_COLUMN)";
const NO_AUTHOR: &str = ", which is given and empty where posts have no author";
const NO_COUNT: &str = ", add it with `view-syncd migrate --add-count-column`, or keep the counts in a table of their own with \
                        --count-table (COUNT_TABLE)";
/// The type of viewers where nothing says which they are of.
const ANY_VIEWER: IdType = IdType::Text { longest: None };

/// Returns the type of a new ledger's viewers where authors are of this type. Two viewers are two whatever their case.
fn as_viewers(author_type: IdType) -> IdType {
    if author_type == IdType::CaseInsensitive { ANY_VIEWER } else { author_type }
}

/// Returns a column's type for a cast. Text is compared with whatever is no type of its own.
fn cast(column: &Column, id_type: IdType) -> &str {
    if matches!(id_type, IdType::Text { .. }) { "text" } else { &column.cast_name }
}

fn named<'a>(table: &'a Table, name: &str, flag: &str, or: &str, problems: &mut Problems) -> Option<&'a Column> {
    let column = table.column(name);
    if column.is_none() {
        problems.add(format!("the table {} has no column {name}: name it with {flag}{or}", table.name()));
    }
    column
}

/// Returns the column of the counts in the posts table, if it has to be there, and of which type the counts are.
fn read_count<'a>(
    posts: &'a Table,
    settings: &PostsSettings,
    purpose: Purpose,
    problems: &mut Problems,
) -> (Option<&'a Column>, Option<CountType>) {
    if settings.count_table.is_some() {
        return (None, Some(CountType::BIGINT));
    }
    if purpose.adds_count() && posts.column(settings.count.as_str()).is_none() {
        if !posts.is_table() {
            problems.add(format!(
                "no column can be added to {}, because that is no table of this database's own: add one to the table that it shows, and show \
                 it there{NO_COUNT_HERE}",
                posts.name()
            ));
        }
        return (None, Some(CountType::BIGINT));
    }
    let Some(count) = named(posts, settings.count.as_str(), COUNT_FLAG, NO_COUNT, problems) else { return (None, None) };
    let count_type = CountType::of(count);
    if count_type.is_none() {
        problems.add(format!("{}: name another one with {COUNT_FLAG}{NO_COUNT_HERE}", wrong_type(posts, count, COUNT_TYPES)));
    }
    if count.is_generated {
        problems.add(format!(
            "the column {} of {} is generated, so that nothing can be added to it: name an ordinary one with {COUNT_FLAG}{NO_COUNT_HERE}",
            count.name,
            posts.name()
        ));
    } else if !count.is_updatable {
        problems.add(format!(
            "the column {} of {} cannot be updated there, because that is no table of this database's own, nor a view that PostgreSQL \
             can update: name the table that it shows with --posts-table (POSTS_TABLE){NO_COUNT_HERE}",
            count.name,
            posts.name()
        ));
    }
    (Some(count), count_type)
}

/// What to do where the column will not do.
const NO_COUNT_HERE: &str = ", or keep the counts in a table of their own with --count-table (COUNT_TABLE)";

/// Looks at the columns of the table of counts.
fn read_counts(counts: &Table, id: &Column, post_type: Option<IdType>, problems: &mut Problems) {
    for name in [POST_ID, COUNT_TABLE_VIEWS] {
        if counts.column(name).is_none() {
            problems.add(format!("the table {} has no column {name}: {COUNTS_IN_THE_WAY}", counts.name()));
        }
    }
    if let (Some(post), Some(post_type)) = (counts.column(POST_ID), post_type) {
        check_holds_posts(counts, post, id, post_type, problems);
    }
    if let Some(views) = counts.column(COUNT_TABLE_VIEWS).filter(|views| views.type_name != "int8" || views.is_generated) {
        problems.add(format!("{}: {COUNTS_IN_THE_WAY}", wrong_type(counts, views, "an ordinary bigint")));
    }
}

/// Looks at the columns of the table of bases.
fn read_base(base: &Table, id: &Column, post_type: Option<IdType>, problems: &mut Problems) {
    for name in [POST_ID, BASE] {
        if base.column(name).is_none() {
            problems.add(format!("the table {} has no column {name}: {BASE_IN_THE_WAY}", base.name()));
        }
    }
    if let (Some(post), Some(post_type)) = (base.column(POST_ID), post_type) {
        check_holds_posts(base, post, id, post_type, problems);
    }
    if let Some(column) = base.column(BASE).filter(|column| column.type_name != "int8") {
        problems.add(format!("{}: {BASE_IN_THE_WAY}", wrong_type(base, column, "a bigint")));
    }
}

/// Returns the column of the ledger's viewers.
fn read_ledger<'a>(
    ledger: &'a Table,
    id: Option<&Column>,
    post_type: Option<IdType>,
    problems: &mut Problems,
) -> Option<&'a Column> {
    let [post, viewer, viewed_at] = [POST_ID, "user_id", "viewed_at"].map(|name| {
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
    if let (Some(post), Some(id), Some(post_type)) = (post, id, post_type) {
        check_holds_posts(ledger, post, id, post_type, problems);
    }
    if let Some(viewer) = viewer.filter(|viewer| IdType::of(viewer).is_none()) {
        problems.add(format!("{}: {IN_THE_WAY}", wrong_type(ledger, viewer, ID_TYPES)));
    }
    // A date would be taken, too, but has lost when the view was.
    if let Some(viewed_at) = viewed_at.filter(|column| !matches!(column.type_name.as_str(), "timestamptz" | "timestamp" | "date"))
    {
        problems.add(format!("{}: {IN_THE_WAY}", wrong_type(ledger, viewed_at, TIME_TYPES)));
    }
    viewer
}

/// Notes where a table beside the posts cannot hold all of their ids.
fn check_holds_posts(table: &Table, post: &Column, id: &Column, post_type: IdType, problems: &mut Problems) {
    if !IdType::of(post).is_some_and(|own| own.holds_all_of(post_type, MAX_POST_ID)) {
        let wanted = format!("{}, the type of the posts' ids,", id.declared);
        problems.add(format!(
            "{}: run ALTER TABLE {} ALTER post_id TYPE {}",
            wrong_type(table, post, &wanted),
            table.name(),
            id.declared
        ));
    }
}

fn wrong_type(table: &Table, column: &Column, wanted: &str) -> String {
    format!("the column {} of {} is of type {}, where {wanted} is needed", column.name, table.name(), column.declared)
}
