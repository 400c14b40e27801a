//! What both programs export: as Prometheus wants it, as docs/metrics.md lists it, and everything that is named
//! anywhere.

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
};

use testkit::{
    SOON,
    configuration::with_section,
    eventually,
    exposition::{Exposition, Family},
    http::Client,
    issuer::Issuer,
    process::Daemon,
    prometheus::promtool,
    scratch::Scratch,
    tokens::SigningKey,
};

use crate::support::World;

/// Set to write docs/metrics.md anew.
const UPDATE: &str = "UPDATE_METRICS";
/// Labels whose values are not listed: they differ from version to version, or come with the first request.
const OPEN_LABELS: [(&str, &str); 2] = [("_build_info", "version"), ("_http_requests_total", "status")];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Both programs, with everything on that has metrics of its own.
struct Programs {
    _world: World,
    _issuer: Issuer,
    _daemons: [Daemon; 2],
    ingest: Client,
    syncd: Client,
}

impl Programs {
    async fn start() -> Self {
        let world = World::new().await;
        let issuer = Issuer::start(&[("1", &SigningKey::eddsa())]).await;
        let keys = |program: testkit::process::DaemonBuilder| program.env("JWT_SECRET", "").env("JWT_JWKS_URL", issuer.url());
        let (ingest, syncd) = (keys(world.ingest_program()).start(), keys(world.daemon()).start());
        let [ingest_client, syncd_client] =
            [Client::new(ingest.wait_for_listening("admin").await), Client::new(syncd.wait_for_listening("admin").await)];
        for client in [&ingest_client, &syncd_client] {
            eventually("it is ready", SOON, async || client.get("/readyz").await.status == 200).await;
        }
        Self { _world: world, _issuer: issuer, _daemons: [ingest, syncd], ingest: ingest_client, syncd: syncd_client }
    }
}

#[tokio::test]
async fn metrics_are_as_prometheus_wants_them_and_as_the_documents_have_them() {
    let programs = Programs::start().await;
    let mut texts = Vec::new();
    for client in [&programs.ingest, &programs.syncd] {
        let answer = client.get("/metrics").await;
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let scratch = Scratch::new();
        let file = scratch.write("metrics", &answer.body);
        assert_eq!(promtool(&["check", "metrics"], Some(&file)).unwrap_or_else(|said| said), "", "promtool check metrics");
        let accept = [("accept", "application/openmetrics-text; version=1.0.0, text/plain; q=0.5")];
        let open_metrics = client.request("GET", "/metrics", &accept, "").await;
        assert!(
            open_metrics.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"),
            "{open_metrics:?}"
        );
        assert!(open_metrics.body.ends_with("# EOF\n"));
        texts.push(answer.body);
    }
    let [ingest, syncd] = [Exposition::parse(&texts[0]), Exposition::parse(&texts[1])];
    assert_documented(&ingest, &syncd);
    assert_named_are_exported(&[ingest, syncd]);
}

/// Demands that docs/metrics.md lists all metrics, or writes it where the environment asks for that.
fn assert_documented(ingest: &Exposition, syncd: &Exposition) {
    let file = repository().join("docs/metrics.md");
    let text = read(&file);
    let own = |exposition: &Exposition, prefix: &str| table(exposition, |name| name.starts_with(prefix));
    let both = table(ingest, |name| !name.starts_with("view_ingest_"));
    assert_eq!(both, table(syncd, |name| !name.starts_with("view_syncd_")), "what is of no program is of both");
    let made = with_section(&text, "view-ingest", &own(ingest, "view_ingest_"));
    let made = with_section(&made, "view-syncd", &own(syncd, "view_syncd_"));
    let made = with_section(&made, "both", &both);
    if made == text {
        return;
    }
    assert!(
        std::env::var_os(UPDATE).is_some(),
        "docs/metrics.md is not what is exported. Make it anew:\n  {UPDATE}=1 cargo test -p view-syncd --test it metrics::"
    );
    std::fs::write(&file, made).unwrap();
}

fn table(exposition: &Exposition, wanted: impl Fn(&str) -> bool) -> String {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|".to_owned();
    for (name, Family { kind, help, labels }) in exposition.families.iter().filter(|(name, _)| wanted(name)) {
        let in_words = |(label, values): (&String, &BTreeSet<String>)| {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            let is_open = OPEN_LABELS.iter().any(|(of, open)| name.ends_with(of) && label == open);
            if is_open { format!("`{label}`") } else { format!("`{label}`: {}", values.join(", ")) }
        };
        let labels: Vec<String> = labels.iter().map(in_words).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join("; ") };
        write!(table, "\n| `{name}` | {kind} | {labels} | {} |", help.trim_end_matches('.').replace('|', "\\|")).unwrap();
    }
    table
}

/// Demands that each metric is exported that is named in the rules, their tests, the dashboard, and the documents.
fn assert_named_are_exported(expositions: &[Exposition]) {
    let exported: BTreeSet<&str> = expositions
        .iter()
        .flat_map(|exposition| exposition.series.iter().chain(exposition.families.keys()).map(String::as_str))
        .collect();
    let mut files = vec![repository().join("README.md"), repository().join("ARCHITECTURE.md")];
    for folder in ["deploy/prometheus", "docs", "docs/adr"] {
        let entries = std::fs::read_dir(repository().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    let mut number = 0;
    for file in files {
        let text = read(&file);
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let prefixes = ["view_ingest_", "view_syncd_", "process_"];
        for name in words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len())) {
            assert!(exported.contains(name), "{} names {name}, which nobody exports", file.display());
            number += 1;
        }
    }
    assert!(number > 200, "{number} names were found");
}

#[test]
fn promtool_takes_the_configuration_the_rules_and_their_tests() {
    let folder = repository().join("deploy/prometheus");
    let file = |name: &str| folder.join(name).display().to_string();
    for arguments in [
        ["check", "config", &file("prometheus.yml")],
        ["check", "rules", &file("view-counter.rules.yml")],
        ["test", "rules", &file("view-counter.test.yml")],
    ] {
        promtool(&arguments, None).unwrap_or_else(|said| panic!("promtool {arguments:?}:\n{said}"));
    }
}

#[test]
fn each_alert_has_a_test_a_severity_and_an_entry_in_the_runbook() {
    let folder = repository().join("deploy/prometheus");
    let (rules, tests) = (read(&folder.join("view-counter.rules.yml")), read(&folder.join("view-counter.test.yml")));
    let runbook = read(&repository().join("docs/runbook.md"));
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    let mut entries: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## View")).collect();
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        assert!(alert.contains("severity: warning") || alert.contains("severity: critical"), "{name} has no severity");
        let link = format!("/docs/runbook.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&link), "{name} has no runbook_url that ends with {link}");
        assert!(entries.remove(name.strip_prefix("View").unwrap()), "{name} has no entry in docs/runbook.md");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
    assert!(entries.is_empty(), "entries of no alert: {entries:?}");
    assert!(alerts.len() >= 12, "{} alerts", alerts.len());
}
