//! What is broken when: a list that follows from the seed alone.

pub(crate) mod failpoint;
pub(crate) mod resharding;

use std::{collections::HashMap, fmt, time::Duration};

use testkit::cluster::SLOTS;

use crate::random::Random;

/// How many of each program run.
pub(crate) const INGESTS: usize = 2;
/// How many of each program run.
pub(crate) const SYNCDS: usize = 2;

/// The pause between two faults, in milliseconds.
const GAP_MS: (u64, u64) = (50, 700);
/// A target is left alone for this long after a fault.
const REST_MS: u64 = 300;
/// Nothing is broken any more when so much of the time is left.
const CALM_END_MS: u64 = 500;
/// Shorter than this, a fault is none.
const LEAST_MS: u64 = 100;

/// A live primary is not stopped for longer: what it acknowledges while its replica takes its place is lost, as the
/// documents say.
const LONGEST_STOP_MS: u64 = 900;
/// A primary that is down for so long is replaced.
const REPLACED_AFTER_MS: u64 = 4_500;

/// What Redis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A server.
    Alone,
    /// Three primaries with a replica each.
    Cluster,
}

/// One of the programs under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Program {
    Ingest(usize),
    Syncd(usize),
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Process {
    Redis,
    Postgres,
    Program(Program),
}

/// A connection between two parts, with a proxy in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Link {
    ToRedis(Program),
    ToPostgres(Program),
    FromClients(usize),
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL, and a new start after the time.
    Kill,
    /// SIGSTOP, and SIGCONT after the time.
    Pause,
    /// SIGTERM, and a new start at once: an operator's restart. Only for the programs under test.
    Restart,
    /// No memory is left for the time: reads work, and writes are refused. Only for Redis.
    Fill,
}

/// What is done to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Every piece of data is held back for so many milliseconds.
    Delay(u64),
    /// All connections break, and no new one is let through.
    Cut,
    /// Answers get lost; what was asked is done.
    SwallowReplies,
    /// Nothing passes, and nothing breaks.
    Freeze,
}

/// Which of a post's keys vanish from Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Both,
    Set,
    Meta,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Process(Process, Blow),
    Link(Link, Trouble),
    /// A blow against the primary of a slot.
    Primary(u16, Blow),
    /// The primary of a slot closes the connections of all clients.
    Connections(u16),
    /// The keys of the post in this place vanish.
    Forget(usize, Keys),
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// Returns the faults of a run in the order of their beginnings. No two of one target overlap, and all have ended when
/// the time is over. Before `counts_until`, there are only those after which every count has to be true.
pub(crate) fn schedule(layout: Layout, seed: u64, duration: Duration, counts_until: Duration, posts: usize) -> Vec<Event> {
    let mut random = Random::stream(seed, 1);
    let end_ms = millis(duration).saturating_sub(CALM_END_MS);
    let targets = targets(layout);
    let mut busy_until: HashMap<Target, u64> = HashMap::new();
    let mut events = Vec::new();
    let mut now_ms = 0;
    loop {
        now_ms += random.between(GAP_MS.0, GAP_MS.1);
        if now_ms + LEAST_MS >= end_ms {
            return events;
        }
        let target = targets[random.place(targets.len())];
        // The numbers are drawn whether they are needed or not, so that the end of the time does not change what comes
        // before it.
        let (fault, lasts_ms) = fault(&mut random, target, posts);
        if busy_until.get(&target).is_some_and(|until| *until > now_ms) {
            continue;
        }
        if now_ms < millis(counts_until) && !fault.spares_counts() {
            continue;
        }
        let lasts_ms = lasts_ms.min(end_ms - now_ms);
        busy_until.insert(target, now_ms + lasts_ms + REST_MS);
        let (at, lasts) = (Duration::from_millis(now_ms), Duration::from_millis(lasts_ms));
        events.push(Event { at, lasts, fault });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Process(Process),
    Link(Link),
    Primary,
    Connections,
    Keys,
}

/// Everything that can be broken, the important things several times: one is as likely as it is often in the list.
fn targets(layout: Layout) -> Vec<Target> {
    let mut targets = match layout {
        Layout::Alone => vec![Target::Process(Process::Redis); 3],
        Layout::Cluster => [[Target::Primary; 5], [Target::Connections; 5]].concat(),
    };
    targets.extend([Target::Process(Process::Postgres); 2]);
    targets.extend([Target::Keys; 3]);
    for program in programs() {
        targets.push(Target::Process(Process::Program(program)));
        if layout == Layout::Alone {
            targets.push(Target::Link(Link::ToRedis(program)));
        }
        targets.push(Target::Link(Link::ToPostgres(program)));
    }
    targets.extend((0..INGESTS).map(|number| Target::Link(Link::FromClients(number))));
    targets
}

/// Returns all programs.
pub(crate) fn programs() -> impl Iterator<Item = Program> {
    (0..INGESTS).map(Program::Ingest).chain((0..SYNCDS).map(Program::Syncd))
}

fn fault(random: &mut Random, target: Target, posts: usize) -> (Fault, u64) {
    let choice = random.place(10);
    let (short_ms, long_ms) = (random.between(100, 1_500), random.between(300, 4_000));
    let delay_ms = random.between(2, 400);
    let post = random.skewed_place(posts);
    match target {
        Target::Process(process) => {
            let (blow, lasts_ms) = match choice {
                4..6 if process == Process::Redis => (Blow::Fill, long_ms),
                0..6 => (Blow::Kill, short_ms),
                6 if matches!(process, Process::Program(_)) => (Blow::Restart, short_ms),
                _ => (Blow::Pause, long_ms),
            };
            (Fault::Process(process, blow), lasts_ms)
        }
        Target::Link(link) => {
            let trouble = match choice {
                0..3 => Trouble::Cut,
                3..7 => Trouble::SwallowReplies,
                7..9 => Trouble::Delay(delay_ms),
                _ => Trouble::Freeze,
            };
            (Fault::Link(link, trouble), long_ms)
        }
        Target::Primary => {
            let (blow, lasts_ms) = match choice {
                0 => (Blow::Kill, short_ms),
                1..5 => (Blow::Kill, REPLACED_AFTER_MS + short_ms),
                5..7 => (Blow::Fill, long_ms),
                _ => (Blow::Pause, short_ms.min(LONGEST_STOP_MS)),
            };
            (Fault::Primary(slot_of(post, choice), blow), lasts_ms)
        }
        Target::Connections => (Fault::Connections(slot_of(post, choice)), 0),
        Target::Keys => {
            let keys = match choice {
                0..6 => Keys::Both,
                6..8 => Keys::Set,
                _ => Keys::Meta,
            };
            (Fault::Forget(post, keys), 0)
        }
    }
}

/// Returns a slot, from numbers that are drawn anyway.
fn slot_of(post: usize, choice: usize) -> u16 {
    u16::try_from((post * 10 + choice) * 7919 % usize::from(SLOTS)).unwrap_or(0)
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingest(number) => write!(f, "view-ingest-{}", number + 1),
            Self::Syncd(number) => write!(f, "view-syncd-{}", number + 1),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => f.write_str("redis"),
            Self::Postgres => f.write_str("postgresql"),
            Self::Program(program) => program.fmt(f),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToRedis(program) => write!(f, "{program} -> redis"),
            Self::ToPostgres(program) => write!(f, "{program} -> postgresql"),
            Self::FromClients(number) => write!(f, "clients -> {}", Program::Ingest(*number)),
        }
    }
}

