//! What the tables and the role's rights must be, so that every view is stored once and none is lost. Each finding is a
//! line that says what is wrong and what to do; a missing right is the very `GRANT` that gives it.

use super::{
    catalogue::{Column, Index, Table},
    layout::{Found, Layout},
    problems::Problems,
    purpose::Purpose,
};
use crate::{
    config::PostsSettings,
    sql::{
        identifier::{TableName, quote},
        tables::{BASE, COUNT_TABLE_VIEWS, POST_ID},
    },
};

/// Looks at everything but the columns themselves, which [`Layout::read`] finds.
pub(super) fn check(
    found: Found<'_>,
    [ledger_name, base_name]: [&TableName; 2],
    settings: &PostsSettings,
    layout: &Layout<'_>,
    purpose: Purpose,
    problems: &mut Problems,
) {
    let Found { posts, ledger, counts, base } = found;
    check_visible(posts, problems);
    if let Some(ledger) = ledger {
        check_once(ledger, problems);
        check_foreign_keys("ledger", ledger, posts, layout.id, problems);
        check_insertable("ledger", ledger, &LEDGER_COLUMNS, problems);
        check_visible(ledger, problems);
    } else if purpose.is_work() {
        problems.add(format!("there is no ledger table {ledger_name}: run `view-syncd migrate`"));
    }
    let counts_name = settings.count_table.as_ref().map(|table| PostsSettings::beside(table, &posts.schema));
    if let Some(counts) = counts {
        check_once_for_each("table of counts", counts, problems);
        check_foreign_keys("table of counts", counts, posts, layout.id, problems);
        check_insertable("table of counts", counts, &[POST_ID, COUNT_TABLE_VIEWS], problems);
        check_visible(counts, problems);
    } else if let Some(name) = counts_name.as_ref().filter(|_| purpose.is_work()) {
        problems.add(format!("there is no table of counts {name}: run `view-syncd migrate`"));
    }
    if let Some(base) = base {
        check_once_for_each("table of bases", base, problems);
        check_visible(base, problems);
    } else if purpose.needs_bases() {
        problems.add(format!("there is no table of bases {base_name}, by which counts would be known: run `view-syncd migrate`"));
    }
    if purpose.is_work() {
        check_schema_rights(posts, &["USAGE"], problems);
        let author = layout.author.map(|author| author.name.as_str());
        let count = layout.count.map(|count| count.name.as_str());
        let read: Vec<&str> = [Some(layout.id.name.as_str()), author, count].into_iter().flatten().collect();
        let written: Vec<&str> = count.into_iter().collect();
        check_rights(posts, &[("SELECT", &read), ("UPDATE", &written)], problems);
        if let Some(ledger) = ledger {
            check_schema_rights(ledger, &["USAGE"], problems);
            check_rights(ledger, &[("SELECT", &[POST_ID, "user_id"]), ("INSERT", &LEDGER_COLUMNS)], problems);
            check_sequences(ledger, problems);
            if purpose == Purpose::Forget && !ledger.is_deletable {
                problems.add(lacks(ledger, &format!("GRANT DELETE ON {} TO {}", ledger.name(), ledger.role())));
            }
        }
        if let Some(counts) = counts {
            check_schema_rights(counts, &["USAGE"], problems);
            let both = [POST_ID, COUNT_TABLE_VIEWS];
            check_rights(counts, &[("SELECT", &both), ("INSERT", &both), ("UPDATE", &[COUNT_TABLE_VIEWS])], problems);
        }
        if let Some(base) = base {
            check_schema_rights(base, &["USAGE"], problems);
            let both = [POST_ID, BASE];
            check_rights(base, &[("SELECT", &both)], problems);
            if purpose == Purpose::Forget {
                check_rights(base, &[("INSERT", &both), ("UPDATE", &[BASE])], problems);
            }
        }
        return;
    }
    let created = [(ledger.is_none(), Some(ledger_name)), (counts.is_none(), counts_name.as_ref())];
    let created = created.into_iter().filter_map(|(is_created, name)| name.filter(|_| is_created));
    check_creatable(posts, layout, created, problems);
}

