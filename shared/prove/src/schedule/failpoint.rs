//! Where the programs die by themselves.

use views_core::failpoints::{ACK_BEFORE_COMMIT, SET_BEFORE_OUTBOX};

use super::Program;
use crate::random::Random;

/// Name, and the highest number of hits: rarely hit points die early.
type Point = (&'static str, u64);

const INGEST: [Point; 15] = [
    ("record::before", 150),
    ("record::between", 50),
    ("record::between", 150),
    ("record::before_count", 150),
    ("record::after", 150),
    ("raced::before", 10),
    ("answer::before", 150),
    ("answer::after", 300),
    ("fallback::before", 20),
    ("fallback::after", 5),
    ("fallback::after", 20),
    ("refresh::before", 20),
    ("refresh::after", 20),
    ("hydrate::before", 6),
    ("hydrate::after", 12),
];

const SYNCD: [Point; 13] = [
    ("drain::before_commit", 12),
    ("drain::after_commit", 12),
    ("drain::after_commit", 4),
    ("bury::after", 2),
    ("ack::before", 12),
    ("ack::after", 12),
    ("delete::before", 12),
    ("publish::before", 12),
    ("union::after_commit", 2),
    ("offer::after_commit", 2),
    ("repair::before", 1),
    ("fallen::before", 2),
    ("adjust::after", 4),
];

/// Returns the hand-over that a mistake has spoilt, for the program that makes it. A correct program dies there now and
/// then, too; a wrong one does so all the time, so that a short run is enough to find it out.
fn spoilt_by(mistake: &str, program: Program) -> Option<Point> {
    match (mistake, program) {
        (ACK_BEFORE_COMMIT, Program::Syncd(_)) => Some(("drain::too_early", 6)),
        (SET_BEFORE_OUTBOX, Program::Ingest(_)) => Some(("record::between", 12)),
        _ => None,
    }
}

/// Returns where a program dies by itself: at the so-manieth hit of a point. Follows from the seed, the program, and
/// how often it was started.
pub(crate) fn failpoint(seed: u64, program: Program, start: u64, mistake: Option<&str>) -> Option<Point> {
    let (points, number): (&[Point], usize) = match program {
        Program::Ingest(number) => (&INGEST, number),
        Program::Syncd(number) => (&SYNCD, 100 + number),
    };
    let mut random = Random::stream(seed, 1_000 * (1 + number as u64) + start);
    let point = points[random.place(points.len())];
    let (name, most) = mistake.and_then(|mistake| spoilt_by(mistake, program)).unwrap_or(point);
    let hits = random.between(1, most);
    random.percent(90).then_some((name, hits))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_points_and_another_one_others() {
        let points = |seed| (0..20).map(|start| failpoint(seed, Program::Ingest(1), start, None)).collect::<Vec<_>>();
        assert_eq!(points(7), points(7));
        assert_ne!(points(7), points(8));
    }

    /// The names of all failpoints in a folder's sources.
    fn names_in(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                names_in(&path, names);
            } else {
                let source = std::fs::read_to_string(&path).unwrap();
                let calls = source.lines().filter(|line| line.contains("failpoints::at(") || line.contains("failpoints::hit("));
                let quoted = calls.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned));
                names.extend(quoted);
            }
        }
    }

    #[test]
    fn the_points_are_those_of_the_programs() {
        // Those of a mistake, and of commands, which the proof does not run.
        let others = ["drain::too_early", "forget::stored", "forget::taken_out", "mend::imported"];
        for (program, points, others) in [("view-ingest", &INGEST[..], &[][..]), ("view-syncd", &SYNCD[..], &others[..])] {
            let mut names = BTreeSet::new();
            names_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(program).join("src"), &mut names);
            let known = points.iter().map(|(name, _)| *name).chain(others.iter().copied()).map(str::to_owned).collect();
            assert_eq!(names, known, "{program}");
        }
    }
}
