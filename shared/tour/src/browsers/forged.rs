//! Pages that have their visitors' browsers send views along with the visitors' cookies. None of them counts.

use serde_json::json;
use testkit::{SOON, within};

use super::stage::Stage;

/// What is shown to whoever sends a form by a page that may not.
const NOT_ALLOWED: &str = "Запрос с этого сайта не разрешен";
const SHOWN: &str = "return document.body.textContent;";

pub(super) async fn check(stage: &mut Stage) {
    stage.report.headline("Forged pages count nothing");
    stage.open("app.site.test", "/").await;
    stage.set_cookie("victim").await;
    let url = stage.views_url();
    let before = stage.refused_origins().await;
    // To the browser the first is of the same site, so the cookie comes along with everything that it sends.
    for (host, answer) in [("other.site.test", NOT_ALLOWED), ("evil.test", NOT_ALLOWED)] {
        stage.open(host, "/").await;
        let script = format!(
            "const init = (post) => ({{ method: 'POST', credentials: 'include', body: JSON.stringify({{ postId: post }}) }});
            const simple = await fetch('{url}/posts/view', {{ ...init('forged-fetch'), mode: 'no-cors' }});
            const isSent = navigator.sendBeacon('{url}/posts/view', JSON.stringify({{ postId: 'forged-beacon' }}));
            const json = fetch('{url}/posts/view', {{ ...init('forged-json'), headers: {{ 'content-type': 'application/json' }} }});
            return [simple.type, isSent, await json.catch((error) => error.name)];"
        );
        stage.check_script(&format!("what {host} learns"), &json!(["opaque", true, "TypeError"]), &script).await;
        stage.open(host, "/form").await;
        stage.browser.run("document.forms[0].submit();").await;
        let answered =
            within(SOON, async || stage.browser.run(SHOWN).await.as_str().is_some_and(|text| text.contains(answer))).await;
        stage.report.holds(&format!("a form of {host} is answered: {answer}"), answered);
    }
    let refused = stage.refused_origins().await - before;
    let outcome = if refused >= 3 { Ok(()) } else { Err(format!("{refused}: the cookie did not come along")) };
    stage.report.holds("the cookie has come along, and view-ingest has refused it", outcome);
    for post in ["forged-fetch", "forged-beacon", "forged-form", "forged-json"] {
        stage.check_count(&format!("{post} counts nothing"), post, 0).await;
    }
}