const LEDGER_COLUMNS: [&str; 3] = [POST_ID, "user_id", "viewed_at"];

/// Looks whether the role may create tables that are missing, and have them refer to the posts where that can be.
fn check_creatable<'a>(
    posts: &Table,
    layout: &Layout<'_>,
    created: impl Iterator<Item = &'a TableName>,
    problems: &mut Problems,
) {
    let mut is_any = false;
    for name in created {
        is_any = true;
        // The rights on another schema are told by PostgreSQL itself.
        if name.schema.as_ref() == Some(&posts.schema) {
            check_schema_rights(posts, &["USAGE", "CREATE"], problems);
        }
    }
    if is_any && referenceable(posts, layout.id).is_ok() {
        check_rights(posts, &[("REFERENCES", &[&layout.id.name])], problems);
    }
}

/// Returns whether a foreign key can lead to the posts' ids.
///
/// # Errors
/// Why not.
pub(super) fn referenceable(posts: &Table, id: &Column) -> Result<(), String> {
    let name = posts.name();
    if !posts.is_table() {
        return Err(format!("{name} is no table of this database's own"));
    }
    if posts.has_heirs {
        return Err(format!("other tables inherit from {name}"));
    }
    let mut keys = posts.keys_on(&id.name).peekable();
    if keys.peek().is_none() {
        return Err(format!("{name} has no unique index on exactly ({})", quote(&id.name)));
    }
    if !keys.any(|index| index.is_immediate) {
        return Err(format!("the unique constraint of {name} ({}) is deferrable", quote(&id.name)));
    }
    Ok(())
}

/// A post has one count, and one base.
fn check_once_for_each(what: &str, table: &Table, problems: &mut Problems) {
    if !table.keys_on(POST_ID).any(|index| index.is_immediate) {
        let name = table.name();
        problems.add(format!(
            "the {what} {name} has no unique index on exactly (post_id) that holds for all rows at once: remove repeated posts \
             and run CREATE UNIQUE INDEX ON {name} (post_id)"
        ));
    }
}

/// A viewer counts once because the ledger has room for one row, and for no fewer.
fn check_once(ledger: &Table, problems: &mut Problems) {
    const PAIR: [&str; 2] = [POST_ID, "user_id"];
    let name = ledger.name();
    let on_pair = || ledger.indexes.iter().filter(|index| index.is_unique && index.is_on(&PAIR));
    // Of a table that lacks these columns, it is said that it is none of ours: nobody is to remove rows there.
    let is_ledger = PAIR.iter().all(|name| ledger.column(name).is_some());
    if is_ledger && !on_pair().any(|index| index.holds_for_all() && index.is_immediate) {
        let almost = on_pair().map(|index| format!(" ({} is {})", index.name, shortcoming(index))).next().unwrap_or_default();
        problems.add(format!(
            "the ledger {name} has no unique index on exactly (post_id, user_id) that holds for all rows at once{almost}, so that a \
             viewer would count more than once: remove repeated pairs and run CREATE UNIQUE INDEX ON {name} (post_id, user_id)"
        ));
    }
    for index in &ledger.indexes {
        // Such an index fails every INSERT … ON CONFLICT DO NOTHING, whatever it is on.
        if !index.is_immediate {
            problems.add(format!(
                "the constraint of the index {} on the ledger {name} is deferrable, and ON CONFLICT works with none that is: create it \
                 anew without DEFERRABLE",
                index.name
            ));
        }
        let is_ours = |column: &Option<String>| column.as_deref().is_none_or(|name| name == "viewed_at" || PAIR.contains(&name));
        if !PAIR.iter().all(|column| index.has(column)) && index.columns.iter().all(is_ours) {
            problems.add(format!(
                "the index {} keeps viewers out of the ledger {name} whom it does not have yet: run DROP INDEX {}, or drop its constraint",
                index.name, index.name
            ));
        }
    }
}

