//! A connection of the application's, and what its errors mean.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Config, Error, NoTls, error::SqlState};

use crate::{history::History, installation::Installation};

/// The name by which the application's connections are told from others.
pub(crate) const APPLICATION: &str = "application";
/// The pause before a connection or a statement is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A statement that changes a table waits no longer for its lock, behind which everybody else waits.
const TABLE_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '300ms'";

/// Why something was not done; the connection is gone, and with it the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// PostgreSQL is away, or was.
    Away,
    /// A lock could not be had in time.
    Locked,
    /// The history has the reason.
    Wrong,
}

/// A connection that is opened again when it is lost.
pub(crate) struct Session<'a> {
    installation: &'a Installation,
    history: &'a History,
    client: Option<Client>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(installation: &'a Installation, history: &'a History) -> Self {
        Self { installation, history, client: None }
    }

    /// Returns the connection, as soon as PostgreSQL lets it in.
    pub(crate) async fn client(&mut self) -> &Client {
        while self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = connect(self.installation, APPLICATION).await;
            if self.client.is_none() {
                sleep(RETRY_PAUSE).await;
            }
        }
        self.client.as_ref().expect("it is there by now")
    }

    /// What an error means. The connection is given up: the server rolls its transaction back.
    pub(crate) fn judge(&mut self, error: &Error) -> Undone {
        self.client = None;
        let Some(code) = error.code() else { return Undone::Away };
        match *code {
            // The end or the start of the server.
            _ if code.code().starts_with("57") || code.code().starts_with("08") => Undone::Away,
            SqlState::LOCK_NOT_AVAILABLE => Undone::Locked,
            SqlState::T_R_DEADLOCK_DETECTED => {
                self.history.violation(format!("APPLICATION: a transaction was killed by a deadlock: {error:?}"));
                Undone::Wrong
            }
            _ => {
                self.history.violation(format!("APPLICATION: {error:?}"));
                Undone::Wrong
            }
        }
    }

    /// Runs statements in one transaction.
    pub(crate) async fn run(&mut self, statements: &str) -> Result<(), Undone> {
        let script = format!("BEGIN; {statements}; COMMIT");
        let done = self.client().await.batch_execute(&script).await;
        done.map_err(|error| self.judge(&error))
    }

    /// Changes a table. Tries again until it is done, or until the time is over, if there is one.
    pub(crate) async fn change_table(&mut self, statement: &str, until: Option<Instant>) -> Result<(), Undone> {
        loop {
            match self.run(&format!("{TABLE_LOCK_TIMEOUT}; {statement}")).await {
                Err(Undone::Away | Undone::Locked) if until.is_none_or(|until| Instant::now() < until) => {
                    sleep(RETRY_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Runs statements until they are done, whatever it takes.
    pub(crate) async fn insist(&mut self, statements: &str) {
        while matches!(self.run(statements).await, Err(Undone::Away | Undone::Locked)) {
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Returns a connection past all proxies, if PostgreSQL lets it in.
pub(crate) async fn connect(installation: &Installation, name: &str) -> Option<Client> {
    let mut config: Config = installation.database.url().parse().expect("the URL is ours");
    let (client, connection) = config.application_name(name).connect(NoTls).await.ok()?;
    // Ends with the client or the server.
    tokio::spawn(connection);
    Some(client)
}