impl Fault {
    /// Returns whether counts have to be true in spite of it (see `bounds.rs`).
    fn spares_counts(self) -> bool {
        match self {
            // What was sent and not answered may have been done or not: the batch goes into PostgreSQL, and perhaps is
            // in the outbox, too. And who has viewed a post that Redis has forgotten is known again when it has been
            // looked up.
            Self::Process(Process::Redis, _)
            | Self::Primary(..)
            | Self::Connections(_)
            | Self::Link(Link::ToRedis(Program::Ingest(_)), _)
            | Self::Forget(..) => false,
            // Whoever dies, or sleeps for seconds, between entry and increment leaves a pair that no count has yet, or
            // has twice.
            Self::Process(Process::Program(Program::Ingest(_)), blow) => blow == Blow::Restart,
            Self::Process(Process::Postgres | Process::Program(Program::Syncd(_)), _)
            | Self::Link(Link::ToRedis(Program::Syncd(_)) | Link::ToPostgres(_) | Link::FromClients(_), _) => true,
        }
    }

    /// What kind of fault it is, for the count at the end.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Process(process, blow) => {
                let name = process.to_string();
                let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
                format!("{} {name}", blow.name())
            }
            Self::Primary(_, blow) => format!("{} primary", blow.name()),
            Self::Connections(_) => "connections closed".to_owned(),
            Self::Link(_, Trouble::Delay(_)) => "link delayed".to_owned(),
            Self::Link(_, Trouble::Cut) => "link cut".to_owned(),
            Self::Link(_, Trouble::SwallowReplies) => "replies swallowed".to_owned(),
            Self::Link(_, Trouble::Freeze) => "link frozen".to_owned(),
            Self::Forget(..) => "keys deleted".to_owned(),
        }
    }
}

