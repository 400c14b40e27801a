//! Jepsen's set check, and what else must hold when everything is well again. Knows nothing of servers and processes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use crate::world::{Nature, Post};

/// A post and a viewer, by their ids.
pub(crate) type Pair = (String, String);

/// What the clients did, and when the application last created its posts.
#[derive(Debug, Default, Clone)]
pub(crate) struct Asked {
    /// Every pair that was ever sent.
    pub(crate) attempted: BTreeSet<Pair>,
    /// Every pair that a client was told to be counted, now or before.
    pub(crate) acknowledged: BTreeSet<Pair>,
    /// Of posts that are deleted now and then: the views that were new, and when they were last asked for.
    pub(crate) new_views: BTreeMap<Pair, u128>,
    /// When a post was created anew for the last time.
    pub(crate) created_ms: HashMap<String, u128>,
}

/// A letter of `views:dead`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) pair: Pair,
    pub(crate) reason: String,
    /// Whether it is offered again with each cycle.
    pub(crate) may_pass: bool,
}

/// What was found at the end.
#[derive(Debug, Default, Clone)]
pub(crate) struct Found {
    /// The posts.
    pub(crate) posts: BTreeMap<String, Post>,
    /// The ledger's rows.
    pub(crate) ledger: Vec<Pair>,
    /// Each post's count in the posts table.
    pub(crate) counts: HashMap<String, i64>,
    /// What the application has added to counts.
    pub(crate) added: HashMap<String, i64>,
    /// Each post's count as each view-ingest tells it.
    pub(crate) live: Vec<(String, HashMap<String, i64>)>,
    /// The members of each post's set.
    pub(crate) sets: HashMap<String, Vec<String>>,
    /// Of each post, how many pairs are recorded and not acknowledged, although the outbox is empty.
    pub(crate) drift: HashMap<String, i64>,
    /// The fleeting posts that were created anew when everything was settled.
    pub(crate) anew: BTreeSet<String>,
    /// What is still put aside, after it was all offered again.
    pub(crate) dead: Vec<Letter>,
}

impl Found {
    /// Returns whether a post's set must not have anybody whom the ledger lacks. The scan makes a set anew when it
    /// finds, or the drain has found, a smaller count than Redis has. Whether either comes to see that is a matter of
    /// luck where a post is created anew in the midst of everything: by then its count may have grown past what it was,
    /// by views past Redis or by a batch whose drain died.
    fn has_to_agree(&self, post: &str) -> bool {
        self.posts.get(post).is_some_and(|post| post.nature != Nature::Fleeting) || self.anew.contains(post)
    }

