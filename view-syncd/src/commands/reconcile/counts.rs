//! Counts that are not base and ledger, and bases that are none.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use views_postgres::compare::{Comparison, CountDifference};

use super::report::Report;
use crate::{
    commands::recount,
    error::Failure,
    reconcile::{
        difference::{Difference, Kind},
        reconciler::Reconciler,
    },
};

/// How long posts are tried again that somebody has locked: most are free in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The pause in between.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What sees to counts.
pub(super) struct Counts<'a, 'd> {
    pub(super) comparison: &'a Comparison<'d>,
    pub(super) reconciler: &'a mut Reconciler,
    pub(super) repairs: bool,
}

impl Counts<'_, '_> {
    /// Tells what differs, and mends it where that is wanted.
    pub(super) async fn take(&mut self, different: Vec<CountDifference>, report: &mut Report) -> Result<(), Failure> {
        let mut unbased = Vec::new();
        let mut found = Vec::new();
        for post in different {
            match (post.base, difference(&post)) {
                (_, Some(difference)) => found.push(difference),
                // A post that no `migrate` has met: what it has above the ledger is its own.
                (None, None) => unbased.push(post.id),
                (Some(_), None) => {}
            }
        }
        report.without_base += unbased.len() as u64;
        let left = if self.repairs { self.mend(&found, &unbased).await? } else { HashSet::new() };
        report.add_all(found.into_iter(), |difference| self.repairs && !left.contains(&difference.post));
        Ok(())
    }

    /// Sets counts and bases. Returns the posts that are left.
    async fn mend(&mut self, found: &[Difference], unbased: &[String]) -> Result<HashSet<String>, Failure> {
        let of_kind =
            |kind| found.iter().filter(move |difference| difference.kind == kind).map(|difference| difference.post.clone());
        let mut bases: Vec<String> = of_kind(Kind::WrongBase).collect();
        let mut counts: Vec<String> = of_kind(Kind::WrongCount).collect();
        let all: Vec<String> = bases.iter().chain(&counts).cloned().collect();
        bases.extend_from_slice(unbased);
        let started = Instant::now();
        loop {
            if !bases.is_empty() {
                let done = self.comparison.set_bases(&bases).await?;
                bases = done.locked;
            }
            counts = recount::set_counts(self.reconciler, &self.comparison.recount, &counts).await?;
            if (bases.is_empty() && counts.is_empty()) || started.elapsed() >= LOCK_PATIENCE {
                break;
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        if all.is_empty() {
            return Ok(HashSet::new());
        }
        let left = self.comparison.among(&all).await?;
        Ok(left.different.iter().filter_map(difference).map(|difference| difference.post).collect())
    }
}

/// Returns what differs of a post. The base is what is known best: it was remembered once, and nobody else writes it.
fn difference(post: &CountDifference) -> Option<Difference> {
    let CountDifference { id, views, base, .. } = post;
    if let Some(base) = base.filter(|base| *base < 0) {
        return Some(Difference::of_numbers(Kind::WrongBase, id, base, post.unexplained()));
    }
    let expected = post.expected_views();
    (*views != expected).then(|| Difference::of_numbers(Kind::WrongCount, id, *views, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_trusted_unless_it_is_none() {
        let of = |views, base, stored| {
            let found = difference(&CountDifference { id: "7".to_owned(), views, base, stored });
            found.map(|found| (found.kind, found.expected))
        };
        let number = crate::reconcile::difference::Value::Number;
        assert_eq!(of(9, Some(5), 3), Some((Kind::WrongCount, number(8))));
        assert_eq!(of(9, Some(-5), 3), Some((Kind::WrongBase, number(6))));
        assert_eq!(of(2, None, 3), Some((Kind::WrongCount, number(3))));
        assert_eq!((of(9, None, 3), of(8, Some(5), 3)), (None, None));
    }
}
