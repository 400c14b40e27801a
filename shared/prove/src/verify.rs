//! Jepsen's set check, and what else must hold when everything is well again. Knows nothing of servers and processes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

/// A post and a viewer, by their ids.
pub(crate) type Pair = (String, String);

/// What the clients did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Asked {
    /// Every pair that was ever sent.
    pub(crate) attempted: BTreeSet<Pair>,
    /// Every pair that a client was told to be counted, now or before.
    pub(crate) acknowledged: BTreeSet<Pair>,
}

/// What was found at the end.
#[derive(Debug, Default, Clone)]
pub(crate) struct Found {
    /// The posts with their authors.
    pub(crate) posts: BTreeMap<String, String>,
    /// The ledger's rows.
    pub(crate) ledger: Vec<Pair>,
    /// Each post's count in the posts table.
    pub(crate) counts: HashMap<String, i64>,
    /// Each post's count as each view-ingest tells it.
    pub(crate) live: Vec<(String, HashMap<String, i64>)>,
    /// What was put aside as impossible to store.
    pub(crate) dead: Vec<String>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A client was told that the view counts, and the ledger does not have it.
    Lost(Pair),
    /// At this time, in milliseconds, an acknowledged view was neither in the outbox nor in the ledger.
    Unstored(Pair, u128),
    /// The ledger has a view that nobody sent.
    Invented(Pair),
    /// The ledger has an author's own view.
    Own(Pair),
    /// The ledger has a row twice.
    Doubled(Pair),
    /// A post's count is not the number of its rows.
    Count { post: String, count: Option<i64>, rows: i64 },
    /// A view-ingest tells another count than the database.
    Live { post: String, told_by: String, live: Option<i64>, count: Option<i64> },
    /// Something was put aside as impossible to store.
    Dead(String),
    /// Something else, in words.
    Other(String),
}

/// Everything that is wrong.
pub(crate) fn verify(asked: &Asked, found: &Found) -> Vec<Violation> {
    let mut violations = Vec::new();
    let is_own = |(post, viewer): &Pair| found.posts.get(post) == Some(viewer);
    let mut rows: HashMap<&str, i64> = HashMap::new();
    let mut ledger: BTreeSet<&Pair> = BTreeSet::new();
    for pair in &found.ledger {
        *rows.entry(&pair.0).or_default() += 1;
        if !ledger.insert(pair) {
            violations.push(Violation::Doubled(pair.clone()));
        } else if is_own(pair) {
            violations.push(Violation::Own(pair.clone()));
        } else if !asked.attempted.contains(pair) {
            violations.push(Violation::Invented(pair.clone()));
        }
    }
    let lost = missing(&asked.acknowledged, &found.posts, |pair| ledger.contains(pair));
    violations.extend(lost.into_iter().map(Violation::Lost));
    for post in found.posts.keys() {
        let count = found.counts.get(post).copied();
        let rows = rows.get(post.as_str()).copied().unwrap_or(0);
        if count != Some(rows) {
            violations.push(Violation::Count { post: post.clone(), count, rows });
        }
        for (told_by, live) in &found.live {
            let live = live.get(post).copied();
            if live != count {
                violations.push(Violation::Live { post: post.clone(), told_by: told_by.clone(), live, count });
            }
        }
    }
    violations.extend(found.dead.iter().cloned().map(Violation::Dead));
    violations
}

/// The acknowledged pairs that are not stored, of those that can be: while PostgreSQL is away nobody knows the authors or which posts
/// exist, so such views are accepted, and dropped by the drain.
pub(crate) fn missing(
    acknowledged: &BTreeSet<Pair>,
    posts: &BTreeMap<String, String>,
    is_stored: impl Fn(&Pair) -> bool,
) -> Vec<Pair> {
    let storable = |(post, viewer): &&Pair| posts.get(post).is_some_and(|author| author != viewer);
    acknowledged.iter().filter(storable).filter(|pair| !is_stored(pair)).cloned().collect()
}

impl Violation {
    /// The pair or post that it is about, to be looked for in the history.
    pub(crate) fn about(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Lost((post, viewer))
            | Self::Unstored((post, viewer), _)
            | Self::Invented((post, viewer))
            | Self::Own((post, viewer))
            | Self::Doubled((post, viewer)) => Some((post, Some(viewer))),
            Self::Count { post, .. } | Self::Live { post, .. } => Some((post, None)),
            Self::Dead(_) | Self::Other(_) => None,
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
                    "LOST: post {post}, viewer {viewer}: acknowledged, and at {ms} ms neither in the outbox nor in the ledger"
                )
            }
            Self::Invented((post, viewer)) => write!(f, "INVENTED: post {post}, viewer {viewer}: in the ledger, and never sent"),
            Self::Own((post, viewer)) => write!(f, "OWN: post {post}, viewer {viewer}: the author's own view is in the ledger"),
            Self::Doubled((post, viewer)) => write!(f, "DOUBLED: post {post}, viewer {viewer}: twice in the ledger"),
            Self::Count { post, count, rows } => {
                write!(f, "COUNT: post {post}: the posts table says {}, the ledger has {rows} rows", number(count))
            }
            Self::Live { post, told_by, live, count } => {
                write!(f, "LIVE: post {post}: {told_by} says {}, the posts table {}", number(live), number(count))
            }
            Self::Dead(text) => write!(f, "DEAD: {text}"),
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
        let mut asked = Asked { attempted: pairs.clone().into(), acknowledged: pairs.clone().into() };
        // Sent and never answered; sent by the author; sent to a post that does not exist while nobody could know that.
        asked.attempted.extend([pair("b", "z"), pair("b", "author-b"), pair("no", "x")]);
        asked.acknowledged.extend([pair("b", "author-b"), pair("no", "x")]);
        let counts = HashMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let found = Found {
            posts: BTreeMap::from(["a", "b"].map(|post| (post.to_owned(), format!("author-{post}")))),
            ledger: pairs.into(),
            live: vec![("one".to_owned(), counts.clone()), ("two".to_owned(), counts.clone())],
            counts,
            dead: Vec::new(),
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
            Violation::Count { post: "a".to_owned(), count: Some(3), rows: 2 },
            live("a", "one", Some(2), 3),
            live("a", "two", Some(2), 3),
            live("b", "one", None, 1),
        ];
        assert_eq!(verify(&asked, &found), expected);
    }

    #[test]
    fn whatever_was_put_aside_is_found() {
        let (asked, mut found) = in_order();
        found.dead.push("a x".to_owned());
        assert_eq!(verify(&asked, &found), [Violation::Dead("a x".to_owned())]);
    }
}
