//! The session that holds leases: an advisory lock for each partition that a process drains, which end with it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    future::Future,
    time::Duration,
};

use deadpool_postgres::ClientWrapper;
use views_core::partition::Partition;

use crate::{
    Database, DatabaseError,
    sql::{
        PING,
        leases::{
            BE_PRESENT, GIVE_BACK, HELD_BY, HOLDERS, JOIN, LEAVE, NAME_SESSION, SESSION, TAKE, UNNAME_SESSION, member_number,
            number,
        },
        observe::BACKEND,
    },
};

/// A session that holds leases.
pub struct LeaseSession {
    client: ClientWrapper,
    /// The ledger, as the locks name it.
    ledger: String,
    is_in_cluster: bool,
    /// How long an answer is waited for.
    patience: Duration,
    backend: i32,
    is_member: bool,
    held: BTreeSet<Partition>,
}

/// Who holds what.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    /// How many other sessions the partitions are shared out to.
    pub other_members: usize,
    /// The numbers of the locks that are held.
    locks: HashSet<i32>,
    is_in_cluster: bool,
}

impl Holders {
    /// Returns whether nobody holds a partition.
    #[must_use]
    pub fn is_free(&self, partition: Partition) -> bool {
        !self.locks.contains(&number(partition, self.is_in_cluster))
    }
}

impl LeaseSession {
    /// Opens a session for the leases of this database's ledger. No answer is waited for longer than `patience`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn open(database: &Database, is_in_cluster: bool, patience: Duration) -> Result<Self, DatabaseError> {
        let ledger = database.schema().await?.tables.ledger.to_string();
        let client = database.dedicated().await?;
        in_time(patience, client.batch_execute(SESSION)).await?;
        in_time(patience, client.query(BE_PRESENT, &[&ledger])).await?;
        let backend = in_time(patience, client.query_one(BACKEND, &[])).await?.get(0);
        Ok(Self { client, ledger, is_in_cluster, patience, backend, is_member: false, held: BTreeSet::new() })
    }

    /// Returns the backend that serves it.
    #[must_use]
    pub fn backend(&self) -> i32 {
        self.backend
    }

    /// Returns the partitions whose locks it holds.
    #[must_use]
    pub fn held(&self) -> &BTreeSet<Partition> {
        &self.held
    }

    /// Demands that the server answers and takes writes: a lock on a standby keeps nobody from holding it on the primary.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let row = in_time(self.patience, self.client.query_one(PING, &[])).await?;
        if row.get(0) { Ok(()) } else { Err(DatabaseError::read_only()) }
    }

    /// Has the session count, or not, where the partitions are shared out.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn set_member(&mut self, is_member: bool) -> Result<(), DatabaseError> {
        if self.is_member != is_member {
            let statement = if is_member { JOIN } else { LEAVE };
            let number = member_number(self.is_in_cluster);
            in_time(self.patience, self.client.query(statement, &[&self.ledger, &number])).await?;
            self.is_member = is_member;
        }
        Ok(())
    }

    /// Returns who holds what.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn holders(&self) -> Result<Holders, DatabaseError> {
        let mut holders = Holders { is_in_cluster: self.is_in_cluster, ..Holders::default() };
        for row in in_time(self.patience, self.client.query(HOLDERS, &[&self.ledger])).await? {
            let (lock, backend): (i64, i32) = (row.get(0), row.get(1));
            if lock != i64::from(member_number(self.is_in_cluster)) {
                holders.locks.extend(i32::try_from(lock));
            } else if backend != self.backend {
                holders.other_members += 1;
            }
        }
        Ok(holders)
    }

    /// Takes those of the partitions that nobody else holds.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn take(&mut self, wanted: impl Iterator<Item = Partition>) -> Result<(), DatabaseError> {
        // A lock that is taken twice is to be given back twice.
        let wanted = wanted.filter(|partition| !self.held.contains(partition));
        let wanted: BTreeMap<i32, Partition> =
            wanted.map(|partition| (number(partition, self.is_in_cluster), partition)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i32> = wanted.keys().copied().collect();
        for row in in_time(self.patience, self.client.query(TAKE, &[&self.ledger, &numbers])).await? {
            if row.get(1) {
                self.held.extend(wanted.get(&row.get(0)));
            }
        }
        Ok(())
    }

    /// Gives partitions back.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn give_back(&mut self, partitions: &[Partition]) -> Result<(), DatabaseError> {
        let given: Vec<i32> = partitions
            .iter()
            .filter(|partition| self.held.remove(*partition))
            .map(|partition| number(*partition, self.is_in_cluster))
            .collect();
        if !given.is_empty() {
            in_time(self.patience, self.client.query(GIVE_BACK, &[&self.ledger, &given])).await?;
        }
        Ok(())
    }

    /// Gives the session a name, for whoever looks at PostgreSQL's sessions, or that back which it had at first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn set_name(&self, name: Option<&str>) -> Result<(), DatabaseError> {
        match name {
            Some(name) => in_time(self.patience, self.client.query(NAME_SESSION, &[&name])).await.map(drop),
            None => in_time(self.patience, self.client.batch_execute(UNNAME_SESSION)).await,
        }
    }
}

impl Database {
    /// Returns those of the partitions whose locks the session of a backend holds at this moment.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn held_by(
        &self,
        backend: i32,
        mut partitions: BTreeSet<Partition>,
        is_in_cluster: bool,
    ) -> Result<BTreeSet<Partition>, DatabaseError> {
        let rows = self.query(HELD_BY, &[&backend]).await?;
        let locks: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        partitions.retain(|partition| locks.contains(&i64::from(number(*partition, is_in_cluster))));
        Ok(partitions)
    }
}

async fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(patience, work).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(DatabaseError::Unavailable("no answer in time".to_owned())),
    }
}
