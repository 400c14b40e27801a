//! Deadlocks, and how long the application waits for the programs: looked at again and again from within the server, as
//! its own clock would count pauses of the whole server, and waits for its own other transactions, too.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep};

use super::session::{APPLICATION, connect};
use crate::{
    history::History,
    installation::{Installation, ROLE},
};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);
/// A look that comes later than this was itself held up, by a pause of the whole server or of this machine: no wait is
/// known for the rest.
const LONGEST_STEP: Duration = Duration::from_millis(150);
/// After so many looks the server's log is looked at, too.
const LOOKS_PER_LOG: u32 = 40;
/// What it says of a deadlock, whoever is its victim.
const DEADLOCK: &str = "deadlock detected";
/// No application may wait longer for the programs.
const LIMIT: Duration = Duration::from_millis(1_500);

/// Looks until it is told to end. Gives the longest wait.
pub(crate) async fn watch(installation: &Installation, history: &History, mut end: watch::Receiver<bool>) -> Duration {
    let statement = format!(
        "select waiting.pid, min(left(translate(blocking.query, chr(10), ' '), 60)) \
         from pg_stat_activity waiting, unnest(pg_blocking_pids(waiting.pid)) as blocker(pid) \
         join pg_stat_activity blocking on blocking.pid = blocker.pid \
         where waiting.application_name = '{APPLICATION}' and waiting.wait_event_type = 'Lock' and blocking.usename = '{ROLE}' \
         group by waiting.pid"
    );
    let mut client = None;
    let mut longest = Duration::ZERO;
    let mut waits: HashMap<i32, Duration> = HashMap::new();
    let mut looked = Instant::now();
    let (mut looks, mut deadlocks) = (0_u32, 0);
    loop {
        let is_last = *end.borrow();
        looks += 1;
        if is_last || looks.is_multiple_of(LOOKS_PER_LOG) {
            let log = installation.postgres.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(DEADLOCK)).collect();
            for line in lines.iter().skip(deadlocks) {
                history.violation(format!("DEADLOCK: {line}"));
            }
            deadlocks = lines.len();
        }
        if is_last {
            return longest;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = end.changed() => {}
        }
        if client.as_ref().is_none_or(tokio_postgres::Client::is_closed) {
            client = connect(installation, "watch").await;
        }
        let Some(connected) = &client else { continue };
        let Ok(rows) = connected.query(&statement, &[]).await else {
            (client, waits) = (None, HashMap::new());
            continue;
        };
        let step = looked.elapsed().min(LONGEST_STEP);
        looked = Instant::now();
        let mut now = HashMap::new();
        for row in rows {
            let (pid, query): (i32, String) = (row.get(0), row.get(1));
            let before = waits.get(&pid).copied();
            let wait = before.map_or(Duration::ZERO, |before| before + step);
            longest = longest.max(wait);
            if wait > LIMIT && before.is_some_and(|before| before <= LIMIT) {
                history.violation(format!("APPLICATION: it waits for the programs for longer than {LIMIT:?}, for `{query}`"));
            }
            now.insert(pid, wait);
        }
        waits = now;
    }
}
