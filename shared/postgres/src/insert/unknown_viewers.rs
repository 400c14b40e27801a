//! Viewers whom a foreign key of the ledger's does not find, all of them by one query.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use tokio_postgres::error::SqlState;

use super::{Insert, PairList, Refusal, Refused, SEARCH_LOCK_TIMEOUT};
use crate::{COMMIT, DatabaseError, spelling::SentIds};

impl<P: PairList> Insert<'_, P> {
    /// Leaves out the pairs of a refused range whose viewers are missing where a foreign key leads to. Returns whether
    /// that is of any use: there are some, and others. Where all are missing, it is the other table that something is
    /// wrong with, perhaps, and not the pairs.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away.
    pub(super) async fn leave_out_unknown_viewers(
        &mut self,
        range: &Range<usize>,
        refusal: &Refusal,
    ) -> Result<bool, DatabaseError> {
        if refusal.state != SqlState::FOREIGN_KEY_VIOLATION {
            return Ok(false);
        }
        let schema = self.database.schema().await?;
        let key = schema.statements.unknown_viewers.iter().find(|(key, _)| refusal.constraint.as_ref() == Some(key));
        let Some((_, statement)) = key else { return Ok(false) };
        let viewers: BTreeSet<&str> = self.rest(range).map(|(_, (_, viewer, _))| viewer).collect();
        let viewers = SentIds::new(schema.viewer_type, viewers.into_iter().map(Cow::Borrowed).collect())?;
        let begin = self.database.begin(SEARCH_LOCK_TIMEOUT, "");
        let rows = match self.database.transact(&begin, statement, &[viewers.param()], COMMIT).await {
            Ok(rows) => rows,
            Err(error @ DatabaseError::Unavailable(_)) => return Err(error),
            // Then they are searched for.
            Err(_) => return Ok(false),
        };
        let unknown_viewers: HashSet<&str> = rows.iter().map(|row| row.get(0)).collect();
        let (bad, good): (Vec<_>, Vec<_>) = self.rest(range).partition(|(_, (_, viewer, _))| unknown_viewers.contains(viewer));
        let places: Vec<usize> = bad.into_iter().map(|(place, _)| place).collect();
        if places.is_empty() || (good.is_empty() && !self.is_proven) {
            return Ok(false);
        }
        self.left_out.extend(&places);
        self.outcome.refused.extend(places.into_iter().map(|place| Refused { place, refusal: refusal.clone() }));
        Ok(true)
    }
}
