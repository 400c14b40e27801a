//! The Kubernetes manifests: whether they are valid, name what there is, and start the daemons.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use super::subject::{Subject, holds};
use crate::daemons::{self, ANY_PORT, Ingest, Syncd, program};
use crate::repository;
use crate::shell::{Environment, output, succeeds};
use crate::stores::Stores;

const FOLDER: &str = "deploy/kubernetes";
/// The versions that the manifests are for: the oldest that has all of it, and the newest.
const VERSIONS: [&str; 2] = ["1.25", "1.37"];
/// Where the manifests put the files of the secret.
const SECRETS: &str = "/etc/view-counter/";
/// Prints YAML documents as a JSON array.
const TO_JSON: &str = "import json, sys, yaml\n\
    json.dump([document for path in sys.argv[1:] for document in yaml.safe_load_all(open(path, encoding='utf-8'))], sys.stdout)";

pub(super) async fn check(subject: &mut Subject, stores: &Stores, role_url: &str, validator: &Path) {
    subject.report.headline(FOLDER);
    let files = files();
    for version in VERSIONS {
        let mut command = Command::new(validator);
        let outcome = succeeds(command.args(["--strict", "--quiet", "-k", version]).args(&files)).await;
        subject.report.holds(&format!("valid in Kubernetes {version}"), outcome);
    }
    let documents = match documents(&files).await {
        Ok(documents) => documents,
        Err(reason) => return subject.report.holds("YAML", Err(reason)),
    };
    check_names(subject, &documents);
    let secret = documents.iter().find(|document| document["kind"] == "Secret").expect("there is a secret");
    let given = secret["stringData"].as_object().into_iter().flatten().filter(|(_, value)| *value != "");
    subject.report.check("the secret leaves all of it to its reader", 0, given.count());
    for workload in documents.iter().filter(|document| is_workload(document)) {
        check_workload(subject, workload, secret).await;
    }
    start(subject, &documents, &stores.environment(role_url)).await;
}

fn files() -> Vec<String> {
    let folder = std::fs::read_dir(repository::path(FOLDER)).expect("the manifests are there");
    let mut files: Vec<_> = folder.flatten().map(|entry| entry.path().display().to_string()).collect();
    files.sort();
    files
}

async fn documents(files: &[String]) -> Result<Vec<Value>, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut python = Command::new("python3");
    // Debian's own Python is asked first, because it is the one that Debian's packages are for.
    let output = output(python.env("PATH", format!("/usr/bin:{path}")).args(["-c", TO_JSON]).args(files)).await;
    let read = serde_json::from_slice(&output.stdout);
    read.map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn is_workload(document: &Value) -> bool {
    document["spec"]["template"].is_object()
}

