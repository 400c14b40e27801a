//! Creating what stands beside the posts.

use std::time::Duration;

use super::{Purpose, Schema, TableBeside};
use crate::{
    Database, DatabaseError,
    sql::{self, catalogue, identifier::TableName, tables::Tables},
};

/// How long a lock is waited for at a time.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long others are let pass between two tries.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// How often it is tried.
const LOCK_TRIES: u32 = 300;

/// What a migration has found or done.
#[derive(Debug)]
pub struct Migrated {
    /// The ledger.
    pub ledger: TableName,
    /// Whether it was created now, and not there already.
    pub created: bool,
    /// What else was done or found, a sentence each.
    pub done: Vec<String>,
    /// What may surprise, and what to do about it, a sentence each.
    pub warnings: Vec<String>,
    /// The tables as they are now.
    pub schema: Schema,
}

impl Database {
    /// Creates the ledger and what else is missing beside the posts, demands that the tables are what they have to be,
    /// and closes those beside the posts to everybody else. For the ledger, the role needs no right but to create a
    /// table that refers to the posts.
    ///
    /// # Errors
    /// [`DatabaseError::Setup`] when the tables cannot be used or may not be created; `Unavailable` when nobody answers.
    pub async fn migrate(&self, adds_count: bool) -> Result<Migrated, DatabaseError> {
        let purpose = Purpose::Migrate { adds_count };
        let schema = self.load_schema(purpose).await?;
        let (mut done, mut warnings) = (Vec::new(), Vec::new());
        if adds_count {
            let column = format!("the column {} of {}", schema.tables.counts.column, schema.tables.posts);
            done.push(if schema.lacks_count {
                self.execute_patiently(&[&schema.creation.count_column]).await?;
                format!("added {column}")
            } else {
                format!("{column} is there already")
            });
        }
        let created = schema.beside.ledger.is_none();
        let mut statements = Vec::new();
        if let Some(counts) = schema.creation.counts.as_deref().filter(|_| schema.beside.counts.is_none()) {
            statements.push(counts);
            done.push(format!("created the table of counts {}", schema.tables.counted()));
        }
        if created {
            statements.push(&schema.creation.ledger);
        }
        if !statements.is_empty() {
            self.execute_patiently(&statements).await?;
        }
        if schema.beside.base.is_none() {
            match self.execute_patiently(&[&schema.creation.base]).await {
                Ok(()) => done.push(format!("created the table of bases {}", schema.tables.base)),
                Err(DatabaseError::Setup(text)) => {
                    let base = &schema.tables.base;
                    warnings.push(format!(
                        "cannot create the table of bases {base}, without which counts cannot be made anew: {text}; have a role run this that \
                         may create tables there"
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        // Another migration may have been first, with a table of another kind.
        let schema = self.load_schema(Purpose::Migrate { adds_count: false }).await?;
        let Schema { beside, .. } = &schema;
        for table in [&beside.ledger, &beside.counts, &beside.base].into_iter().flatten() {
            self.close(table, &mut done, &mut warnings).await?;
        }
        warnings.extend(warn_of_orphans(&schema));
        warnings.extend(self.warn_of_triggers(&schema).await?);
        Ok(Migrated { ledger: schema.tables.ledger.clone(), created, done, warnings, schema })
    }

    /// Has statements executed in one transaction. Some take locks on the posts that wait for everybody who writes
    /// there, and while they wait, everybody else waits behind them. So they wait for no more than a second at a time,
    /// and let others pass in between.
    pub(crate) async fn execute_patiently(&self, statements: &[&str]) -> Result<(), DatabaseError> {
        self.execute_patiently_unless(None, statements).await
    }

    /// The same, unless a query gives a row: then another migration has done it meanwhile.
    pub(crate) async fn execute_patiently_unless(&self, done: Option<&str>, statements: &[&str]) -> Result<(), DatabaseError> {
        let mut tries = 1;
        loop {
            match self.execute_at_once(done, statements).await {
                Err(DatabaseError::Locked(_)) if tries < LOCK_TRIES => {
                    tracing::info!(tries, "the posts are locked by others: trying again");
                    tries += 1;
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn execute_at_once(&self, done: Option<&str>, statements: &[&str]) -> Result<(), DatabaseError> {
        let mut connection = self.connection().await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(&sql::limit_locks(LOCK_TIMEOUT)).await?;
        transaction.batch_execute(sql::MIGRATION_LOCK).await?;
        if let Some(done) = done
            && transaction.query_opt(done, &[]).await?.is_some()
        {
            return Ok(());
        }
        for statement in statements {
            transaction.batch_execute(statement).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Takes away what those may do with a table who may be anybody. Hosters' default privileges give them everything.
    async fn close(&self, table: &TableBeside, done: &mut Vec<String>, warnings: &mut Vec<String>) -> Result<(), DatabaseError> {
        let TableBeside { name, is_owned, open_to, .. } = table;
        if open_to.is_empty() {
            return Ok(());
        }
        let (revoke, roles) = (sql::migration::revoke(name, open_to), open_to.join(", "));
        if *is_owned {
            self.execute_patiently(&[&revoke]).await?;
            done.push(format!("took all rights on {name} away from {roles}"));
        } else {
            warnings.push(open_to_others(table));
        }
        Ok(())
    }

    /// Names the triggers that go off with each view that is stored, where the counts stand in the posts table.
    pub(super) async fn warn_of_triggers(&self, schema: &Schema) -> Result<Option<String>, DatabaseError> {
        let counts = &schema.tables.counts;
        if counts.table.is_some() {
            return Ok(None);
        }
        let TableName { schema: posts_schema, table } = &schema.tables.posts;
        let params = [posts_schema as _, table as _, &counts.column.as_str() as _];
        let rows = self.query(catalogue::TRIGGERS, &params).await?;
        let triggers: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        Ok((!triggers.is_empty()).then(|| {
            format!(
                "views that are stored set off {}: where that sets a time of change such as updated_at, or tells others of the post, keep \
                 the counts in a table of their own with --count-table (COUNT_TABLE)",
                triggers.join(", ")
            )
        }))
    }
}

/// Returns what is told of a table that those have rights on who may be anybody.
pub(super) fn open_to_others(table: &TableBeside) -> String {
    let TableBeside { name, open_to, .. } = table;
    let (revoke, roles) = (sql::migration::revoke(name, open_to), open_to.join(", "));
    let statement = revoke.lines().last().unwrap_or_default();
    format!("{roles} may use {name}, who may be anybody: have its owner run {statement}")
}

/// Returns what is told of a ledger that can have no foreign key, where it has none.
pub(super) fn warn_of_orphans(schema: &Schema) -> Option<String> {
    let ledger = schema.beside.ledger.as_ref().filter(|ledger| !ledger.is_referring && !schema.unreferenced.is_empty())?;
    Some(orphans(schema, &ledger.name))
}

/// Returns what is told of a ledger without a foreign key.
fn orphans(schema: &Schema, ledger: &TableName) -> String {
    let Tables { posts, id, .. } = &schema.tables;
    // What a view leaves out is not gone: it may be hidden for a while.
    let remedy = if schema.is_view {
        format!(
            "where one table has all these posts, run ALTER TABLE {ledger} ADD FOREIGN KEY (post_id) REFERENCES … ON DELETE CASCADE with its \
             name"
        )
    } else {
        format!("to remove them, run DELETE FROM {ledger} v WHERE NOT EXISTS (SELECT FROM {posts} p WHERE p.{id} = v.post_id)")
    };
    format!(
        "the ledger {ledger} has no foreign key to the posts, because {}: views of posts that are deleted stay there, and count as viewed \
         should a post of the same id be created; {remedy}",
        schema.unreferenced
    )
}
