//! The chapter of docs/adopt.md on an older service: each of its commands is run as it is written, with that service
//! beside it.

use std::path::Path;

use serde_json::json;
use testkit::http::Client as Http;
use tokio_postgres::Client;

use super::chapter::{Step, steps};
use super::finding::Finding;
use super::older_service::OlderService;
use crate::daemons::{ANY_PORT, Ingest, Syncd, program, stop};
use crate::repository;
use crate::shell::{self, Environment, field};
use crate::stores::{Stores, values};

const DOCUMENT: &str = "docs/adopt.md";
const TABLES: &str = include_str!("layouts/origin.sql");
const POST: &str = "550e8400-e29b-41d4-a716-446655440000";
/// Whose token the document uses.
const KNOWN: &str = "usr_clara";
/// What the document says where nobody writes to the older service any more.
const SWITCHED_OFF: &str = "The older service is switched off";
/// Where view-ingest listens in the document.
const ADDRESS: &str = "127.0.0.1:3001";
/// Who has seen the post in the end.
const VIEWERS: &str = "usr_boris usr_clara usr_new usr_old1 usr_old2 usr_old3";

/// The chapter, on its way.
struct Walk<'a> {
    binaries: &'a Path,
    stores: &'a Stores,
    sql: &'a Client,
    older: OlderService<'a>,
    environment: Environment,
    ingest: Option<Ingest>,
    syncd: Option<Syncd>,
    findings: Vec<Finding>,
}

/// Runs the chapter, in a database of its own.
pub(super) async fn walk(binaries: &Path, stores: &Stores) -> Vec<Finding> {
    let database = stores.postgres.database_named("walk").await;
    let sql = database.client().await;
    sql.batch_execute(TABLES).await.expect("the tables can be made");
    let mut environment = stores.environment(&database.url());
    environment.insert("TOKEN".to_owned(), stores.token(KNOWN));
    let path = std::env::var("PATH").unwrap_or_default();
    environment.insert("PATH".to_owned(), format!("{}:{path}", binaries.display()));
    let older = OlderService::new(stores, &sql, POST);
    let mut walk = Walk { binaries, stores, sql: &sql, older, environment, ingest: None, syncd: None, findings: Vec::new() };
    for step in steps(&repository::text(DOCUMENT)) {
        match step {
            Step::Export(settings) => walk.environment.extend(settings),
            Step::Services { verb, names } => walk.serve(&verb, &names).await,
            Step::Sql(text) => walk.query(&text).await,
            Step::Shell { text, shown } => walk.run(text, shown).await,
        }
    }
    let viewers = r#"SELECT string_agg(a.viewer, ' ' ORDER BY a.viewer) FROM "Post", unnest(views) AS a(viewer)"#;
    let left = values(&sql, viewers).await;
    walk.compare("what the way back leaves", &VIEWERS.to_owned(), &left);
    walk.findings
}

impl Walk<'_> {
    /// Runs commands of a shell.
    async fn run(&mut self, text: String, shown: Option<String>) {
        if text.contains(SWITCHED_OFF) {
            self.stand_beside().await;
        }
        let address = self.ingest.as_ref().map_or_else(|| ADDRESS.to_owned(), |ingest| ingest.public.to_string());
        let output = shell::run(&format!("set -e\n{}", text.replace(ADDRESS, &address)), &self.environment).await;
        let is_shown = shown.is_none_or(|shown| output.text().contains(&shown));
        let outcome = if output.succeeded() && is_shown { Ok(()) } else { Err(output.text().to_owned()) };
        self.findings.push(Finding { what: format!("as written: {text}"), outcome });
    }

    /// Has both sides take views, of which some reach the array only, as Redis was away for the older service.
    async fn stand_beside(&mut self) {
        self.older.take(&["usr_old1", "usr_old2"], true).await;
        let Some(ingest) = &self.ingest else { return };
        let client = Http::new(ingest.public);
        let mut verdicts = Vec::new();
        for viewer in ["usr_new", "usr_old1", "usr_ann", "usr_new"] {
            let answer = client.post_json("/posts/view", Some(&self.stores.token(viewer)), &json!({ "postId": POST })).await;
            verdicts.push(field(&answer.json(), "status"));
        }
        self.older.take(&["usr_old3"], false).await;
        self.compare("verdicts beside the older service", &"counted duplicate own duplicate".to_owned(), &verdicts.join(" "));
    }

    /// Starts services as systemd does, or stops them.
    async fn serve(&mut self, verb: &str, names: &[String]) {
        for name in names {
            match (verb, name.as_str()) {
                ("start", "view-ingest") => {
                    let builder = program(self.binaries, name, &self.environment).env("VIEW_INGEST_WORKERS", "1");
                    self.ingest = Some(Ingest::start(builder, ANY_PORT, ANY_PORT).await);
                }
                ("start", "view-syncd") => {
                    self.syncd = Some(Syncd::start(program(self.binaries, name, &self.environment), ANY_PORT).await);
                }
                ("stop", _) => {
                    let ingest = self.ingest.take_if(|_| name == "view-ingest").map(|ingest| ingest.daemon);
                    let daemon = ingest.or_else(|| self.syncd.take_if(|_| name == "view-syncd").map(|syncd| syncd.daemon));
                    let exit = match daemon {
                        Some(daemon) => stop(&daemon).await,
                        None => "it is not running".to_owned(),
                    };
                    self.compare(&format!("the stop of {name}"), &"0".to_owned(), &exit);
                }
                _ => panic!("what is to be done with systemctl {verb} {name}?"),
            }
        }
    }

    /// Runs statements. Those that only look find nothing.
    async fn query(&mut self, text: &str) {
        if text.starts_with("SELECT") {
            let [count, rows] = [r#"SELECT "viewsCount" FROM "Post""#, "SELECT count(*) FROM post_views"];
            let found = [values(self.sql, &format!("{count} WHERE id = '{POST}'")).await, values(self.sql, rows).await];
            self.compare("the count, and the ledger", &["6".to_owned(), "6".to_owned()], &found);
        }
        let found = values(self.sql, text).await;
        self.compare(&format!("as written: {text}"), &String::new(), &found);
    }

    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, expected: &T, found: &T) {
        self.findings.push(Finding::compare(format!("{DOCUMENT}: {what}"), expected, found));
    }
}
