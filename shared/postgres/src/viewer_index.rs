//! Making the index by which a viewer's rows are found: for his history, and for his erasure.
//!
//! It is made beside whoever reads and writes. One that an earlier attempt has left unfinished is dropped and made
//! again. A partitioned ledger has one on each partition, and a parent for them.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures_util::{FutureExt, pin_mut};
use tokio_postgres::Row;

use crate::{
    Database, DatabaseError,
    schema::Schema,
    sql::{
        identifier::{MAX_NAME, TableName},
        viewer_index as sql,
    },
};

/// What stands behind a table's name in that of its index.
const SUFFIX: &str = "_viewer_idx";
/// How often it is looked whether another process has made it, and how far it is.
const POLL: Duration = Duration::from_millis(500);
/// Names that are tried where one is taken.
const MOST_NAMES: u32 = 100;

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MadeIndex {
    /// The index of the ledger.
    pub name: String,
    /// Indexes that were made, those of partitions too.
    pub made: usize,
    /// Unfinished ones that were dropped.
    pub dropped: usize,
}

/// How far the server has come with an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexProgress {
    /// What it does.
    pub phase: String,
    /// How much of that is done.
    pub done: u64,
    /// How much of it there is; zero where nobody knows.
    pub total: u64,
}

/// A table, and one of its indexes that begin with viewer and time.
struct Found {
    table: TableName,
    is_partitioned: bool,
    depth: i32,
    /// The name of the table that this one is a partition of.
    parent: Option<String>,
    index: Option<FoundIndex>,
}

struct FoundIndex {
    name: String,
    is_unfinished: bool,
    attached_to: Option<String>,
}

impl Database {
    /// Makes the index where it is missing. `step` is told how far the server has come.
    ///
    /// # Errors
    /// [`DatabaseError`]. What is made by then stays, and calling it again goes on.
    pub async fn make_viewer_index(
        &self,
        schema: &Schema,
        mut step: impl FnMut(IndexProgress),
    ) -> Result<MadeIndex, DatabaseError> {
        let ledger = &schema.tables.ledger;
        let session = self.dedicated().await?;
        session.batch_execute(sql::NO_DEADLINE).await?;
        let backend: i32 = session.query_one(sql::BACKEND, &[]).await?.get(0);
        while !session.query_one(sql::TRY_TO_INDEX, &[&ledger.to_string()]).await?.get::<_, bool>(0) {
            tokio::time::sleep(POLL).await;
        }
        let mut made = MadeIndex::default();
        self.drop_unfinished(&session, ledger, &mut made).await?;
        // The parents first: their partitions' indexes are attached to them.
        for found in find(&session, ledger).await? {
            if found.index.is_some() {
                continue;
            }
            let name = free_name(&session, &found.table).await?;
            let statement = sql::create(&found.table, found.is_partitioned, &name);
            let create = session.batch_execute(&statement).fuse();
            pin_mut!(create);
            loop {
                tokio::select! {
                    result = &mut create => break result?,
                    () = tokio::time::sleep(POLL) => {
                        if let Some(row) = self.query(sql::PROGRESS, &[&backend]).await?.first() {
                            step(progress(row));
                        }
                    }
                }
            }
            made.made += 1;
        }
        attach(&session, ledger).await?;
        let all = find(&session, ledger).await?;
        made.name = all
            .into_iter()
            .find(|found| found.depth == 0)
            .and_then(|found| found.index)
            .map(|index| index.name)
            .unwrap_or_default();
        Ok(made)
    }

    /// Drops what an earlier attempt has left unfinished. Somebody else's index of another name may be on its way.
    async fn drop_unfinished(
        &self,
        session: &ClientWrapper,
        ledger: &TableName,
        made: &mut MadeIndex,
    ) -> Result<(), DatabaseError> {
        for Found { table, index, .. } in rows(session, ledger).await? {
            let own = name_of(&table.table, SUFFIX);
            let unfinished =
                index.filter(|index| index.is_unfinished && index.attached_to.is_none() && index.name.starts_with(&own));
            if let Some(FoundIndex { name, .. }) = unfinished {
                session.batch_execute(&sql::drop(&TableName { schema: table.schema, table: name })).await?;
                made.dropped += 1;
            }
        }
        Ok(())
    }
}

