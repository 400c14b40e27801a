//! The module for pages, in a page.

use serde_json::json;

use super::stage::Stage;

const SITE: &str = "app.site.test";
/// How often a page looks whether something has come, and for how long.
const WAIT_FOR: &str = "
    const until = async (holds) => {
      for (const end = performance.now() + 15000; performance.now() < end && !holds();) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const text = (id) => document.getElementById(id).textContent;";

pub(super) async fn check(stage: &mut Stage) {
    stage.report.headline("The module sees what is seen");
    stage.open(SITE, "/posts").await;
    let token = stage.stores.token("mia");
    stage.browser.run(&format!("start('{token}');")).await;
    let script = format!("{WAIT_FOR} await until(() => text('short') && text('tall')); return [text('short'), text('tall')];");
    stage.check_script("a short post and one that is taller than the screen", &json!(["1", "1"]), &script).await;
    stage.check_count("what is below the screen is not counted", "below", 0).await;
    let script = format!("scrollTo(0, 10000); {WAIT_FOR} await until(() => text('below')); return text('below');");
    stage.check_script("until it is scrolled to", &json!("1"), &script).await;
    stage
        .check_script("who has seen it", &json!({ "below": true, "hidden": false }), "return views.viewed(['below', 'hidden']);")
        .await;
    while_closing(stage).await;
    with_a_cookie(stage).await;
    through_an_outage(stage).await;
}

async fn while_closing(stage: &mut Stage) {
    // The token takes its time, and is there when the page has none left.
    let script = format!(
        "const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
        const views = createViews({{ url: VIEWS, token: async () => {{ await wait(100); return '{}'; }}, flushMs: 1e9 }});
        ['module-closing-1', 'module-closing-2'].forEach(views.seen);
        await wait(200);",
        stage.stores.token("mia")
    );
    stage.browser.run_and_close(&stage.url(SITE, "/"), &script).await;
    for post in ["module-closing-1", "module-closing-2"] {
        stage.check_count(&format!("{post} is counted when the page is closed"), post, 1).await;
    }
    let script = format!(
        "createViews({{ url: VIEWS, token: '{}', flushMs: 0 }}).seen('module-under-way');
        await new Promise((resolve) => setTimeout(resolve, 200));",
        stage.stores.token("mia")
    );
    stage.pause(true);
    stage.browser.run_and_close(&stage.url(SITE, "/"), &script).await;
    stage.pause(false);
    stage.check_count("a batch that is under way then is counted, too", "module-under-way", 1).await;
}

async fn with_a_cookie(stage: &mut Stage) {
    stage.set_cookie("mia").await;
    // A policy by which forms and beacons have no origin in some browsers.
    let script = "
        document.head.append(Object.assign(document.createElement('meta'), { name: 'referrer', content: 'no-referrer' }));
        createViews({ url: VIEWS, cookies: true, flushMs: 1e9 }).seen('module-cookie');";
    stage.browser.run_and_close(&stage.url(SITE, "/"), script).await;
    stage.check_count("the same with a cookie", "module-cookie", 1).await;
}

async fn through_an_outage(stage: &mut Stage) {
    stage.open(SITE, "/").await;
    let script = format!(
        "window.errors = [];
        window.views = createViews({{ url: VIEWS, token: '{}', flushMs: 0, onError: (error) => errors.push(error.message) }});",
        stage.stores.token("mia")
    );
    stage.browser.run(&script).await;
    stage.browser.set_offline(true).await;
    let script = format!("{WAIT_FOR} views.seen('module-offline'); await until(() => errors.length); return errors.length > 0;");
    stage.check_script("a page that is offline notices", &json!(true), &script).await;
    stage.check_count("and is not counted", "module-offline", 0).await;
    stage.browser.set_offline(false).await;
    stage.check_count("until it is back", "module-offline", 1).await;
}