/// Whether what selects pods finds some, and what is named is there.
fn check_names(subject: &mut Subject, documents: &[Value]) {
    let has =
        |kind: &str, name: &Value| documents.iter().any(|other| other["kind"] == kind && other["metadata"]["name"] == *name);
    for document in documents {
        let what = format!("{} {}", text(&document["kind"]), text(&document["metadata"]["name"]));
        let spec = &document["spec"];
        let selectors = [&spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"], &spec["selector"]];
        if let Some(selector) = selectors.into_iter().find(|selector| selector.values_are_texts()) {
            let pods = documents
                .iter()
                .map(|other| &other["spec"]["template"])
                .filter(|pod| selects(selector, &pod["metadata"]["labels"]));
            let pods: Vec<_> = pods.collect();
            subject.report.check(&format!("{what} selects pods"), 1, pods.len());
            let served = spec["ports"].items().map(|port| &port["targetPort"]);
            let allowed = spec["ingress"].items().flat_map(|rule| rule["ports"].items()).map(|port| &port["port"]);
            for port in served.chain(allowed) {
                let is_there = pods.iter().any(|pod| ports(pod).any(|name| name == port));
                subject.report.holds(&format!("{what}: port {port}"), holds(is_there, || "no such port".to_owned()));
            }
        }
        let scaled = &spec["scaleTargetRef"];
        if scaled.is_object() {
            let is_there = has(&text(&scaled["kind"]), &scaled["name"]);
            subject.report.holds(&format!("{what} scales what there is"), holds(is_there, || scaled.to_string()));
        }
        let pod = &spec["template"]["spec"];
        let volumes = pod["volumes"].items().map(|volume| ("Secret", &volume["secret"]["secretName"]));
        let maps = pod["containers"].items().flat_map(|container| container["envFrom"].items());
        for (kind, name) in volumes.chain(maps.map(|map| ("ConfigMap", &map["configMapRef"]["name"]))) {
            subject.report.holds(&format!("{what}: {kind} {name}"), holds(has(kind, name), || "it is missing".to_owned()));
        }
    }
}

async fn check_workload(subject: &mut Subject, workload: &Value, secret: &Value) {
    let pod = &workload["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let name = text(&container["name"]);
    for setting in container["env"].items() {
        let known = subject.knows(&text(&container["command"][0]), &text(&setting["name"])).await;
        subject.report.holds(&format!("{name} knows {}", setting["name"]), known);
        if let Some(file) = setting["value"].as_str().and_then(|value| value.strip_prefix(SECRETS)) {
            let is_mounted = pod["spec"]["volumes"][0]["secret"]["items"].items().any(|item| item["path"] == file);
            let is_there = is_mounted && secret["stringData"][file].is_string();
            subject.report.holds(&format!("{name}: the file {file}"), holds(is_there, || "it is not in the secret".to_owned()));
        }
    }
    for probe in ["livenessProbe", "readinessProbe"] {
        let port = &container[probe]["httpGet"]["port"];
        let is_there = port.is_null() || ports(pod).any(|name| name == port);
        subject.report.holds(&format!("{name}: the port of its {probe}"), holds(is_there, || format!("{port} is missing")));
    }
    // What Pod Security calls restricted.
    let (of_pod, of_container) = (&pod["spec"]["securityContext"], &container["securityContext"]);
    let is_restricted = of_pod["runAsNonRoot"] == true
        && of_pod["seccompProfile"]["type"] == "RuntimeDefault"
        && of_container["allowPrivilegeEscalation"] == false
        && of_container["capabilities"]["drop"][0] == "ALL";
    subject.report.holds(&format!("{name} is restricted"), holds(is_restricted, || format!("{of_pod} {of_container}")));
    let image = text(&container["image"]);
    let version = image.rsplit_once(':').map_or("", |(_, version)| version);
    subject.report.check(&format!("{name}: the version of the image"), env!("CARGO_PKG_VERSION"), version);
    let stop = &container["lifecycle"]["preStop"]["exec"]["command"][1];
    let stop: u64 = stop.as_str().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let times = ["VIEW_INGEST_SHUTDOWN_DELAY", "VIEW_INGEST_SHUTDOWN_TIMEOUT", "SYNC_SHUTDOWN_TIMEOUT"];
    let times = times.iter().filter_map(|name| seconds(container, name));
    let (needed, grace) = (stop + times.sum::<u64>(), pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30));
    subject.report.holds(&format!("{name} may stop in peace"), holds(grace > needed, || format!("{grace} s for {needed} s")));
}

/// Starts both daemons with what the manifests say, but for addresses, the files of secrets and the form of the log, and
/// asks them what the probes ask.
async fn start(subject: &mut Subject, documents: &[Value], stores: &Environment) {
    let map = documents.iter().find(|document| document["kind"] == "ConfigMap").map_or(&Value::Null, |map| &map["data"]);
    for workload in documents.iter().filter(|document| document["kind"] == "Deployment") {
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        let name = text(&container["name"]);
        let mut environment = stores.clone();
        environment.extend(map.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))));
        let own = container["env"].items().map(|setting| (text(&setting["name"]), text(&setting["value"])));
        environment.extend(own.filter(|(name, _)| !name.ends_with("_FILE")));
        environment.remove("LOG_FORMAT");
        let builder = program(&subject.binaries, &name, &environment);
        // Kept until both have been asked.
        let (ingest, syncd);
        let (daemon, admin) = if name == "view-ingest" {
            ingest = Ingest::start(builder, ANY_PORT, ANY_PORT).await;
            (&ingest.daemon, ingest.admin)
        } else {
            syncd = Syncd::start(builder, ANY_PORT).await;
            (&syncd.daemon, syncd.admin)
        };
        for probe in ["livenessProbe", "readinessProbe"] {
            let path = text(&container[probe]["httpGet"]["path"]);
            let status = daemons::status(admin, "GET", &path, &[]).await;
            subject.report.check(&format!("{name}: {path} at its port admin"), 200, status);
        }
        daemon.kill9().await;
    }
}

/// Returns whether labels have all that is selected by.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().into_iter().flatten().all(|(name, value)| labels[name] == *value)
}

/// Returns the names of a pod's ports.
fn ports(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["containers"].items().flat_map(|container| container["ports"].items()).map(|port| &port["name"])
}

fn seconds(container: &Value, setting: &str) -> Option<u64> {
    let setting = container["env"].items().find(|other| other["name"] == setting)?;
    setting["value"].as_str()?.strip_suffix('s')?.parse().ok()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What may be missing in a document.
trait Optional {
    /// Returns what a list has; nothing where there is none.
    fn items(&self) -> impl Iterator<Item = &Value>;

    /// Returns whether it is an object of texts, as labels are.
    fn values_are_texts(&self) -> bool;
}

impl Optional for Value {
    fn items(&self) -> impl Iterator<Item = &Value> {
        self.as_array().into_iter().flatten()
    }

    fn values_are_texts(&self) -> bool {
        self.as_object().is_some_and(|object| object.values().all(Value::is_string))
    }
}
