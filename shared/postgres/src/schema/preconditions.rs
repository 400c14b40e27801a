//! What the tables and the role's rights must be, so that every view is stored once and none is lost. Each finding is a
//! line that says what is wrong and what to do; a missing right is the very `GRANT` that gives it.

use super::{
    catalogue::{Column, Index, Table},
    layout::Layout,
    problems::Problems,
};
use crate::sql::{LEDGER_TABLE, identifier::quote};

/// What the tables are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To store views: the ledger is there, and the role may read and write what it has to.
    Work,
    /// To create the ledger. Where it is there already, it is what it has to be, and the role needs no right on it.
    Migrate,
}

/// Looks at everything but the columns themselves, which [`Layout::read`] finds.
pub(super) fn check(posts: &Table, ledger: Option<&Table>, layout: &Layout<'_>, purpose: Purpose, problems: &mut Problems) {
    let is_created = purpose == Purpose::Migrate && ledger.is_none();
    check_key_of_posts(posts, layout.id, is_created, problems);
    check_visible(posts, problems);
    match ledger {
        Some(ledger) => {
            check_once(ledger, problems);
            check_foreign_keys(ledger, posts, layout.id, problems);
            check_insertable(ledger, problems);
            check_visible(ledger, problems);
        }
        None if purpose == Purpose::Work => {
            let name = format!("{}.{}", quote(&posts.schema), quote(LEDGER_TABLE));
            problems.add(format!("there is no ledger table {name}: run `view-syncd migrate`"));
        }
        None => {}
    }
    if is_created {
        check_schema_rights(posts, &["USAGE", "CREATE"], problems);
        check_rights(posts, &[("REFERENCES", &[&layout.id.name])], problems);
    } else if purpose == Purpose::Work {
        check_schema_rights(posts, &["USAGE"], problems);
        let [id, author, count] = [layout.id, layout.author, layout.count].map(|column| column.name.as_str());
        check_rights(posts, &[("SELECT", &[id, author, count]), ("UPDATE", &[count])], problems);
        if let Some(ledger) = ledger {
            let needed: [(&str, &[&str]); 2] =
                [("SELECT", &["post_id", "user_id"]), ("INSERT", &["post_id", "user_id", "viewed_at"])];
            check_rights(ledger, &needed, problems);
            check_sequences(ledger, problems);
        }
    }
}

/// Of two posts with one id, each would be counted. A foreign key, besides, leads to nothing that is checked later.
fn check_key_of_posts(posts: &Table, id: &Column, is_referenced: bool, problems: &mut Problems) {
    let (name, id) = (posts.name(), id.name.as_str());
    if !posts.is_table() {
        let advice = "name the table that it shows with --posts-table (POSTS_TABLE)";
        problems.add(format!("{name} is no table of this database's own, so that nothing keeps its ids unique: {advice}"));
        return;
    }
    let keys = || posts.indexes.iter().filter(|index| index.holds_for_all() && index.is_on(&[id]));
    if keys().next().is_none() {
        let id = quote(id);
        problems.add(format!(
            "nothing keeps the column {id} of {name} unique, so that a view could count for several rows: run CREATE UNIQUE INDEX ON \
             {name} ({id}), or name the key with --post-id-column (POST_ID_COLUMN)"
        ));
    } else if is_referenced && !keys().any(|index| index.is_immediate) {
        let id = quote(id);
        problems.add(format!(
            "the unique constraint on {name} ({id}) is deferrable, and no foreign key can lead to it: run CREATE UNIQUE INDEX ON {name} \
             ({id})"
        ));
    }
}

/// A viewer counts once because the ledger has room for one row, and for no fewer.
fn check_once(ledger: &Table, problems: &mut Problems) {
    const PAIR: [&str; 2] = ["post_id", "user_id"];
    let name = ledger.name();
    let on_pair = || ledger.indexes.iter().filter(|index| index.is_unique && index.is_on(&PAIR));
    if !on_pair().any(|index| index.holds_for_all() && index.is_immediate) {
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

fn check_foreign_keys(ledger: &Table, posts: &Table, id: &Column, problems: &mut Problems) {
    for key in &ledger.foreign_keys {
        let Some(target) = key.target_of("post_id") else { continue };
        if key.table() != posts.name() || target != id.name {
            problems.add(format!(
                "the foreign key {constraint} of the ledger {ledger} (post_id) leads to {} ({}), and not to {} ({}): run ALTER TABLE \
                 {ledger} DROP CONSTRAINT {constraint}, or name that table with --posts-table (POSTS_TABLE)",
                key.table(),
                quote(target),
                posts.name(),
                quote(&id.name),
                ledger = ledger.name(),
                constraint = quote(&key.name),
            ));
        }
    }
}

/// A row of the ledger is a post, a viewer and a time. Nobody gives it anything else.
fn check_insertable(ledger: &Table, problems: &mut Problems) {
    let others = ledger.columns().filter(|column| !matches!(column.name.as_str(), "post_id" | "user_id" | "viewed_at"));
    for column in others.filter(|column| column.is_required) {
        let (name, column) = (ledger.name(), quote(&column.name));
        problems.add(format!(
            "the column {column} of the ledger {name} must not be NULL and has no default, so that no view can be stored: run ALTER TABLE \
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
    let others = ledger.columns().filter(|column| !matches!(column.name.as_str(), "post_id" | "user_id" | "viewed_at"));
    for sequence in others.filter_map(|column| column.forbidden_sequence.as_ref()) {
        problems.add(lacks(ledger, &format!("GRANT USAGE ON SEQUENCE {sequence} TO {}", ledger.role())));
    }
}

fn lacks(table: &Table, grant: &str) -> String {
    format!("the role {} lacks a right: {grant}", table.role())
}
