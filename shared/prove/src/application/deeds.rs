//! What the application does when: a list that follows from the seed alone, like that of the faults.

use std::{fmt, time::Duration};

use crate::{
    random::Random,
    schedule::millis,
    world::{Nature, REFUSED_PREFIXES, World, may_be_refused},
};

/// Everything is undone when so much of the time is left.
const CALM_END_MS: u64 = 500;
/// Shorter than this, a deed is none.
const LEAST_MS: u64 = 50;

/// Deeds of one lane follow each other, so that the application never waits for itself within a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Transactions that hold rows of every other post, from this place on: no two lanes have a post in common.
    Rows(usize),
    /// Short transactions that change something.
    Values,
    /// What is done to whole tables.
    Tables,
}

/// All of them.
pub(crate) const LANES: [Lane; 4] = [Lane::Rows(0), Lane::Rows(1), Lane::Values, Lane::Tables];

/// How a transaction takes its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// `UPDATE` of one row.
    Update,
    /// `SELECT … FOR UPDATE` of one row.
    ForUpdate,
    /// The same in one short transaction after the other, with hardly a gap.
    Again,
    /// One `UPDATE` of many rows.
    Bulk,
    /// One row after the other, the highest id first.
    HighThenLow,
    /// One row after the other, the lowest id first.
    LowThenHigh,
}

/// A table of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Posts,
    Ledger,
}

/// Something that the application does. Posts and viewers are named by their places in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// A transaction that holds rows of posts for the time.
    Hold { how: Hold, posts: Vec<usize>, commits: bool },
    /// A transaction that puts a view into the ledger, and holds it for the time.
    View { post: usize, viewer: usize, commits: bool },
    /// A post's count is changed.
    Count { post: usize, by: i64 },
    /// A post gets another one of its authors.
    Author { post: usize, author: usize },
    /// A post is deleted, and created anew after the time; or both in one transaction.
    Recreate { post: usize, at_once: bool },
    /// Row level security, for the time: the role of the programs has no policy.
    Policy(Table),
    /// A trigger on the ledger that refuses every row for the time, or those of viewers whose ids begin so.
    Refusal(Option<char>),
}

/// A deed with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) deed: Deed,
}

/// Returns the deeds of a lane in their order. None begins before the one before it is to have ended.
pub(crate) fn deeds(seed: u64, lane: Lane, duration: Duration, world: &World) -> Vec<Event> {
    let (purpose, gap_ms) = match lane {
        Lane::Rows(first) => (11 + first as u64, (20, 300)),
        Lane::Values => (21, (100, 700)),
        Lane::Tables => (22, (300, 1_200)),
    };
    let mut random = Random::stream(seed, purpose);
    let end_ms = millis(duration).saturating_sub(CALM_END_MS);
    let mut events = Vec::new();
    let mut now_ms = 0;
    loop {
        now_ms += random.between(gap_ms.0, gap_ms.1);
        let (deed, lasts_ms) = match lane {
            Lane::Rows(first) => rows(&mut random, world, first),
            Lane::Values => values(&mut random, world),
            Lane::Tables => tables(&mut random),
        };
        if now_ms + LEAST_MS >= end_ms {
            return events;
        }
        let lasts_ms = lasts_ms.min(end_ms - now_ms);
        let (at, lasts) = (Duration::from_millis(now_ms), Duration::from_millis(lasts_ms));
        events.push(Event { at, lasts, deed });
        now_ms += lasts_ms;
    }
}

/// Mostly a moment, now and then some seconds.
fn while_held(random: &mut Random) -> u64 {
    match random.place(10) {
        0..6 => random.between(50, 300),
        6..9 => random.between(300, 1_200),
        _ => random.between(1_200, 6_000),
    }
}

fn rows(random: &mut Random, world: &World, first: usize) -> (Deed, u64) {
    let choice = random.place(20);
    let lasts_ms = while_held(random);
    let commits = random.percent(70);
    let number = match choice {
        7..10 => random.between(5, 25),
        10..16 => random.between(2, 6),
        _ => 1,
    };
    let mut posts: Vec<usize> = Vec::new();
    for _ in 0..number {
        // One of ten is a post of which the application changes something else, too.
        let post = if random.percent(10) { random.place(world.posts.len()) } else { random.skewed_place(world.kept().len()) };
        let post = post - post % 2 + first;
        if post < world.posts.len() && !posts.contains(&post) {
            posts.push(post);
        }
    }
    posts.sort_by_key(|post| &world.posts[*post].id);
    let hold = |how, posts| Deed::Hold { how, posts, commits };
    let deed = match choice {
        0..3 => hold(Hold::Update, posts),
        3..5 => hold(Hold::ForUpdate, posts),
        5..7 => hold(Hold::Again, posts),
        7..10 => hold(Hold::Bulk, posts),
        10..13 => hold(Hold::LowThenHigh, posts),
        13..16 => hold(Hold::HighThenLow, posts.into_iter().rev().collect()),
        _ => view(random, world, first, commits),
    };
    (deed, lasts_ms)
}

/// Returns a view of a viewer who may be refused anyway. It is committed only where the application changes the count,
/// too: no count has it.
fn view(random: &mut Random, world: &World, first: usize, commits: bool) -> Deed {
    let viewers: Vec<usize> = (0..world.viewers.len()).filter(|viewer| may_be_refused(&world.viewers[*viewer].id)).collect();
    let viewer = viewers[random.place(viewers.len())];
    let is_counted = |post: &usize| world.posts[*post].nature == Nature::Counted;
    let counted: Vec<usize> = (first..world.posts.len()).step_by(2).filter(is_counted).collect();
    let (among_counted, among_kept) = (counted[random.place(counted.len())], random.skewed_place(world.kept().len()));
    Deed::View { post: if commits { among_counted } else { among_kept - among_kept % 2 + first }, viewer, commits }
}

