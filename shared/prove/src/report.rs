//! The verdict, and for what is wrong the story of its pair.

use std::time::Duration;

use crate::{
    history::History,
    verify::{Found, Violation},
};

/// Violations that are printed; the file has all.
const PRINTED: usize = 20;

/// Prints what was done and what came of it. Where something is wrong, the history says more.
pub(crate) fn print(seed: u64, looks: u64, longest_wait: Duration, found: &Found, violations: &[Violation], history: &History) {
    println!();
    println!("seed:       {seed}");
    println!("{}", history.summary());
    println!(
        "ledger:     {} rows of {} posts; outbox, dead letters and ledger were audited {looks} times on the way",
        found.ledger.len(),
        found.posts.len()
    );
    println!("stale:      {} members of sets of posts that were created anew in the midst of everything", found.stale());
    println!("waits:      the application waited for the programs for {longest_wait:?} at the longest");
    if violations.is_empty() {
        println!(
            "verdict:    holds: acknowledged ⊆ outbox ∪ dead letters ∪ ledger all the time, acknowledged ⊆ ledger ⊆ attempted at the end, every count equals its rows, every live count the database"
        );
        return;
    }
    let text: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    history.append("violations.txt", &text);
    history.flush();
    tell_stories(violations, history);
    for violation in violations.iter().take(PRINTED) {
        println!("{violation}");
    }
    if violations.len() > PRINTED {
        println!("… and {} more", violations.len() - PRINTED);
    }
    println!("verdict:    REFUTED, {} violations. The history is in {}", violations.len(), history.folder().display());
}

/// Writes down which operations were about the pairs and posts that are wrong.
fn tell_stories(violations: &[Violation], history: &History) {
    let operations = std::fs::read_to_string(history.folder().join("operations.jsonl")).unwrap_or_default();
    let mut stories = String::new();
    for violation in violations.iter().take(PRINTED) {
        let Some((post, viewer)) = violation.about() else { continue };
        stories += &format!("{violation}\n");
        let about = |line: &&str| line.contains(post) && viewer.is_none_or(|viewer| line.contains(viewer));
        for line in operations.lines().filter(about) {
            stories += &format!("    {line}\n");
        }
    }
    history.append("stories.txt", &stories);
}
