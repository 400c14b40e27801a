//! The Debian package: installed, configured, started as its units do, upgraded under load, removed and purged, in a
//! copy of this system.

mod contents;
mod service;
mod system;
mod unit;
mod upgrade;

use std::path::{Path, PathBuf};

use self::system::System;
use crate::report::Report;
use crate::stores::Stores;

/// The package's name.
const NAME: &str = "view-counter";

/// How the package is checked.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder with a copy of this system, which is changed
    #[arg(long, value_name = "FOLDER")]
    root: PathBuf,
    /// The package
    old: PathBuf,
    /// A later version of it
    new: PathBuf,
}

/// Checks the package and returns the exit status.
pub(crate) async fn run(options: &Options) -> u8 {
    let system = System::at(&options.root);
    let mut report = Report::new("package");
    let [old, new] = [&options.old, &options.new].map(|package| in_copy(&system, package));

    report.headline("Installed");
    report.holds("dpkg --install", system.succeeds(&["dpkg", "--install", &old]).await);
    contents::check(&mut report, &system).await;

    report.headline("Upgraded under load");
    let stores = Stores::start().await;
    upgrade::check(&mut report, &system, &stores, &new).await;

    report.headline("Removed and purged");
    remove(&mut report, &system).await;
    if !report.is_good() {
        report.show_logs(stores.logs());
    }
    report.verdict()
}

async fn remove(report: &mut Report, system: &System) {
    system.asked_of_systemctl();
    report.holds("dpkg --remove", system.succeeds(&["dpkg", "--remove", NAME]).await);
    let stop = system.asked_of_systemctl().into_iter().find(|asked| asked.starts_with("stop "));
    let units = "stop view-ingest.service view-ingest.socket view-syncd.service";
    report.check("what is stopped", units, stop.unwrap_or_default());
    let programs = ["/usr/bin/view-ingest", "/usr/bin/view-syncd", "/usr/lib/systemd/system/view-ingest.socket"];
    report.check("what is left of the programs", "", left(system, &programs));
    let settings = ["/etc/view-counter/view-ingest.env", "/etc/view-counter/view-syncd.env"];
    report.check("what is left of the settings", settings.join(" "), left(system, &settings));
    report.holds("dpkg --purge", system.succeeds(&["dpkg", "--purge", NAME]).await);
    let folders = ["/etc/view-counter", "/usr/share/doc/view-counter", "/usr/lib/sysusers.d/view-counter.conf"];
    report.check("what is left of anything", "", left(system, &folders));
    report.check(
        "what systemd still knows",
        "",
        system.output(&["find", "/etc/systemd", "/var/lib/systemd", "-name", "*view-*"]).await,
    );
}

/// Copies a package to where the copy's programs find it, and returns its path there.
fn in_copy(system: &System, package: &Path) -> String {
    let name = package.file_name().expect("a package is a file").to_string_lossy();
    let path = format!("/var/{name}");
    std::fs::copy(package, system.path(&path)).unwrap_or_else(|error| panic!("cannot copy {}: {error}", package.display()));
    path
}

/// Returns those files of a list that are there.
fn left(system: &System, files: &[&str]) -> String {
    files.iter().filter(|file| system.path(file).exists()).copied().collect::<Vec<_>>().join(" ")
}
