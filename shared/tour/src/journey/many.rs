//! Many posts in one request.

use super::guide::{Guide, authorization};
use super::people::{NOBODYS, POST, SECOND, THIRD};
use crate::shell::field;

pub(super) async fn view(guide: &mut Guide) {
    guide.report.headline("Many posts in one request");
    let command = format!(
        "curl -s {}{} -H 'Content-Type: application/json' -d '{{\"postIds\":[\"{POST}\",\"{SECOND}\",\"{THIRD}\",\"{NOBODYS}\"]}}'",
        guide.url("/posts/views-batch"),
        authorization("VIEWER"),
    );
    let answer = guide.step("A batch: one post known already, two new ones, and one that does not exist", &command).await;
    guide.report.check("a batch: processedCount", 2, answer.field("processedCount"));
    let results = answer.json();
    let verdicts: Vec<String> = results["results"].as_array().into_iter().flatten().map(|one| field(one, "status")).collect();
    guide.report.check("a batch: verdicts", "duplicate counted counted not_found", verdicts.join(" "));
    let command = format!("curl -s '{}?ids={POST},{SECOND},{THIRD}'", guide.url("/posts/views"));
    let answer = guide.step("And their counts in one request", &command).await;
    let counts = [POST, SECOND, THIRD].map(|post| field(&answer.json()["views"], post));
    guide.report.check("counts of many", "43 1 1", counts.join(" "));
}
