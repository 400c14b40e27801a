//! Brings the views of a layout in, counts on with both daemons, and looks at all that is to come of it.

use std::path::Path;

use serde_json::json;
use testkit::http::Client;
use testkit::process::Daemon;

use super::finding::Finding;
use super::layout::Layout;
use crate::daemons::{ANY_PORT, Ingest, Syncd, program, stop};
use crate::shell::{Environment, field};
use crate::stores::{Stores, values};

/// Checks a layout in a database of its own.
pub(super) async fn check(layout: &Layout, binaries: &Path, stores: &Stores) -> Vec<Finding> {
    let database = stores.postgres.database_named(layout.name).await;
    let sql = database.client().await;
    sql.batch_execute(layout.setup).await.unwrap_or_else(|error| panic!("the tables of {}: {error:?}", layout.name));
    let mut environment = stores.environment(&database.url());
    environment.insert("REDIS_PREFIX".to_owned(), format!("{}:", layout.name));
    environment.extend(layout.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut findings = Vec::new();
    let migrated = run(binaries, &environment, &[&["migrate"], layout.migrate].concat()).await;
    findings.push(finding(layout, "migrate", migrated.map(drop)));
    for (what, told) in [("adopt", layout.told.to_owned()), ("adopt again", nothing_new(layout.told))] {
        let adopted = run(binaries, &environment, &[&["adopt"], &layout.adopt[..]].concat()).await;
        // What is logged comes over another stream, and in its own time.
        let holds = |lines: Vec<String>| if lines.contains(&told) { Ok(()) } else { Err(lines.join("\n")) };
        findings.push(finding(layout, what, adopted.and_then(holds)));
    }
    let syncd = program(binaries, "view-syncd", &environment).env("SYNC_LINGER", "20ms");
    let (ingest, syncd) = tokio::join!(
        Ingest::start(program(binaries, "view-ingest", &environment).env("VIEW_INGEST_WORKERS", "1"), ANY_PORT, ANY_PORT),
        Syncd::start(syncd, ANY_PORT)
    );
    let client = Client::new(ingest.public);
    let answer = client.get(&format!("/posts/{}/views", layout.post)).await.json();
    findings.push(compare(layout, "the live count", &layout.views.to_string(), &field(&answer, "viewsCount")));
    let more = layout.views + 1;
    for (who, viewer, verdict, views) in [
        ("a known viewer", layout.known, "duplicate", layout.views),
        ("the author", layout.author, "own", layout.views),
        ("another viewer", layout.other, "counted", more),
        ("the other viewer again", layout.other, "duplicate", more),
    ] {
        let answer = client.post_json("/posts/view", Some(&stores.token(viewer)), &json!({ "postId": layout.post })).await.json();
        let found = (field(&answer, "status"), field(&answer, "viewsCount"));
        findings.push(compare(layout, who, &(verdict.to_owned(), views.to_string()), &found));
    }
    for daemon in [&ingest.daemon, &syncd.daemon] {
        findings.push(compare(layout, "a stop", &"0".to_owned(), &stop(daemon).await));
    }
    findings.push(compare(layout, "the count in PostgreSQL", &more.to_string(), &values(&sql, layout.count).await));
    let rows = format!("select count(*) from {} where post_id::text = '{}'", layout.ledger, layout.post);
    findings.push(compare(layout, "the rows of the ledger", &(layout.rows + 1).to_string(), &values(&sql, &rows).await));
    findings
}

/// Returns what is told when all of it has been adopted.
fn nothing_new(told: &str) -> String {
    let is_new = |part: &&str| part.starts_with("new ");
    let parts = told.split(" · ").map(|part| if is_new(&part) { "new 0" } else { part });
    parts.collect::<Vec<_>>().join(" · ")
}

/// Runs a command of view-syncd, and returns what it has printed.
async fn run(binaries: &Path, environment: &Environment, arguments: &[&str]) -> Result<Vec<String>, String> {
    let command: Daemon = program(binaries, "view-syncd", environment).args(arguments).start();
    let exit = command.wait_exit().await;
    if exit.success() { Ok(command.output()) } else { Err(format!("{exit}:\n{}", command.output().join("\n"))) }
}

fn finding(layout: &Layout, what: &str, outcome: Result<(), String>) -> Finding {
    Finding { what: format!("{}: {what}", layout.name), outcome }
}

fn compare<T: PartialEq + std::fmt::Debug>(layout: &Layout, what: &str, expected: &T, found: &T) -> Finding {
    Finding::compare(format!("{}: {what}", layout.name), expected, found)
}

#[cfg(test)]
mod tests {
    use super::nothing_new;

    #[test]
    fn a_second_adoption_tells_the_same_with_nothing_new() {
        assert_eq!(nothing_new("posts 1 · pairs 5 · new 2 · author's own 1"), "posts 1 · pairs 5 · new 0 · author's own 1");
    }
}
