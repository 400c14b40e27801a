//! A look at the server and at other sessions, for operators. Changes nothing, and waits for nobody.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::{Client, Row, SimpleQueryMessage};
use views_core::partition::Partition;

use crate::{
    Database, DatabaseError,
    schema::Schema,
    sql::{leases, observe, tables::Tables},
};

/// What the server and a session are.
#[derive(Debug, Clone)]
pub struct ServerState {
    /// The version as a number, such as 150014.
    pub version: i32,
    /// The version in words.
    pub version_text: String,
    /// Whether it follows another server.
    pub is_standby: bool,
    /// Whether the session may not write.
    pub is_read_only: bool,
    /// Its clock, as time since 1970.
    pub clock: Duration,
    /// The role.
    pub role: String,
    /// Whether the connection is encrypted.
    pub is_encrypted: bool,
}

/// A view-syncd that leads, or would.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its backend.
    pub backend: i32,
    /// The name of its session.
    pub name: String,
    /// The address that it is connected from; none where it is this machine's own socket, or not to be seen.
    pub address: Option<String>,
    /// For how long it is connected, where that is to be seen.
    pub connected: Option<Duration>,
}

/// One that drains.
#[derive(Debug, Clone)]
pub struct Drainer {
    /// Its session.
    pub candidate: Candidate,
    /// What it drains.
    pub partitions: BTreeSet<Partition>,
}

/// Those that drain, or would.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Those that drain: one, or in a cluster any number.
    pub drainers: Vec<Drainer>,
    /// How many stand by.
    pub standbys: u64,
}

impl Candidates {
    /// Returns whether anybody drains a partition.
    #[must_use]
    pub fn drains(&self, partition: Partition) -> bool {
        self.drainers.iter().any(|drainer| drainer.partitions.contains(&partition))
    }
}

/// A session of somebody else.
#[derive(Debug, Clone)]
pub struct OtherSession {
    /// Its backend.
    pub backend: i32,
    /// Its role.
    pub role: String,
    /// Its name.
    pub name: String,
    /// What it does, such as `active`; empty where that is not to be seen.
    pub state: String,
    /// For how long its transaction is open, where that is to be seen.
    pub transaction: Option<Duration>,
    /// For how long it has been doing that.
    pub since: Option<Duration>,
    /// Its locks on the tables asked for that writers take or that keep them out.
    pub locks: Vec<String>,
    /// Whether one of these keeps all writers out.
    pub keeps_out: bool,
    /// The name of its transaction, which no other one has at the time; empty where it has no such locks.
    pub transaction_name: String,
}

impl OtherSession {
    /// Returns whether it does nothing in an open transaction.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.state.starts_with("idle in transaction")
    }
}

impl Database {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn server_state(&self) -> Result<ServerState, DatabaseError> {
        let rows = self.query(observe::SERVER_STATE, &[]).await?;
        let row = rows.first().ok_or_else(DatabaseError::no_answer)?;
        Ok(ServerState {
            version: row.get(0),
            version_text: row.get(1),
            is_standby: row.get(2),
            is_read_only: row.get(3),
            clock: ms(row.get(4)),
            role: row.get(5),
            is_encrypted: row.get(6),
        })
    }

    /// Finds out who drains into the ledger, and how many stand by.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn candidates(&self, schema: &Schema, is_in_cluster: bool) -> Result<Candidates, DatabaseError> {
        let rows = self.query(observe::CANDIDATES, &[&schema.tables.ledger.to_string()]).await?;
        let (mut drainers, mut present) = (Vec::<Drainer>::new(), BTreeSet::<i32>::new());
        for row in &rows {
            let backend = row.get(0);
            present.insert(backend);
            let Some(partition) = leases::partition(row.get(1), is_in_cluster) else { continue };
            let place = drainers.iter().position(|drainer| drainer.candidate.backend == backend);
            match place {
                Some(place) => drop(drainers[place].partitions.insert(partition)),
                None => drainers.push(Drainer { candidate: candidate(row), partitions: [partition].into() }),
            }
        }
        let standbys = present.iter().filter(|backend| drainers.iter().all(|drainer| drainer.candidate.backend != **backend));
        Ok(Candidates { standbys: standbys.count() as u64, drainers })
    }

    /// Finds sessions that hold locks of writers on the posts, the ledger or the counts, or do nothing in an open
    /// transaction.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn other_sessions(&self, tables: &Tables) -> Result<Vec<OtherSession>, DatabaseError> {
        let mut names = vec![tables.posts.to_string(), tables.ledger.to_string()];
        names.extend(tables.counts.table.as_ref().map(ToString::to_string));
        let rows = self.query(observe::SESSIONS, &[&names]).await?;
        let session = |row: &Row| OtherSession {
            backend: row.get(0),
            role: row.get(1),
            name: row.get(2),
            state: row.get(3),
            transaction: row.get::<_, Option<i64>>(4).map(ms),
            since: row.get::<_, Option<i64>>(5).map(ms),
            locks: row.get(6),
            keeps_out: row.get(7),
            transaction_name: row.get(8),
        };
        Ok(rows.iter().map(session).collect())
    }

    /// Returns whether sessions are given other servers' connections from one transaction to the next: two that are
    /// open at once are served by one backend.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn shares_backends(&self) -> Result<bool, DatabaseError> {
        let (first, second) = (self.dedicated().await?, self.dedicated().await?);
        for _ in 0..POOLER_TRIES {
            // As texts: behind such a pooler, prepared statements may fail.
            let backends = [backend(&first).await?, backend(&second).await?];
            if backends[0] == backends[1] {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn candidate(row: &Row) -> Candidate {
    Candidate { backend: row.get(0), name: row.get(2), address: row.get(3), connected: row.get::<_, Option<i64>>(4).map(ms) }
}

/// How often two sessions are compared.
const POOLER_TRIES: usize = 3;

/// Returns the backend that serves a session at this moment.
async fn backend(session: &Client) -> Result<String, DatabaseError> {
    let messages = session.simple_query(observe::BACKEND).await?;
    let id = messages.iter().find_map(|message| if let SimpleQueryMessage::Row(row) = message { row.get(0) } else { None });
    id.map(str::to_owned).ok_or_else(DatabaseError::no_answer)
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