fn values(random: &mut Random, world: &World) -> (Deed, u64) {
    let nature = [Nature::Counted, Nature::Reauthored, Nature::Fleeting, Nature::Fleeting][random.place(4)];
    let posts: Vec<usize> = (0..world.posts.len()).filter(|post| world.posts[*post].nature == nature).collect();
    let post = posts[random.place(posts.len())];
    let number = random.between(1, 40);
    let (is_less, at_once) = (random.percent(50), random.percent(40));
    let lasts_ms = if nature == Nature::Fleeting && !at_once { random.between(100, 2_500) } else { LEAST_MS };
    let number = i64::try_from(number).unwrap_or(1);
    let deed = match nature {
        Nature::Counted => Deed::Count { post, by: if is_less { -number } else { number } },
        Nature::Reauthored => Deed::Author { post, author: random.place(world.posts[post].authors.len()) },
        Nature::Kept | Nature::Fleeting => Deed::Recreate { post, at_once },
    };
    (deed, lasts_ms)
}

fn tables(random: &mut Random) -> (Deed, u64) {
    let (short_ms, long_ms) = (random.between(200, 1_500), random.between(300, 2_500));
    let prefix = REFUSED_PREFIXES[random.place(REFUSED_PREFIXES.len())];
    match random.place(20) {
        0..3 => (Deed::Policy(Table::Posts), short_ms),
        3..5 => (Deed::Policy(Table::Ledger), short_ms),
        5..9 => (Deed::Refusal(None), short_ms),
        _ => (Deed::Refusal(Some(prefix)), long_ms),
    }
}

impl Deed {
    /// What kind of deed it is, for the count at the end.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Hold { how: Hold::Bulk, .. } => "bulk update",
            Self::Hold { how: Hold::HighThenLow | Hold::LowThenHigh, .. } => "rows locked one by one",
            Self::Hold { .. } => "row locked",
            Self::View { .. } => "view uncommitted",
            Self::Count { .. } => "count changed",
            Self::Author { .. } => "author changed",
            Self::Recreate { .. } => "post created anew",
            Self::Policy(_) => "row level security",
            Self::Refusal(None) => "trigger for all",
            Self::Refusal(Some(_)) => "trigger for some",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Posts => "posts",
            Self::Ledger => "post_views",
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = self.lasts.as_millis();
        write!(f, "application: ")?;
        let end = |commits: &bool| if *commits { "commits" } else { "rolls back" };
        match &self.deed {
            Deed::Hold { how, posts, commits } => {
                let how = match how {
                    Hold::Update => "updates",
                    Hold::ForUpdate => "locks for update",
                    Hold::Again => "locks again and again",
                    Hold::Bulk => "updates at once",
                    Hold::HighThenLow => "updates from high to low",
                    Hold::LowThenHigh => "updates from low to high",
                };
                write!(f, "{how} posts {posts:?}, holds them for {lasts} ms, {}", end(commits))
            }
            Deed::View { post, viewer, commits } => {
                write!(f, "viewer {viewer} views post {post}, uncommitted for {lasts} ms, {}", end(commits))
            }
            Deed::Count { post, by } => write!(f, "count of post {post} {by:+}"),
            Deed::Author { post, author } => write!(f, "post {post} gets author {author}"),
            Deed::Recreate { post, at_once: true } => write!(f, "post {post} is deleted and created anew in one transaction"),
            Deed::Recreate { post, at_once: false } => write!(f, "post {post} is deleted for {lasts} ms"),
            Deed::Policy(table) => write!(f, "row level security on {table} for {lasts} ms"),
            Deed::Refusal(None) => write!(f, "a trigger refuses all views for {lasts} ms"),
            Deed::Refusal(Some(prefix)) => write!(f, "a trigger refuses viewers {prefix}… for {lasts} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn all(seed: u64, duration: Duration) -> Vec<Vec<Event>> {
        let world = World::new(seed, MINUTE);
        LANES.into_iter().map(|lane| deeds(seed, lane, duration, &world)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_deeds_and_another_one_others() {
        assert_eq!(all(7, MINUTE), all(7, MINUTE));
        assert_ne!(all(7, MINUTE), all(8, MINUTE));
    }

    #[test]
    fn every_kind_of_deed_comes_in_a_minute_and_none_of_a_lane_overlap() {
        let lanes = all(1, MINUTE);
        let kinds: BTreeSet<&str> = lanes.iter().flatten().map(|event| event.deed.kind()).collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        for events in &lanes {
            assert!(events.iter().all(|event| event.at + event.lasts < MINUTE));
            assert!(events.windows(2).all(|pair| pair[0].at + pair[0].lasts <= pair[1].at));
        }
    }

    #[test]
    fn what_is_committed_to_the_ledger_is_of_posts_whose_count_is_the_application_s() {
        let world = World::new(3, MINUTE);
        for event in deeds(3, Lane::Rows(1), 10 * MINUTE, &world) {
            if let Deed::View { post, viewer, commits } = event.deed {
                let nature = world.posts[post].nature;
                assert_eq!(nature, if commits { Nature::Counted } else { Nature::Kept });
                assert!(may_be_refused(&world.viewers[viewer].id));
            }
        }
    }
}
