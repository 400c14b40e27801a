//! nginx. Its sample stands in the block `http` of a configuration that is the system's; here, the rest needs no rights.

use std::path::Path;

use super::sample::{Place, replaced};
use crate::process::{Daemon, DaemonBuilder};
use crate::scratch::Scratch;

pub(super) const SAMPLE: &str = "deploy/nginx.conf";
const SAMPLE_LOG: &str = "/var/log/nginx/view-counter.log";

pub(super) fn check(text: &str, folder: &Scratch) -> Vec<String> {
    let log = folder.path().join("access.log").display().to_string();
    let mut arguments = arguments(&text.replace(SAMPLE_LOG, &log), folder);
    arguments.push("-t".to_owned());
    arguments
}

pub(super) fn start(program: &Path, place: &Place, log: &Path, folder: &Scratch) -> DaemonBuilder {
    let listen = place.address_v6.map_or_else(|| place.address.to_string(), |v6| format!("{};\n    listen {v6}", place.address));
    let text = replaced(
        SAMPLE,
        &[
            ("    listen ", "8080", listen),
            ("access_log ", SAMPLE_LOG, log.display().to_string()),
            ("server ", "127.0.0.1:3001", place.ingest[0].to_string()),
            ("server ", "127.0.0.1:3011", place.ingest[1].to_string()),
            ("server ", "127.0.0.1:3002", place.syncd.to_string()),
        ],
    );
    Daemon::builder(program).args(arguments(&text, folder))
}

/// The last server that was asked is the one whose answer the client got.
pub(super) fn mark(place: &Place, server: usize) -> String {
    format!("{} status=", place.ingest[server])
}

/// Writes the configuration, and returns how nginx is told of it. Everything that nginx writes goes into the folder, and
/// it is one process, which ends with the test.
fn arguments(text: &str, folder: &Scratch) -> Vec<String> {
    let sample = folder.write("view-counter.conf", text).display().to_string();
    let path = folder.path().display();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("    {name}_temp_path {path}/{name};\n"));
    let whole = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log stderr;\nevents {{\n    worker_connections 1000;\n}}\n\
         http {{\n{}    include {sample};\n}}\n",
        temporary.concat()
    );
    let file = folder.write("nginx.conf", whole).display().to_string();
    ["-e", "stderr", "-c", &file].map(str::to_owned).to_vec()
}
