//! Comparing counts with what they are to be: bases, and the views that the ledger has.
//!
//! A count and its rows change in one transaction, so each chunk is read as of one moment, and no look has to be
//! repeated. Nothing is locked.

use tokio_postgres::Row;
use views_core::ids::PostId;

use crate::{
    Database, DatabaseError,
    chunks::Chunks,
    recount::{Recount, Recounted},
    spelling::Spelling,
    sql::compare::CompareStatements,
};

/// A post whose count, base and rows do not belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountDifference {
    /// The post's id, as the database spells it.
    pub id: String,
    /// The count.
    pub views: i64,
    /// The base; none where it was never remembered.
    pub base: Option<i64>,
    /// How many rows the ledger has.
    pub stored: i64,
}

/// What was found in a chunk.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// How many posts were looked at.
    pub posts: u64,
    /// Those whose numbers do not belong together.
    pub different: Vec<CountDifference>,
}

/// A comparison on its way through the posts.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// By which counts are set.
    pub recount: Recount<'a>,
    statements: CompareStatements,
    chunks: Chunks<'a>,
}

impl CountDifference {
    /// Returns what the count is to be. A base that is none counts for nothing.
    #[must_use]
    pub fn expected_views(&self) -> i64 {
        match self.base {
            Some(base) if base >= 0 => base.saturating_add(self.stored),
            _ => self.views.max(self.stored),
        }
    }

    /// Returns what the base is to be for the count that is there.
    #[must_use]
    pub fn unexplained(&self) -> i64 {
        (self.views - self.stored).max(0)
    }
}

impl<'a> Comparison<'a> {
    /// Begins with the first post.
    ///
    /// # Errors
    /// As [`Recount::begin`].
    pub async fn begin(database: &'a Database) -> Result<Self, DatabaseError> {
        let recount = Recount::begin(database).await?;
        let statements = CompareStatements::new(&recount.schema.target);
        let chunks = Chunks::new(database, statements.walk.clone(), recount.schema.is_sorted);
        Ok(Self { recount, statements, chunks })
    }

    /// Looks at the next posts. Returns nothing at the end.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn next(&mut self) -> Result<Option<Compared>, DatabaseError> {
        Ok(self.chunks.next().await?.map(|(_, row)| compared(&row)))
    }

    /// Looks at one post.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn one(&self, post: &PostId) -> Result<Compared, DatabaseError> {
        if !self.recount.schema.accepts_post(post) {
            return Ok(Compared::default());
        }
        self.among(&Spelling::all(&self.recount.schema, &[*post])).await
    }

    /// Looks at posts by their ids as the database spells them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn among(&self, ids: &[String]) -> Result<Compared, DatabaseError> {
        let rows = self.recount.database.query(&self.statements.among, &[&ids]).await?;
        Ok(rows.first().map(compared).unwrap_or_default())
    }

    /// Sets the bases of posts to what the ledger does not explain of their counts.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away, or the role may not write bases.
    pub async fn set_bases(&self, ids: &[String]) -> Result<Recounted, DatabaseError> {
        self.recount.set_by(&self.statements.set_bases, ids).await
    }
}

fn compared(row: &Row) -> Compared {
    let (ids, views): (Vec<String>, Vec<i64>) = (row.get(2), row.get(3));
    let (bases, stored): (Vec<Option<i64>>, Vec<i64>) = (row.get(4), row.get(5));
    let different = ids.into_iter().zip(views).zip(bases.into_iter().zip(stored));
    let different = different.map(|((id, views), (base, stored))| CountDifference { id, views, base, stored });
    Compared { posts: row.get::<_, i64>(1).unsigned_abs(), different: different.collect() }
}
