//! Other sessions in PostgreSQL: locks that are in the way of views, and who leads.

use std::time::Duration;

use views_core::{keys::Keys, partition::Partition};
use views_postgres::{
    DatabaseError,
    observe::{Candidates, Drainer, OtherSession},
    schema::Schema,
};

use super::check::Checks;
use crate::commands::{
    look::{Look, in_time},
    output,
};

/// How long a transaction has to be seen whose age is not to be seen.
const MOMENT: Duration = Duration::from_secs(1);
/// How long applications may hold locks, or leave a transaction open, before that is told.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(look: &Look, schema: &Schema, checks: &mut Checks) {
    let database = &look.context.database;
    match lasting_sessions(look, schema).await {
        Ok(sessions) => check_sessions(&sessions, checks),
        Err(error) => checks.warn("locks", format!("locks cannot be looked at: {error}")),
    }
    let keys = &look.context.keys;
    match in_time(database.candidates(schema, keys.are_in_cluster())).await {
        Ok(candidates) if keys.are_in_cluster() => check_drainers(keys, &candidates, checks),
        Ok(Candidates { drainers, standbys }) => match drainers.first() {
            Some(Drainer { candidate: leader, .. }) => {
                let from = leader.address.as_ref().map_or_else(String::new, |address| format!(" from {address}"));
                let standbys = output::counted(standbys, "standby", "standbys");
                checks.ok("leader", format!("a view-syncd leads{from} (backend {}), with {standbys}", leader.backend));
            }
            None => checks.warn("leader", "no view-syncd leads, so that no views reach PostgreSQL: start it"),
        },
        Err(error) => checks.warn("leader", format!("who leads cannot be told: {error}")),
    }
}

/// Looks who drains the partitions of a cluster.
fn check_drainers(keys: &Keys, candidates: &Candidates, checks: &mut Checks) {
    let open: Vec<&str> =
        keys.drained_partitions().filter(|partition| !candidates.drains(*partition)).map(Partition::name).collect();
    match (candidates.drainers.len(), open.first()) {
        (0, _) => checks.warn("leader", "no view-syncd drains anything, so that no views reach PostgreSQL: start it"),
        (_, Some(first)) => {
            let partitions = output::counted(open.len() as u64, "partition", "partitions");
            checks.warn(
                "leader",
                format!("nobody drains {partitions}, {first} among them: look again in a moment, or restart view-syncd"),
            );
        }
        (number, None) => checks.ok("leader", format!("{number} view-syncd drain all partitions")),
    }
}

/// Finds sessions that may be in the way. Of those whose age this role may not see, only the ones that are in the same
/// transaction a moment later: applications hold locks all the time, for less.
async fn lasting_sessions(look: &Look, schema: &Schema) -> Result<Vec<OtherSession>, DatabaseError> {
    let sessions = || in_time(look.context.database.other_sessions(&schema.tables));
    let mut found = sessions().await?;
    let is_hidden = |session: &OtherSession| !session.locks.is_empty() && session.transaction.is_none();
    if found.iter().any(is_hidden) {
        tokio::time::sleep(MOMENT).await;
        let later = sessions().await?;
        let is_same = |one: &OtherSession, other: &OtherSession| {
            one.backend == other.backend && one.transaction_name == other.transaction_name
        };
        found.retain(|session| !is_hidden(session) || later.iter().any(|other| is_same(session, other)));
    }
    Ok(found)
}

fn check_sessions(sessions: &[OtherSession], checks: &mut Checks) {
    let mut is_free = true;
    for session in sessions {
        let open = session.transaction;
        let is_long = open.is_none_or(|open| open >= PATIENCE);
        let end = format!("have it end its transaction, or run SELECT pg_terminate_backend({})", session.backend);
        let (who, time) = (describe(session), open.map_or_else(|| "a time that this role may not see".to_owned(), output::age));
        if session.keeps_out && is_long {
            is_free = false;
            let locks = session.locks.join(", ");
            checks.fail(
                "locks",
                format!("{who} has kept all writers out for {time} ({locks}), so that no views are stored: {end}"),
            );
        } else if !session.locks.is_empty() && open.is_some_and(|open| open >= PATIENCE) {
            is_free = false;
            let locks = session.locks.join(", ");
            checks.warn("locks", format!("{who} may have locked rows for {time} ({locks}), whose views wait: {end}"));
        } else if !session.locks.is_empty() && open.is_none() {
            is_free = false;
            let locks = session.locks.join(", ");
            checks.warn(
                "locks",
                format!(
                    "{who} may have locked rows for {time}, and for a second at least ({locks}), whose views wait: {end}; a role \
                     with pg_monitor sees who it is and since when"
                ),
            );
        } else if session.is_idle() && session.since.is_some_and(|since| since >= PATIENCE) {
            is_free = false;
            let since = output::age(session.since.unwrap_or_default());
            checks.warn("locks", format!("{who} has done nothing in an open transaction for {since}: {end}"));
        }
    }
    if is_free {
        checks.ok("locks", "nobody holds any for long, or leaves a transaction open");
    }
}

/// Returns who it is: names that anybody may give themselves are shown without what would play tricks on a terminal.
fn describe(session: &OtherSession) -> String {
    let name = if session.name.is_empty() { String::new() } else { format!(", {}", session.name.escape_debug()) };
    let state = if session.state.is_empty() { String::new() } else { format!(", {}", session.state) };
    format!("backend {} ({}{name}{state})", session.backend, session.role)
}
