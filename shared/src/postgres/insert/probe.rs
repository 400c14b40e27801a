//! Whether the table takes pairs at all: asked when the server has refused a statement, lest a fault of the table be taken for one of pairs.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use super::{Insert, PairList, SEARCH_LOCK_TIMEOUT, Spelling};
use crate::postgres::{Database, DatabaseError};

/// How many of one's own pairs are tried alone. Where half of them are bad, that all of these are is one case in 256.
const OWN_PAIRS: usize = 8;
/// The end of a transaction that is only to show whether it could be done.
const ROLLBACK: &str = "ROLLBACK";

impl<P: PairList> Insert<'_, P> {
    /// Looks for a pair that the table takes: among the refused ones, which are stored by that, and then among those of others.
    ///
    /// # Errors
    /// The refusal itself, where no pair goes in: it is one of the table.
    pub(super) async fn prove(&mut self, range: &Range<usize>, error: DatabaseError) -> Result<(), DatabaseError> {
        if range.len() > 1 {
            for place in some_places(range) {
                match self.store(place..place + 1, Spelling::Canonical, None).await {
                    Ok(()) | Err(DatabaseError::Locked(_) | DatabaseError::Refused(_) | DatabaseError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
                if self.is_proven {
                    return Ok(());
                }
            }
        }
        if self.database.takes_pairs().await? {
            self.is_proven = true;
            return Ok(());
        }
        Err(error)
    }
}

/// Some places of a range, others each time: what was looked at in vain must not be all that is ever looked at.
fn some_places(range: &Range<usize>) -> HashSet<usize> {
    let (random, length) = (RandomState::new(), range.len() as u64);
    (0..OWN_PAIRS).filter_map(|number| usize::try_from(random.hash_one(number) % length).ok()).map(|place| range.start + place).collect()
}

impl Database {
    /// Returns whether the ledger takes pairs: some that it lacks go in, in transactions that are rolled back. Where there is no post, there is
    /// nothing to be taken, and nothing in the way.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away.
    pub async fn takes_pairs(&self) -> Result<bool, DatabaseError> {
        let schema = self.schema().await?;
        let begin = self.begin(SEARCH_LOCK_TIMEOUT, "");
        let statements = &schema.statements;
        let candidates = match self.transact(&begin, &statements.probe_candidates, &[], ROLLBACK).await {
            Ok(candidates) => candidates,
            Err(DatabaseError::Locked(_) | DatabaseError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        for row in &candidates {
            let (post, viewer): (&str, &str) = (row.get(0), row.get(1));
            match self.transact(&begin, &statements.probe, &[&post, &viewer], ROLLBACK).await {
                Ok(_) => return Ok(true),
                Err(DatabaseError::Locked(_) | DatabaseError::Refused(_) | DatabaseError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(candidates.is_empty())
    }
}
