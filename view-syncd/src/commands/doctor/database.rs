//! PostgreSQL: whether it answers and takes writes, and whether the tables and the rights are as they are needed.

use views_postgres::{
    DatabaseError,
    observe::ServerState,
    schema::{Examination, Schema},
};

use super::{check::Checks, sessions};
use crate::commands::look::{Look, in_time};

/// The oldest PostgreSQL that will do: `gen_random_uuid` came with it.
const OLDEST: i32 = 130_000;

/// Returns the tables, where views can be stored in them.
pub(super) async fn check(look: &Look, checks: &mut Checks) -> Option<Schema> {
    let state = match &look.database {
        Ok(state) => state,
        Err(DatabaseError::Setup(text)) => {
            checks.unfit(
                "postgresql",
                format!("PostgreSQL does not let this role in ({text}): mend --database-url (DATABASE_URL)"),
            );
            return None;
        }
        Err(error) => {
            checks.fail("postgresql", format!("{}: {error}: start it, or mend --database-url (DATABASE_URL)", look.database_url));
            return None;
        }
    };
    check_server(&look.database_url, state, checks);
    match in_time(look.context.database.shares_backends()).await {
        Ok(false) => checks.ok("pooler", "connections are sessions of their own"),
        Ok(true) => checks.fail(
            "pooler",
            "a pooler in transaction mode stands before PostgreSQL, where the lock of the one that leads does not hold: have view-syncd connect \
             directly, or through a pooler in session mode",
        ),
        Err(error) => checks.fail("pooler", format!("{error}: view-syncd needs four connections, and these could not be had")),
    }
    let examination = match in_time(look.context.database.examine()).await {
        Ok(examination) => examination,
        Err(error) => {
            checks.fail("tables", format!("the tables cannot be looked at: {error}"));
            return None;
        }
    };
    check_tables(&examination, checks);
    let schema = examination.schema;
    if let Some(schema) = &schema {
        sessions::check(look, schema, checks).await;
    }
    schema
}

fn check_server(url: &str, state: &ServerState, checks: &mut Checks) {
    let ServerState { version_text, role, .. } = state;
    if state.is_read_only {
        let why = if state.is_standby { "it is a standby" } else { "it was made read-only" };
        checks.fail(
            "postgresql",
            format!(
                "PostgreSQL takes no writes: {why}: give the address of its primary with --database-url (DATABASE_URL), or those of all \
                 servers and target_session_attrs=read-write"
            ),
        );
    } else {
        let tls = if state.is_encrypted { "with TLS" } else { "without TLS" };
        checks.ok("postgresql", format!("{url} as {role}, {tls}"));
    }
    let too_old = (state.version < OLDEST)
        .then(|| format!("PostgreSQL {version_text} is too old: {} or later is needed. Upgrade the server", OLDEST / 10_000));
    checks.unfit_or("postgresql-version", too_old, format!("PostgreSQL {version_text}"));
}

/// Tells a line for each thing that is wrong.
fn check_tables(found: &Examination, checks: &mut Checks) {
    for problem in &found.problems {
        checks.unfit("tables", problem);
    }
    let Some(schema) = &found.schema else { return };
    let tables = &schema.tables;
    if found.problems.is_empty() {
        let counts = tables.counts.table.as_ref().map_or_else(String::new, |counts| format!(", {counts}"));
        let text =
            format!("{}, {}{counts}: columns, indexes, keys, rights and policies are as needed", tables.posts, tables.ledger);
        checks.ok("tables", text);
    }
    if found.of_bases.is_empty() {
        checks.ok("bases", format!("{} is there for `recount`", tables.base));
    }
    for problem in &found.of_bases {
        checks.warn("bases", format!("`recount` cannot run: {problem}"));
    }
    for problem in &found.open {
        checks.warn("access", problem);
    }
    if found.open.is_empty() {
        checks.ok("access", "nobody who may be anybody has rights on the tables beside the posts");
    }
    for (name, problem) in [("foreign-key", &found.orphans), ("ids", &found.repeatable)] {
        if let Some(problem) = problem {
            checks.warn(name, problem);
        }
    }
    checks.warn_or("triggers", found.triggers.clone(), "stored views set off none");
}
