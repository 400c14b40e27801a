//! Bases: how much of each post's count no row of the ledger explains, remembered once, when `migrate` first meets the
//! post.
//!
//! Posts are gone through by their ids, a chunk at a time, beside running daemons: a post's count and its rows change in
//! one transaction, so every statement sees both as they were at one moment. No post is locked. The foreign key, which
//! would lock every post whose base is stored, is added afterwards; what was deleted until then is swept out.

use crate::{Database, DatabaseError, chunks::Chunks, schema::Schema, sql::migration};

/// What was remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenBases {
    /// How many posts there are.
    pub posts: u64,
    /// Of how many of them the base was not known.
    pub taken: u64,
    /// The sum of these bases.
    pub sum: u128,
}

impl Database {
    /// Remembers the bases of all posts that have none, and has the table of bases refer to the posts where that can be.
    /// `step` is told of each chunk how many posts it had.
    ///
    /// # Errors
    /// [`DatabaseError`]. What is remembered by then is, and calling it again goes on.
    pub async fn take_bases(&self, schema: &Schema, mut step: impl FnMut(u64)) -> Result<TakenBases, DatabaseError> {
        let walks = &schema.statements.walks;
        let mut bases = TakenBases::default();
        let mut chunks = Chunks::new(self, walks.take_bases.clone(), schema.is_sorted);
        while let Some((posts, row)) = chunks.next().await? {
            bases.posts += posts;
            bases.taken += row.get::<_, i64>(2).unsigned_abs();
            bases.sum += row.get::<_, &str>(3).parse::<u128>().unwrap_or(0);
            step(posts);
        }
        if let Some(key) = &schema.creation.base_key {
            self.reference_bases(schema, key).await?;
        }
        Ok(bases)
    }

    /// Takes the bases of all posts away, so that their counts are to be what the ledger has.
    ///
    /// # Errors
    /// [`DatabaseError`]. What is taken away by then is.
    pub async fn clear_bases(&self) -> Result<(), DatabaseError> {
        let schema = self.schema().await?;
        let mut chunks = Chunks::new(self, schema.statements.walks.clear_bases.clone(), schema.is_sorted);
        while chunks.next().await?.is_some() {}
        Ok(())
    }

    /// Has the table of bases refer to the posts, also where an earlier run was interrupted at that.
    async fn reference_bases(&self, schema: &Schema, key: &str) -> Result<(), DatabaseError> {
        let base = &schema.tables.base;
        if !schema.beside.base.as_ref().is_some_and(|base| base.is_referring) {
            self.execute_patiently_unless(Some(&migration::has_key(base)), &[key]).await?;
        }
        for row in self.query(&migration::unproven_keys(base), &[]).await? {
            // Of a post that was deleted before there was a key, the base is there still.
            let mut chunks = Chunks::new(self, schema.statements.walks.sweep_bases.clone(), true);
            while chunks.next().await?.is_some() {}
            self.execute_patiently(&[&migration::prove_key(base, row.get(0))]).await?;
        }
        Ok(())
    }
}
