//! Everything stays up, for people to play with.

use std::time::Duration;

use tokio::time::sleep;

use super::guide::Guide;

/// How often it is looked whether everything runs.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Waits until something ends that should have stayed up, which is a failure. Ctrl-C ends it from outside.
pub(super) async fn until_something_ends(guide: &Guide) -> u8 {
    invite(guide);
    let gone = loop {
        let running = [
            ("view-ingest", guide.ingest().daemon.is_running()),
            ("view-syncd", guide.syncd().daemon.is_running()),
            ("Redis", guide.stores.redis.is_running()),
            ("PostgreSQL", guide.stores.postgres.is_running()),
        ];
        if let Some((name, _)) = running.iter().find(|(_, is_running)| !is_running) {
            break *name;
        }
        sleep(LOOK_AGAIN).await;
    };
    guide.show_logs();
    eprintln!("try: {gone} has stopped, and should have stayed up");
    1
}

fn invite(guide: &Guide) {
    guide.report.headline("Everything stays up until Ctrl-C");
    let [ingest, syncd] = ["view-ingest", "view-syncd"].map(|name| guide.log_file(name).display().to_string());
    let rows = [
        ("the variables of all commands", guide.source()),
        ("a page with all posts", format!("http://{}", guide.page())),
        ("counts as they change", guide.redis_cli("SUBSCRIBE views:updates")),
        ("view-ingest's numbers", format!("curl -s http://{}/metrics", guide.ingest().admin)),
        ("view-syncd's numbers", format!("curl -s http://{}/metrics", guide.syncd().admin)),
        ("logs", format!("tail -f {ingest} {syncd}")),
    ];
    for (what, command) in rows {
        guide.report.say(format!("{what:<32}{command}"));
    }
}
