//! What PostgreSQL knows of one view: of its post, its viewer, and what the post's count is made of.

use tokio_postgres::types::ToSql;
use views_core::ids::{PostId, ViewerId};

use crate::{
    Database, DatabaseError,
    spelling::{Spelling, canonical_author},
};

/// What is known of a post and a viewer.
#[derive(Debug, Clone)]
pub struct ViewFacts {
    /// The post's id as the database spells it.
    pub id: String,
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
    /// The count.
    pub views: i64,
    /// Whether the ledger has the viewer.
    pub is_stored: bool,
    /// When the post was viewed, in milliseconds since 1970, where that is stored and may be read.
    pub viewed_at_ms: Option<i64>,
    /// How much of the count no row of the ledger explains.
    pub base: Base,
}

/// A post's base, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// It was remembered.
    Known(i64),
    /// It never was.
    NotRemembered,
    /// There is no table of bases, or the role may not read it.
    Unreadable,
}

impl Database {
    /// Looks at a post and a viewer. Returns nothing where there is no such post.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn explain(&self, post: &PostId, viewer: &ViewerId) -> Result<Option<ViewFacts>, DatabaseError> {
        let schema = self.schema().await?;
        if !schema.accepts_post(post) {
            return Ok(None);
        }
        let statements = &schema.statements.explain;
        let found = self.query(&statements.post, &[&Spelling::all(&schema, &[*post])]).await?;
        let Some(found) = found.first() else { return Ok(None) };
        let (id, author, views): (String, Option<&str>, i64) = (found.get(0), found.get(1), found.get(2));
        let pair: [&(dyn ToSql + Sync); 2] = [&id, &viewer.as_str()];
        let is_stored = schema.accepts_viewer(viewer) && !self.query(&statements.pair, &pair).await?.is_empty();
        let mut viewed_at_ms = None;
        if is_stored && let Some(rows) = readable(self.query(&statements.viewed_at, &pair).await)? {
            viewed_at_ms = rows.first().and_then(|row| row.get(0));
        }
        let base = match readable(self.query(&statements.base, &[&id]).await)? {
            Some(rows) => rows.first().map_or(Base::NotRemembered, |row| Base::Known(row.get(0))),
            None => Base::Unreadable,
        };
        let author = author.map(canonical_author).unwrap_or_default();
        Ok(Some(ViewFacts { id, author, views, is_stored, viewed_at_ms, base }))
    }
}

impl Database {
    /// Returns how many viewers of a post the ledger has, which takes long where these are millions.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ledger_rows(&self, id: &str) -> Result<i64, DatabaseError> {
        let schema = self.schema().await?;
        let rows = self.query(&schema.statements.explain.rows, &[&id]).await?;
        rows.first().map(|row| row.get(0)).ok_or_else(DatabaseError::no_answer)
    }
}

/// Returns nothing where the table is missing, or the role lacks the right.
fn readable<T>(result: Result<T, DatabaseError>) -> Result<Option<T>, DatabaseError> {
    match result {
        Ok(rows) => Ok(Some(rows)),
        Err(DatabaseError::Setup(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
