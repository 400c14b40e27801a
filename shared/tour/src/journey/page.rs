//! A page of another origin is shown, and may call view-ingest.

use testkit::http::Client;

use super::guide::Guide;

/// Fetches what a browser would, but for the views.
pub(super) async fn look(guide: &mut Guide) {
    guide.report.headline("A page that sends views itself");
    let page = guide.page();
    let origin = format!("http://{page}");
    let command = format!(
        "curl -si -X OPTIONS {} -H 'Origin: {origin}' -H 'Access-Control-Request-Method: POST' | grep -i ^access-control",
        guide.url("/posts/views-batch")
    );
    let answer = guide.step("Its origin may call view-ingest, which a browser asks first", &command).await;
    let allowed = answer.text().lines().find_map(|line| line.strip_prefix("access-control-allow-origin: ")).unwrap_or_default();
    guide.report.check("the origin that is allowed", &origin, allowed.trim());
    let client = Client::new(page);
    let shown = client.get("/").await;
    guide.report.check("the page", 200, shown.status);
    guide.report.check("whether it has the module", true, shown.body.contains("import { createViews } from './views.js'"));
    let module = client.get("/views.js").await;
    guide.report.check("the type of the module", "text/javascript; charset=utf-8", module.header("content-type"));
    let config = client.get("/config.json").await.json();
    guide.report.check("posts on the page", 3, config["posts"].as_array().map_or(0, Vec::len));
    let authorization = format!("Bearer {}", config["token"].as_str().unwrap_or_default());
    let ids: Vec<&str> = config["posts"].as_array().into_iter().flatten().filter_map(|post| post["id"].as_str()).collect();
    let path = format!("/posts/viewed?ids={}", ids.join(","));
    let headers = [("origin", origin.as_str()), ("authorization", authorization.as_str())];
    let viewed = Client::new(guide.ingest().public).request("GET", &path, &headers, "").await;
    let seen = ids.iter().map(|id| viewed.json()["viewed"][*id].to_string()).collect::<Vec<_>>().join(" ");
    guide.report.check("what its visitor has seen", "false false false", seen);
}
