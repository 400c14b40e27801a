//! HAProxy.

use std::path::Path;

use super::sample::{Place, replaced};
use crate::process::{Daemon, DaemonBuilder};
use crate::scratch::Scratch;

pub(super) const SAMPLE: &str = "deploy/haproxy.cfg";
const FILE: &str = "haproxy.cfg";

pub(super) fn check(text: &str, folder: &Scratch) -> Vec<String> {
    let file = folder.write(FILE, text);
    vec!["-c".to_owned(), "-f".to_owned(), file.display().to_string()]
}

/// It logs requests to its standard output. They are many tests' worth of lines, which a file takes in without being
/// looked at.
pub(super) fn start(program: &Path, place: &Place, log: &Path, folder: &Scratch) -> DaemonBuilder {
    let bind = place.address_v6.map_or_else(|| place.address.to_string(), |v6| format!("{},{v6}", place.address));
    let text = replaced(
        SAMPLE,
        &[
            ("bind ", ":8080", bind),
            ("server ingest1 ", "127.0.0.1:3001", place.ingest[0].to_string()),
            ("server ingest2 ", "127.0.0.1:3011", place.ingest[1].to_string()),
            ("server syncd ", "127.0.0.1:3002", place.syncd.to_string()),
        ],
    );
    let file = folder.write(FILE, text);
    Daemon::builder("sh").args(["-c", r#"exec "$0" -db -f "$1" >"$2""#]).args([program, &file, log])
}

pub(super) fn mark(server: usize) -> String {
    format!(" ingest/ingest{} ", server + 1)
}
