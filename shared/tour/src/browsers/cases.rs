//! Requests that a page makes by itself: with a token, while it is being closed, with a cookie.

use serde_json::json;

use super::stage::Stage;

const SITE: &str = "app.site.test";

pub(super) async fn check(stage: &mut Stage) {
    with_a_token(stage).await;
    // Nobody has asked yet whether batches may be sent, so the browser does so now, and is answered when the page is gone.
    while_closing(stage).await;
    refusals(stage).await;
    with_a_cookie(stage).await;
    of_another_site(stage).await;
}

/// Returns a script that sends a view.
fn view(views_url: &str, token: &str, post: &str) -> String {
    format!(
        "const answer = await fetch('{views_url}/posts/view', {{
          method: 'POST', headers: {{ authorization: 'Bearer {token}', 'content-type': 'application/json' }},
          body: JSON.stringify({{ postId: '{post}' }}),
        }});
        const body = await answer.json();"
    )
}

async fn with_a_token(stage: &mut Stage) {
    stage.report.headline("A page of another origin sends views with a token");
    stage.open(SITE, "/").await;
    let (url, token) = (stage.views_url(), stage.stores.token("ann"));
    let script = format!("{} return [answer.status, body.status, body.viewsCount];", view(&url, &token, "single"));
    stage.check_script("a single view", &json!([200, "counted", 1]), &script).await;
    stage.check_script("the same again", &json!([200, "duplicate", 1]), &script).await;
    let script = format!("return (await (await fetch('{url}/posts/views?ids=single,beacon')).json()).views;");
    stage.check_script("counts without a token", &json!({ "single": 1, "beacon": 0 }), &script).await;
    let script = format!(
        "const init = {{ headers: {{ authorization: 'Bearer {token}' }} }};
        return (await (await fetch('{url}/posts/viewed?ids=single,beacon,unknown', init)).json()).viewed;"
    );
    stage.check_script("what was seen", &json!({ "single": true, "beacon": false }), &script).await;
}

async fn refusals(stage: &mut Stage) {
    let url = stage.views_url();
    let ann = stage.stores.token("ann");
    for (what, token, post, expected) in [
        ("a page reads that its token is none", "rubbish", "single", json!([401, "Недействительный токен"])),
        ("a page reads that there is no such post", &ann, "unknown", json!([404, "Пост не найден"])),
        ("a page reads that an id is none", &ann, "a b", json!([400, "Некорректный идентификатор поста"])),
    ] {
        let script = format!("{} return [answer.status, body.message];", view(&url, token, post));
        stage.check_script(what, &expected, &script).await;
    }
    let greedy = stage.stores.token("greedy");
    let script = format!(
        "let answer;
        for (let number = 0; number < 4; number++) {{
          const postIds = Array.from({{ length: 100 }}, (_, place) => number * 100 + place);
          answer = await fetch('{url}/posts/views-batch', {{
            method: 'POST', headers: {{ authorization: 'Bearer {greedy}' }}, body: JSON.stringify({{ postIds }}),
          }});
        }}
        return [answer.status, Number(answer.headers.get('retry-after')) > 0];"
    );
    stage.check_script("a page reads when to come again", &json!([429, true]), &script).await;
}

async fn while_closing(stage: &mut Stage) {
    stage.report.headline("A page sends a batch while it is being closed");
    let (url, token) = (stage.views_url(), stage.stores.token("ann"));
    let script = format!(
        "addEventListener('pagehide', () => fetch('{url}/posts/views-batch', {{
          method: 'POST', keepalive: true, headers: {{ authorization: 'Bearer {token}' }},
          body: JSON.stringify({{ postIds: ['closing-1', 'closing-2'] }}),
        }}));"
    );
    stage.pause(true);
    stage.browser.run_and_close(&stage.url(SITE, "/"), &script).await;
    stage.pause(false);
    for post in ["closing-1", "closing-2"] {
        stage.check_count(&format!("{post} is counted"), post, 1).await;
    }
}

async fn with_a_cookie(stage: &mut Stage) {
    stage.report.headline("A page sends a beacon, with a token in a cookie");
    stage.set_cookie("ann").await;
    let url = stage.views_url();
    let script = format!(
        "addEventListener('pagehide', () => navigator.sendBeacon('{url}/posts/view', JSON.stringify({{ postId: 'beacon' }})));"
    );
    stage.browser.run_and_close(&stage.url(SITE, "/"), &script).await;
    stage.check_count("the beacon is counted", "beacon", 1).await;
}

async fn of_another_site(stage: &mut Stage) {
    stage.report.headline("A page of a site that is not named sends a view with a token");
    let (url, token) = (stage.views_url(), stage.stores.token("ann"));
    for host in ["evil.test", "other.site.test"] {
        stage.open(host, "/").await;
        let script =
            format!("try {{ {} return answer.status; }} catch (error) {{ return error.name; }}", view(&url, &token, "refused"));
        stage.check_script(&format!("the browser does not let {host} ask"), &json!("TypeError"), &script).await;
    }
    stage.check_count("nothing is counted", "refused", 0).await;
}