    /// Returns how many members of other sets the ledger lacks.
    pub(crate) fn stale(&self) -> usize {
        let ledger: BTreeSet<&Pair> = self.ledger.iter().collect();
        let others = self.sets.iter().filter(|(post, _)| !self.has_to_agree(post));
        let pairs = others.flat_map(|(post, viewers)| viewers.iter().map(|viewer| (post.clone(), viewer.clone())));
        pairs.filter(|pair| !ledger.contains(pair)).count()
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A client was told that the view counts, and the ledger does not have it.
    Lost(Pair),
    /// At this time, in milliseconds, an acknowledged view was in none of outbox, dead letters and ledger.
    Unstored(Pair, u128),
    /// A view was new after its post was created anew, and the ledger does not have it.
    LostAnew(Pair),
    /// The ledger has a view that nobody sent.
    Invented(Pair),
    /// The ledger has an author's own view.
    Own(Pair),
    /// The ledger has a row twice.
    Doubled(Pair),
    /// Redis calls a viewer known whom the ledger lacks.
    Kept(Pair),
    /// A post's count is not the number of its rows and of what the application has added.
    Count { post: String, count: Option<i64>, rows: i64, added: i64 },
    /// A view-ingest tells another count than the database.
    Live { post: String, told_by: String, live: Option<i64>, count: Option<i64> },
    /// Redis says of a post that more has been recorded than acknowledged, or less.
    Drift(String, i64),
    /// Something is still put aside that could be stored.
    Dead(Letter),
    /// Something else, in words.
    Other(String),
}

/// The reason of letters whose post does not exist.
const NO_SUCH_POST: &str = "no such post";

/// Everything that is wrong.
pub(crate) fn verify(asked: &Asked, found: &Found) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut rows: HashMap<&str, i64> = HashMap::new();
    let mut ledger: BTreeSet<&Pair> = BTreeSet::new();
    for pair in &found.ledger {
        *rows.entry(&pair.0).or_default() += 1;
        if !ledger.insert(pair) {
            violations.push(Violation::Doubled(pair.clone()));
        } else if found.posts.get(&pair.0).is_some_and(|post| post.nature != Nature::Reauthored && post.may_be_by(&pair.1)) {
            violations.push(Violation::Own(pair.clone()));
        } else if !asked.attempted.contains(pair) {
            violations.push(Violation::Invented(pair.clone()));
        }
    }
    let lost = missing(&asked.acknowledged, &found.posts, |pair| ledger.contains(pair));
    violations.extend(lost.into_iter().map(Violation::Lost));
    let is_there =
        |(pair, began_ms): &(&Pair, &u128)| asked.created_ms.get(&pair.0).is_none_or(|created_ms| created_ms < began_ms);
    let may_count = |pair: &Pair| found.posts.get(&pair.0).is_some_and(|post| !post.may_be_by(&pair.1));
    let anew = asked.new_views.iter().filter(is_there).map(|(pair, _)| pair);
    violations.extend(anew.filter(|pair| may_count(pair) && !ledger.contains(pair)).cloned().map(Violation::LostAnew));
    for (post, viewers) in found.sets.iter().filter(|(post, _)| found.has_to_agree(post)) {
        let pairs = viewers.iter().map(|viewer| (post.clone(), viewer.clone()));
        violations.extend(pairs.filter(|pair| may_count(pair) && !ledger.contains(pair)).map(Violation::Kept));
    }
    for post in found.posts.keys() {
        let count = found.counts.get(post).copied();
        let rows = rows.get(post.as_str()).copied().unwrap_or(0);
        let added = found.added.get(post).copied().unwrap_or(0);
        if count != Some(rows + added) {
            violations.push(Violation::Count { post: post.clone(), count, rows, added });
        }
        for (told_by, live) in &found.live {
            let live = live.get(post).copied();
            if live != count {
                violations.push(Violation::Live { post: post.clone(), told_by: told_by.clone(), live, count });
            }
        }
    }
    let drift = found.drift.iter().filter(|(_, drift)| **drift != 0);
    violations.extend(drift.map(|(post, drift)| Violation::Drift(post.clone(), *drift)));
    // Views of posts that do not exist wait for an operator.
    let is_rightly_dead = |letter: &&Letter| letter.reason == NO_SUCH_POST && !found.posts.contains_key(&letter.pair.0);
    violations.extend(found.dead.iter().filter(|letter| !is_rightly_dead(letter)).cloned().map(Violation::Dead));
    violations
}

/// Returns the acknowledged pairs that are not stored, of those that have to be. While PostgreSQL is away nobody knows
/// the authors or which posts exist, so such views are accepted, and left out by the drain; and the views of a post
/// that is deleted go with it.
pub(crate) fn missing(
    acknowledged: &BTreeSet<Pair>,
    posts: &BTreeMap<String, Post>,
    is_stored: impl Fn(&Pair) -> bool,
) -> Vec<Pair> {
    let has_to_be =
        |(post, viewer): &&Pair| posts.get(post).is_some_and(|post| post.nature != Nature::Fleeting && !post.may_be_by(viewer));
    acknowledged.iter().filter(has_to_be).filter(|pair| !is_stored(pair)).cloned().collect()
}

impl Letter {
    /// Returns whether its pair comes in by itself, as soon as its reason has passed.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.may_pass && self.reason != NO_SUCH_POST
    }
}

