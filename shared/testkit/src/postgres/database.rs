//! One test's database.

use tokio_postgres::Client;

use super::Endpoint;
use crate::server::read_log;

/// An empty database in a [`super::PostgresServer`]. It lives as long as the server does.
pub struct Database {
    endpoint: Endpoint,
    name: String,
}

impl Database {
    pub(super) fn new(endpoint: Endpoint, name: String) -> Self {
        Self { endpoint, name }
    }

    /// Returns the database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL for a client, over TCP.
    pub fn url(&self) -> String {
        self.endpoint.url(&self.name)
    }

    /// Returns a superuser's connection, whose task belongs to the current runtime.
    pub async fn client(&self) -> Client {
        let connected = self.endpoint.connect(&self.name).await;
        connected.unwrap_or_else(|error| panic!("cannot connect to PostgreSQL: {error}"))
    }

    /// Makes the server log the statements of all connections that are opened to this database from now on.
    pub async fn log_statements(&self) {
        let statement = format!("alter database {} set log_statement = 'all'", self.name);
        self.client().await.batch_execute(&statement).await.expect("cannot set log_statement");
    }

    /// Returns the statements that this database has been sent since [`Self::log_statements`], oldest first, comments
    /// included.
    ///
    /// The server writes a statement down before it executes it, so one that has been answered is in the list.
    pub fn statements(&self) -> Vec<String> {
        statements(&read_log(&self.endpoint.folder), &self.name)
    }
}

fn statements(log: &str, database: &str) -> Vec<String> {
    let prefix = format!(" {database}: LOG:  ");
    let mut statements: Vec<String> = Vec::new();
    let mut inside = false;
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix('\t') {
            if let Some(statement) = statements.last_mut().filter(|_| inside) {
                statement.push('\n');
                statement.push_str(rest);
            }
            continue;
        }
        let message = line.split_once(&prefix).map(|(_, message)| message);
        // `statement: …` from the simple protocol, `execute <name>: …` from the extended one.
        let statement = message
            .filter(|message| message.starts_with("statement: ") || message.starts_with("execute "))
            .and_then(|message| message.split_once(": "));
        inside = statement.is_some();
        statements.extend(statement.map(|(_, statement)| statement.to_owned()));
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn statements_are_joined_from_their_lines_and_told_apart_by_database() {
        let log = "\
2026-01-01 00:00:00.000 UTC [1] : LOG:  database system is ready to accept connections
2026-01-01 00:00:00.000 UTC [2] mine: LOG:  statement: begin
2026-01-01 00:00:00.000 UTC [2] mine: LOG:  execute s1: -- counts
\tselect 1
2026-01-01 00:00:00.000 UTC [2] mine: DETAIL:  parameters: $1 = 'x'
\tof two lines'
2026-01-01 00:00:00.000 UTC [3] other: LOG:  execute <unnamed>: select 2
";
        assert_eq!(statements(log, "mine"), ["begin", "-- counts\nselect 1"]);
        assert_eq!(statements(log, "other"), ["select 2"]);
    }
}