impl Blow {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9",
            Self::Pause => "SIGSTOP",
            Self::Restart => "SIGTERM",
            Self::Fill => "OOM",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = self.lasts.as_millis();
        match self.fault {
            Fault::Process(process, Blow::Kill) => write!(f, "kill -9 {process}, down for {lasts} ms"),
            Fault::Process(process, Blow::Pause) => write!(f, "SIGSTOP {process} for {lasts} ms"),
            Fault::Process(process, Blow::Fill) => write!(f, "{process} out of memory for {lasts} ms"),
            Fault::Process(process, Blow::Restart) => write!(f, "SIGTERM {process}, and a new start"),
            Fault::Primary(slot, blow) => write!(f, "{} the primary of slot {slot}, for {lasts} ms", blow.name()),
            Fault::Connections(slot) => write!(f, "the primary of slot {slot} closes all connections of clients"),
            Fault::Link(link, Trouble::Delay(by)) => write!(f, "{link}: delayed by {by} ms for {lasts} ms"),
            Fault::Link(link, Trouble::Cut) => write!(f, "{link}: cut for {lasts} ms"),
            Fault::Link(link, Trouble::SwallowReplies) => write!(f, "{link}: replies swallowed for {lasts} ms"),
            Fault::Link(link, Trouble::Freeze) => write!(f, "{link}: frozen for {lasts} ms"),
            Fault::Forget(post, keys) => {
                let keys = match keys {
                    Keys::Both => "set and meta",
                    Keys::Set => "set",
                    Keys::Meta => "meta",
                };
                write!(f, "DEL {keys} of post {post}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn faults(seed: u64, duration: Duration) -> Vec<Event> {
        schedule(Layout::Alone, seed, duration, Duration::ZERO, 50)
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_one_another() {
        assert_eq!(faults(7, MINUTE), faults(7, MINUTE));
        assert_ne!(faults(7, MINUTE), faults(8, MINUTE));
    }

    #[test]
    fn a_longer_run_of_the_same_seed_begins_like_the_shorter_one() {
        let (short, long) = (faults(7, MINUTE / 4), faults(7, MINUTE));
        let starts = |events: &[Event]| events.iter().map(|event| (event.at, event.fault)).collect::<Vec<_>>();
        assert_eq!(starts(&short), starts(&long)[..short.len()]);
    }

    #[test]
    fn every_kind_of_fault_comes_in_a_few_minutes_and_all_end_in_time() {
        let events = faults(1, 5 * MINUTE);
        let kinds: std::collections::BTreeSet<String> = events.iter().map(|event| event.fault.kind()).collect();
        assert_eq!(kinds.len(), 3 * 4 - 2 + 1 + 5, "{kinds:?}");
        assert!(events.iter().all(|event| event.at + event.lasts < 5 * MINUTE));
    }

    #[test]
    fn primaries_of_a_cluster_are_killed_for_good_and_for_a_moment_and_never_stopped_for_long() {
        let seeds = 1..20;
        let events: Vec<Vec<Event>> = seeds.map(|seed| schedule(Layout::Cluster, seed, MINUTE, MINUTE / 4, 50)).collect();
        let replaced =
            |event: &&Event| matches!(event.fault, Fault::Primary(_, Blow::Kill)) && millis(event.lasts) >= REPLACED_AFTER_MS;
        for events in &events {
            assert!(events.iter().filter(replaced).count() >= 2, "{}", events.iter().filter(replaced).count());
        }
        let events = events.concat();
        let lasts = |blow: Blow| {
            let of_primaries = events.iter().filter(move |event| matches!(event.fault, Fault::Primary(_, is) if is == blow));
            of_primaries.map(|event| millis(event.lasts)).collect::<Vec<_>>()
        };
        assert!(lasts(Blow::Kill).iter().any(|lasts| *lasts < REPLACED_AFTER_MS));
        assert!(lasts(Blow::Pause).iter().all(|lasts| *lasts <= LONGEST_STOP_MS));
        assert!(!lasts(Blow::Fill).is_empty());
        assert!(events.iter().any(|event| matches!(event.fault, Fault::Connections(_))));
        let of_one_server =
            |event: &&Event| matches!(event.fault, Fault::Process(Process::Redis, _) | Fault::Link(Link::ToRedis(_), _));
        assert_eq!(events.iter().find(of_one_server), None);
    }

    #[test]
    fn no_process_or_link_is_broken_twice_at_once() {
        let events = faults(3, 5 * MINUTE);
        for (place, event) in events.iter().enumerate() {
            let same = |other: &&Event| match (event.fault, other.fault) {
                (Fault::Process(one, _), Fault::Process(other, _)) => one == other,
                (Fault::Link(one, _), Fault::Link(other, _)) => one == other,
                _ => false,
            };
            let next = events[place + 1..].iter().find(same);
            assert!(next.is_none_or(|next| next.at >= event.at + event.lasts), "{event} and {next:?}");
        }
    }

    #[test]
    fn nothing_happens_to_counts_before_its_time() {
        let events = schedule(Layout::Alone, 5, 5 * MINUTE, MINUTE, 50);
        let early = events.iter().filter(|event| event.at < MINUTE);
        assert!(early.clone().count() > 20 && early.clone().all(|event| event.fault.spares_counts()));
        assert!(events.iter().any(|event| !event.fault.spares_counts()));
    }
}