impl Violation {
    /// Returns the pair or post that it is about, to be looked for in the history.
    pub(crate) fn about(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Lost((post, viewer))
            | Self::Unstored((post, viewer), _)
            | Self::LostAnew((post, viewer))
            | Self::Invented((post, viewer))
            | Self::Own((post, viewer))
            | Self::Doubled((post, viewer))
            | Self::Kept((post, viewer))
            | Self::Dead(Letter { pair: (post, viewer), .. }) => Some((post, Some(viewer))),
            Self::Count { post, .. } | Self::Live { post, .. } | Self::Drift(post, _) => Some((post, None)),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: &Option<i64>| number.map_or_else(|| "nothing".to_owned(), |number| number.to_string());
        match self {
            Self::Lost((post, viewer)) => write!(f, "LOST: post {post}, viewer {viewer}: acknowledged, and not in the ledger"),
            Self::Unstored((post, viewer), ms) => {
                write!(
                    f,
                    "LOST: post {post}, viewer {viewer}: acknowledged, and at {ms} ms neither in the outbox, nor a dead letter that is \
                     offered again, nor in the ledger"
                )
            }
            Self::LostAnew((post, viewer)) => {
                write!(f, "LOST: post {post}, viewer {viewer}: counted after the post was created anew, and not in the ledger")
            }
            Self::Invented((post, viewer)) => write!(f, "INVENTED: post {post}, viewer {viewer}: in the ledger, and never sent"),
            Self::Own((post, viewer)) => write!(f, "OWN: post {post}, viewer {viewer}: the author's own view is in the ledger"),
            Self::Doubled((post, viewer)) => write!(f, "DOUBLED: post {post}, viewer {viewer}: twice in the ledger"),
            Self::Kept((post, viewer)) => {
                write!(f, "DUPLICATE: post {post}, viewer {viewer}: in Redis's set after all cycles, and not in the ledger")
            }
            Self::Count { post, count, rows, added } => {
                let count = number(count);
                write!(
                    f,
                    "COUNT: post {post}: the posts table says {count}, the ledger has {rows} rows, the application added {added}"
                )
            }
            Self::Live { post, told_by, live, count } => {
                write!(f, "LIVE: post {post}: {told_by} says {}, the posts table {}", number(live), number(count))
            }
            Self::Drift(post, drift) => {
                write!(f, "DRIFT: post {post}: {drift} more recorded than acknowledged, and the outbox is empty")
            }
            Self::Dead(Letter { pair: (post, viewer), reason, .. }) => {
                write!(f, "DEAD: post {post}, viewer {viewer}: still put aside after it was offered again: {reason}")
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(post: &str, viewer: &str) -> Pair {
        (post.to_owned(), viewer.to_owned())
    }

    /// Two posts, three views, all in order.
    fn in_order() -> (Asked, Found) {
        let pairs = [pair("a", "x"), pair("a", "y"), pair("b", "x")];
        let (attempted, acknowledged) = (pairs.clone().into(), pairs.clone().into());
        let mut asked = Asked { attempted, acknowledged, ..Asked::default() };
        // Sent and never answered; sent by the author; sent to a post that does not exist while nobody could know that.
        asked.attempted.extend([pair("b", "z"), pair("b", "author-b"), pair("no", "x")]);
        asked.acknowledged.extend([pair("b", "author-b"), pair("no", "x")]);
        let counts = HashMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let post = |id: &str| Post { id: id.to_owned(), nature: Nature::Kept, authors: vec![format!("author-{id}")] };
        let found = Found {
            posts: BTreeMap::from(["a", "b"].map(|id| (id.to_owned(), post(id)))),
            ledger: pairs.into(),
            live: vec![("one".to_owned(), counts.clone()), ("two".to_owned(), counts.clone())],
            counts,
            ..Found::default()
        };
        (asked, found)
    }

    #[test]
    fn what_is_in_order_passes() {
        let (asked, found) = in_order();
        assert_eq!(verify(&asked, &found), []);
    }

    #[test]
    fn an_unanswered_view_may_be_in_the_ledger() {
        let (asked, mut found) = in_order();
        found.ledger.push(pair("b", "z"));
        found.counts.insert("b".to_owned(), 2);
        for (_, live) in &mut found.live {
            live.insert("b".to_owned(), 2);
        }
        assert_eq!(verify(&asked, &found), []);
    }

    #[test]
    fn a_missing_pair_is_found() {
        let (asked, mut found) = in_order();
        found.ledger.retain(|row| *row != pair("b", "x"));
        found.counts.insert("b".to_owned(), 0);
        for (_, live) in &mut found.live {
            live.insert("b".to_owned(), 0);
        }
        assert_eq!(verify(&asked, &found), [Violation::Lost(pair("b", "x"))]);
    }

    #[test]
    fn extra_rows_are_found() {
        let (asked, mut found) = in_order();
        found.ledger.extend([pair("a", "nobody"), pair("a", "author-a"), pair("a", "x")]);
        found.counts.insert("a".to_owned(), 5);
        for (_, live) in &mut found.live {
            live.insert("a".to_owned(), 5);
        }
        let expected =
            [Violation::Invented(pair("a", "nobody")), Violation::Own(pair("a", "author-a")), Violation::Doubled(pair("a", "x"))];
        assert_eq!(verify(&asked, &found), expected);
    }

    #[test]
    fn a_wrong_count_is_found_in_the_table_and_in_each_answer() {
        let (asked, mut found) = in_order();
        found.counts.insert("a".to_owned(), 3);
        found.live[0].1.remove("b");
        let live = |post: &str, told_by: &str, live, count| {
            let (post, told_by) = (post.to_owned(), told_by.to_owned());
            Violation::Live { post, told_by, live, count: Some(count) }
        };
        let expected = [
            Violation::Count { post: "a".to_owned(), count: Some(3), rows: 2, added: 0 },
            live("a", "one", Some(2), 3),
            live("a", "two", Some(2), 3),
            live("b", "one", None, 1),
        ];
        assert_eq!(verify(&asked, &found), expected);
    }

    #[test]
    fn what_is_recorded_and_never_acknowledged_is_found() {
        let (asked, mut found) = in_order();
        found.drift.extend([("a".to_owned(), 0), ("b".to_owned(), -2)]);
        assert_eq!(verify(&asked, &found), [Violation::Drift("b".to_owned(), -2)]);
    }

    #[test]
    fn whatever_is_still_put_aside_is_found_but_for_views_of_posts_that_do_not_exist() {
        let (asked, mut found) = in_order();
        let letter = |post: &str, reason: &str| Letter { pair: pair(post, "x"), reason: reason.to_owned(), may_pass: false };
        found.dead = vec![letter("no", NO_SUCH_POST), letter("a", NO_SUCH_POST), letter("no", "a reason")];
        assert_eq!(verify(&asked, &found), found.dead[1..].iter().cloned().map(Violation::Dead).collect::<Vec<_>>());
    }

    #[test]
    fn what_the_application_adds_to_a_count_is_no_error() {
        let (asked, mut found) = in_order();
        found.counts.insert("a".to_owned(), 9);
        found.added.insert("a".to_owned(), 7);
        for (_, live) in &mut found.live {
            live.insert("a".to_owned(), 9);
        }
        assert_eq!(verify(&asked, &found), []);
    }

    #[test]
    fn of_a_post_that_is_created_anew_only_later_views_have_to_be_there() {
        let (mut asked, mut found) = in_order();
        found.posts.get_mut("b").unwrap().nature = Nature::Fleeting;
        asked.acknowledged.insert(pair("b", "early"));
        asked.created_ms.insert("b".to_owned(), 100);
        asked.new_views.extend([(pair("b", "early"), 99), (pair("b", "x"), 101), (pair("b", "author-b"), 101)]);
        assert_eq!(verify(&asked, &found), []);
        asked.new_views.insert(pair("b", "late"), 101);
        assert_eq!(verify(&asked, &found), [Violation::LostAnew(pair("b", "late"))]);
    }

    #[test]
    fn whom_the_set_has_and_the_ledger_lacks_is_found() {
        let (asked, mut found) = in_order();
        let members = |viewers: &[&str]| viewers.iter().map(|viewer| (*viewer).to_owned()).collect();
        found.sets.insert("a".to_owned(), members(&["x", "y", "author-a"]));
        assert_eq!(verify(&asked, &found), []);
        found.sets.insert("a".to_owned(), members(&["x", "z"]));
        assert_eq!(verify(&asked, &found), [Violation::Kept(pair("a", "z"))]);
    }
}
