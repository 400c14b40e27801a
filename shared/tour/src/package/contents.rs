//! What is there after the installation, and that nothing runs yet.

use super::service::Service;
use super::system::System;
use crate::report::Report;

const SERVICES: [&str; 2] = ["view-ingest", "view-syncd"];
/// The most that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "--threshold=15";
/// Completes a word in bash, as `view-syncd dead l` with a tab behind it.
const COMPLETE: &str = ". /usr/share/bash-completion/completions/view-syncd; COMP_WORDS=(view-syncd dead l); COMP_CWORD=2; \
    \"$(complete -p view-syncd | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\" view-syncd l dead; echo \"${COMPREPLY[*]}\"";
/// Wrong settings.
const EXIT_USAGE: Option<i32> = Some(64);

pub(super) async fn check(report: &mut Report, system: &System) {
    for (path, rights) in [
        ("/etc/view-counter", "root view-counter 750"),
        ("/etc/view-counter/view-ingest.env", "root view-counter 640"),
        ("/etc/view-counter/view-syncd.env", "root view-counter 640"),
        ("/usr/bin/view-ingest", "root root 755"),
        ("/usr/lib/systemd/system/view-ingest.socket", "root root 644"),
    ] {
        report.check(path, rights, system.rights(path).await);
    }
    report.check("the user logs in by", "/usr/sbin/nologin", shell_of_user(system).await);
    for page in ["view-ingest", "view-syncd", "view-syncd-migrate", "view-syncd-dead-list"] {
        let page = format!("/usr/share/man/man8/{page}.8.gz");
        report.holds(&page, system.succeeds(&["gzip", "-t", &page]).await);
    }
    report.check("bash completes view-syncd dead l", "list", system.output(&["bash", "-c", COMPLETE]).await);

    let units: Vec<String> = [".service", ".socket"]
        .iter()
        .flat_map(|kind| SERVICES.map(|service| format!("/usr/lib/systemd/system/{service}{kind}")))
        .filter(|unit| system.path(unit).exists())
        .collect();
    report.check("units", 3, units.len());
    let verify: Vec<&str> = ["systemd-analyze", "verify"].into_iter().chain(units.iter().map(String::as_str)).collect();
    report.holds("systemd-analyze verify", system.succeeds(&verify).await);
    for service in SERVICES {
        let file = format!("/usr/lib/systemd/system/{service}.service");
        let analysis = ["systemd-analyze", "security", "--no-pager", "--offline=true", EXPOSURE, &file];
        report.holds(&format!("the exposure of {service} is at most 1.5"), system.succeeds(&analysis).await);
        // Without its settings it would only fail.
        let exit = Service::of(system, service).start(system, None).wait_exit().await;
        report.check(&format!("{service} without settings"), format!("{EXIT_USAGE:?}"), format!("{:?}", exit.code()));
    }
    let asked = system.asked_of_systemctl();
    let started: Vec<_> = asked.iter().filter(|asked| asked.contains("start ")).collect();
    report.check("what the installation has started", "", started.into_iter().cloned().collect::<Vec<_>>().join("; "));
    let enabled = system.output(&["find", "/etc/systemd/system", "-name", "view-*"]).await;
    report.check("what the installation has enabled", "", enabled);
}

async fn shell_of_user(system: &System) -> String {
    let user = system.output(&["getent", "passwd", "view-counter"]).await;
    user.rsplit(':').next().unwrap_or_default().to_owned()
}
