//! Sample configurations, with other addresses than those in the repository.

use std::net::SocketAddr;

use crate::made;

/// Where a load balancer listens, and what it stands in front of.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its own address.
    pub address: SocketAddr,
    /// Its own address over IPv6, where there is one.
    pub address_v6: Option<SocketAddr>,
    /// The view-ingest.
    pub ingest: [SocketAddr; 2],
    /// The admin listener of view-syncd.
    pub syncd: SocketAddr,
}

/// Returns a sample in which words have been replaced. What stands before a word in the sample, and stays, distinguishes
/// it from others and from those that take its place.
///
/// # Panics
/// When the sample does not have it exactly once.
pub(super) fn replaced(sample: &str, words: &[(&str, &str, String)]) -> String {
    let path = made::path(sample);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    words.iter().fold(text, |text, (before, word, actual)| {
        let word = format!("{before}{word}");
        assert_eq!(text.matches(&word).count(), 1, "{sample} has {word:?} once");
        text.replace(&word, &format!("{before}{actual}"))
    })
}
