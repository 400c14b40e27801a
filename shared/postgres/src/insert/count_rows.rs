//! Rows that posts lack in the table of counts, made before anything is stored of these posts.
//!
//! A post without a row has no views, so there is nothing to lock where two want to count its first. Rows are made in a
//! transaction of their own: whoever makes the same one at the same moment, or is about to delete the post, is waited
//! for with no count locked, and for less time than PostgreSQL takes for a deadlock.
//!
//! A post whose row is refused waits, as if it were locked: whether that is a fault of the post or of the table, nobody
//! can tell, and its pairs are not to blame.

use std::borrow::Cow;

use tokio_postgres::types::ToSql;

use super::{LOCK_TIMEOUT, SEARCH_LOCK_TIMEOUT};
use crate::{COMMIT, Database, DatabaseError, Refusal, rows::places, schema::Schema, spelling::SentIds};

/// Makes the rows that posts lack, which are given by their ids as the database spells them, but for those of posts that
/// somebody has locked, and those that PostgreSQL refuses.
///
/// # Errors
/// [`DatabaseError`] when the server is away, or cannot do what it is asked.
pub(crate) async fn make(database: &Database, schema: &Schema, ids: &[Cow<'_, str>]) -> Result<(), DatabaseError> {
    let Some(statement) = schema.statements.make_counts.as_deref().filter(|_| !ids.is_empty()) else { return Ok(()) };
    let mut lock_timeout = LOCK_TIMEOUT;
    let mut work = vec![ids];
    while let Some(ids) = work.pop() {
        let sent = SentIds::new(schema.post_type, ids.to_vec())?;
        let params: [&(dyn ToSql + Sync); 2] = [&places(ids.len()), sent.param()];
        match database.transact(&database.begin(lock_timeout, ""), statement, &params, COMMIT).await {
            Ok(_) => {}
            Err(error @ DatabaseError::Refused(_)) if error.refusal().is_some_and(Refusal::is_of_server) => return Err(error),
            Err(error @ (DatabaseError::Locked(_) | DatabaseError::Conflict(_) | DatabaseError::Refused(_))) => {
                // Whose post it is, only the others tell.
                lock_timeout = SEARCH_LOCK_TIMEOUT;
                if let [post] = ids {
                    // Where the post is gone, that is told by whoever looks for it.
                    if error.refusal().is_some_and(|refusal| !refusal.is_lock() && !refusal.is_of_reference()) {
                        tracing::warn!(post = post.as_ref(), %error, "the table of counts takes no row of a post, whose views wait");
                    }
                } else {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    work.extend([second, first]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
