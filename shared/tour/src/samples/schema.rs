//! The ledger's SQL for those who create it by hand, beside what `view-syncd migrate` creates.

use std::path::Path;

use testkit::postgres::{Database, program};
use tokio::process::Command;

use super::subject::Subject;
use crate::daemons::migrate;
use crate::repository;
use crate::shell::{output, succeeds};
use crate::stores::Stores;

const POSTS: &str = "deploy/demo/posts.sql";
const SCHEMA: &str = "deploy/schema.sql";

pub(super) async fn check(subject: &mut Subject, stores: &Stores) {
    subject.report.headline(SCHEMA);
    let by_hand = stores.postgres.database_named("by_hand").await;
    for (what, file) in [("the demo posts", POSTS), ("schema.sql", SCHEMA), ("schema.sql a second time", SCHEMA)] {
        let outcome = run_file(&by_hand.url(), &repository::path(file)).await;
        subject.report.holds(what, outcome);
    }
    let posts = run_file(&stores.database.url(), &repository::path(POSTS)).await;
    subject.report.holds("the demo posts for view-syncd", posts);
    let environment = stores.environment(&stores.database.url());
    let migrated = migrate(&subject.binaries, &environment).await;
    subject.report.holds("view-syncd migrate", migrated);
    let (made, expected) = (schema_of(&by_hand).await, schema_of(&stores.database).await);
    subject.report.check("schema.sql makes what `view-syncd migrate` makes", expected, made);
}

/// Has psql run a file.
pub(super) async fn run_file(database_url: &str, file: &Path) -> Result<(), String> {
    succeeds(psql(database_url).arg("-f").arg(file)).await
}

/// psql for a database, which ends with the first mistake.
pub(super) fn psql(database_url: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-v", "ON_ERROR_STOP=1", database_url]);
    psql
}

/// What pg_dump says of a database's tables, without what it says of itself.
async fn schema_of(database: &Database) -> String {
    let dump = output(Command::new(program("pg_dump")).arg("--schema-only").arg(database.url())).await;
    assert!(dump.status.success(), "pg_dump: {}", String::from_utf8_lossy(&dump.stderr));
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    let is_of_the_tables = |line: &&str| {
        !line.is_empty() && !["--", "\\restrict ", "\\unrestrict "].iter().any(|beginning| line.starts_with(beginning))
    };
    text.lines().filter(is_of_the_tables).collect::<Vec<_>>().join("\n")
}