fn shortcoming(index: &Index) -> &'static str {
    if !index.is_valid {
        "not valid: REINDEX it"
    } else if index.is_partial {
        "partial"
    } else {
        "deferrable"
    }
}

fn check_foreign_keys(what: &str, table: &Table, posts: &Table, id: &Column, problems: &mut Problems) {
    for key in &table.foreign_keys {
        let Some(target) = key.target_of(POST_ID) else { continue };
        if posts.is_view() {
            // It may lead to the table that the view shows. That it does, nobody can tell.
            continue;
        }
        if key.table() != posts.name() || target != id.name {
            problems.add(format!(
                "the foreign key {constraint} of the {what} {table} (post_id) leads to {} ({}), and not to {} ({}): run ALTER TABLE \
                 {table} DROP CONSTRAINT {constraint}, or name that table with --posts-table (POSTS_TABLE)",
                key.table(),
                quote(target),
                posts.name(),
                quote(&id.name),
                table = table.name(),
                constraint = quote(&key.name),
            ));
        }
    }
}

/// A row of the ledger is a post, a viewer and a time; one of the table of counts, a post and a count. Nobody gives it
/// anything else.
fn check_insertable(what: &str, table: &Table, given: &[&str], problems: &mut Problems) {
    let others = table.columns().filter(|column| !given.contains(&column.name.as_str()));
    for column in others.filter(|column| column.is_required) {
        let (name, column) = (table.name(), quote(&column.name));
        problems.add(format!(
            "the column {column} of the {what} {name} must not be NULL and has no default, so that no view can be stored: run ALTER TABLE \
             {name} ALTER {column} SET DEFAULT …, or DROP NOT NULL"
        ));
    }
}

/// A row that is not seen would be taken for a post that was deleted.
fn check_visible(table: &Table, problems: &mut Problems) {
    if table.hides_rows {
        let (name, role) = (table.name(), table.role());
        problems.add(format!(
            "row level security hides rows of {name} from the role {role}: run ALTER ROLE {role} BYPASSRLS, or make it the owner of \
             {name} (without FORCE ROW LEVEL SECURITY), or run ALTER TABLE {name} DISABLE ROW LEVEL SECURITY"
        ));
    }
}

fn check_schema_rights(table: &Table, needed: &[&str], problems: &mut Problems) {
    let missing: Vec<&str> =
        needed.iter().filter(|right| !table.schema_rights.iter().any(|granted| granted == *right)).copied().collect();
    if !missing.is_empty() {
        let grant = format!("GRANT {} ON SCHEMA {} TO {}", missing.join(", "), quote(&table.schema), table.role());
        problems.add(lacks(table, &grant));
    }
}

/// Looks whether the role has each right on each of the columns; a right on the whole table is one on each.
fn check_rights(table: &Table, needed: &[(&str, &[&str])], problems: &mut Problems) {
    let mut missing = Vec::new();
    for (right, columns) in needed {
        let is_missing = |column: &&&str| table.column(column).is_some_and(|column| !column.allows(right));
        let columns: Vec<String> = columns.iter().filter(is_missing).map(|column| quote(column)).collect();
        if !columns.is_empty() {
            missing.push(format!("{right} ({})", columns.join(", ")));
        }
    }
    if !missing.is_empty() {
        problems.add(lacks(table, &format!("GRANT {} ON {} TO {}", missing.join(", "), table.name(), table.role())));
    }
}

/// A `serial` column takes its numbers from a sequence that has rights of its own.
fn check_sequences(ledger: &Table, problems: &mut Problems) {
    let others = ledger.columns().filter(|column| !LEDGER_COLUMNS.contains(&column.name.as_str()));
    for sequence in others.filter_map(|column| column.forbidden_sequence.as_ref()) {
        problems.add(lacks(ledger, &format!("GRANT USAGE ON SEQUENCE {sequence} TO {}", ledger.role())));
    }
}

fn lacks(table: &Table, grant: &str) -> String {
    format!("the role {} lacks a right: {grant}", table.role())
}
