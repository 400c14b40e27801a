//! Whether the table takes pairs at all: asked when the server has refused a statement, lest a fault of the table be
//! taken for one of pairs.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use super::{Insert, PairList, SEARCH_LOCK_TIMEOUT, Spelling};
use crate::{Database, DatabaseError, ROLLBACK, Refusal};

/// How many of one's own pairs are tried alone. Where half of them are bad, that all of these are is one case in 256.
const OWN_PAIRS: usize = 8;
/// How many pairs that the ledger has are tried.
const KNOWN_PAIRS: usize = 3;
/// What would be looked at only at the end, which never comes.
const AT_ONCE: &str = " SET CONSTRAINTS ALL IMMEDIATE";

impl<P: PairList> Insert<'_, P> {
    /// Looks for a pair that the table takes: among the refused ones, which are stored by that, and then among those of
    /// others.
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
        // A pair that is there shows less than one that is not: what looks at rows when they are stored does not see it.
        let knows_enough = self.is_proven || error.refusal().is_some_and(Refusal::is_of_row);
        if self.database.refuses_all().await?.is_none() || (knows_enough && self.database.takes_known_pairs().await?) {
            self.is_proven = true;
            return Ok(());
        }
        Err(error)
    }
}

/// Returns some places of a range, others each time: what was looked at in vain must not be all that is ever looked at.
fn some_places(range: &Range<usize>) -> HashSet<usize> {
    let (random, length) = (RandomState::new(), range.len() as u64);
    (0..OWN_PAIRS)
        .filter_map(|number| usize::try_from(random.hash_one(number) % length).ok())
        .map(|place| range.start + place)
        .collect()
}

impl Database {
    /// Returns why the ledger takes no pair at all, if that is so: some that it lacks are offered, in transactions that
    /// are rolled back. Where there is no post, there is nothing to be taken, and nothing in the way.
    ///
    /// # Errors
    /// [`DatabaseError`] when the server is away.
    pub async fn refuses_all(&self) -> Result<Option<DatabaseError>, DatabaseError> {
        let schema = self.schema().await?;
        let begin = self.begin(SEARCH_LOCK_TIMEOUT, AT_ONCE);
        let statements = &schema.statements;
        let candidates = match self.transact(&begin, &statements.probe_candidates, &[], ROLLBACK).await {
            Ok(candidates) => candidates,
            Err(error @ (DatabaseError::Locked(_) | DatabaseError::Refused(_))) => return Ok(Some(error)),
            Err(error) => return Err(error),
        };
        let mut refused = None;
        for row in &candidates {
            let (post, viewer): (&str, &str) = (row.get(0), row.get(1));
            match self.transact(&begin, &statements.probe, &[&post, &viewer], ROLLBACK).await {
                Ok(_) => return Ok(None),
                Err(error @ (DatabaseError::Locked(_) | DatabaseError::Refused(_) | DatabaseError::Conflict(_))) => {
                    refused = Some(error.without_viewers([viewer].into_iter()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Returns whether the ledger lets pairs pass that it has.
    async fn takes_known_pairs(&self) -> Result<bool, DatabaseError> {
        let schema = self.schema().await?;
        let begin = self.begin(SEARCH_LOCK_TIMEOUT, AT_ONCE);
        for _ in 0..KNOWN_PAIRS {
            match self.transact(&begin, &schema.statements.probe_known, &[], ROLLBACK).await {
                Ok(rows) => return Ok(!rows.is_empty()),
                Err(DatabaseError::Locked(_) | DatabaseError::Refused(_) | DatabaseError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
