//! The page that `deploy/try` shows.

use serde_json::json;

use super::stage::Stage;

pub(super) async fn check(stage: &mut Stage) {
    stage.report.headline("The page of deploy/try");
    stage.browser.open(&format!("http://{}/", stage.demo.address)).await;
    let script = "
        const first = () => document.querySelector('article.seen');
        for (const end = performance.now() + 15000; performance.now() < end && !first();) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        return [first().querySelector('h2').textContent, first().querySelector('b').textContent];";
    stage
        .check_script("its visitor has seen the first post, and everybody sees the count", &json!(["beacon", "2"]), script)
        .await;
}