/// Attaches the indexes of partitions that are not attached.
async fn attach(session: &ClientWrapper, ledger: &TableName) -> Result<(), DatabaseError> {
    let all = find(session, ledger).await?;
    for found in &all {
        let (Some(parent), Some(index)) = (&found.parent, &found.index) else { continue };
        let of_parent = all.iter().find(|other| other.table.table == *parent && other.depth == found.depth - 1);
        if index.attached_to.is_some() || !of_parent.is_some_and(|parent| parent.is_partitioned) {
            continue;
        }
        let Some((schema, name)) =
            of_parent.and_then(|parent| Some((parent.table.schema.clone(), parent.index.as_ref()?.name.clone())))
        else {
            continue;
        };
        let own = TableName { schema: found.table.schema.clone(), table: index.name.clone() };
        session.batch_execute(&sql::attach(&TableName { schema, table: name }, &own)).await?;
    }
    Ok(())
}

/// Returns the ledger and its partitions, each with the best of its indexes: one that is attached, or else one that is
/// finished.
async fn find(session: &ClientWrapper, ledger: &TableName) -> Result<Vec<Found>, DatabaseError> {
    let mut all: Vec<Found> = Vec::new();
    for mut found in rows(session, ledger).await? {
        found.index = found.index.filter(|index| !index.is_unfinished);
        let is_attached = |found: &Found| found.index.as_ref().map(|index| index.attached_to.is_some());
        match all.iter_mut().find(|other| other.table == found.table) {
            Some(other) if is_attached(other) < is_attached(&found) => *other = found,
            Some(_) => {}
            None => all.push(found),
        }
    }
    Ok(all)
}

/// Returns the ledger and its partitions with all of such indexes.
async fn rows(session: &ClientWrapper, ledger: &TableName) -> Result<Vec<Found>, DatabaseError> {
    let rows = session.query(&sql::indexes(ledger), &[]).await?;
    let found = |row: &Row| {
        let is_partitioned: bool = row.get(2);
        let index = row.get::<_, Option<String>>(5).map(|name| FoundIndex {
            name,
            // That of a partitioned table is valid only when those of all partitions are attached.
            is_unfinished: !is_partitioned && !row.get::<_, bool>(6),
            attached_to: row.get(7),
        });
        let table = TableName { schema: Some(row.get(0)), table: row.get(1) };
        Found { table, is_partitioned, depth: row.get(3), parent: row.get(4), index }
    };
    Ok(rows.iter().map(found).collect())
}

/// Returns a name for the index of a table that nothing else in its schema has.
async fn free_name(session: &ClientWrapper, table: &TableName) -> Result<String, DatabaseError> {
    let mut name = name_of(&table.table, SUFFIX);
    for number in 2..MOST_NAMES {
        if session.query_opt(sql::IS_TAKEN, &[&table.schema, &name]).await?.is_none() {
            break;
        }
        name = name_of(&table.table, &format!("{SUFFIX}{number}"));
    }
    Ok(name)
}

/// Returns a table's name with something behind it, cut so that PostgreSQL can hold it.
fn name_of(table: &str, suffix: &str) -> String {
    let mut end = table.len().min(MAX_NAME - suffix.len());
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &table[..end])
}

fn progress(row: &Row) -> IndexProgress {
    let number = |place: usize| row.get::<_, Option<i64>>(place).map_or(0, i64::unsigned_abs);
    IndexProgress { phase: row.get(0), done: number(1), total: number(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_where_a_character_ends() {
        assert_eq!(name_of("post_views", SUFFIX), "post_views_viewer_idx");
        let long = format!("x{}", "ä".repeat(31));
        let name = name_of(&long, SUFFIX);
        assert!(name.len() <= MAX_NAME && name.ends_with(SUFFIX) && name.starts_with("xä"), "{name}");
    }
}
