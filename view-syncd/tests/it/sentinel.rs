//! Redis behind sentinels: both programs find the primary, and find it again, whichever of the sentinels are there.

use testkit::{SOON, eventually, http::Client, process::Daemon, sentinel::ReplicatedRedis, traffic};

use crate::{
    site::{self, INGEST_WORKERS, Site, disconnect, view_ingest, view_syncd},
    support::SECRET,
};

const POST: &str = "7";

/// A view reaches the ledger.
async fn works(site: &Site, viewer: u64) {
    let client = Client::new(site.address);
    let view = traffic::view(&client, SECRET, POST, viewer).await;
    assert!(view.is_acknowledged(), "{view:?}");
    eventually("the view is in the ledger", SOON, async || site.ledger().await.contains(&(POST.to_owned(), viewer))).await;
}

#[tokio::test]
async fn both_programs_start_with_and_without_passwords() {
    let plain = ReplicatedRedis::builder();
    let locked = ReplicatedRedis::builder().password("sesame");
    let locked_twice = ReplicatedRedis::builder().password("sesame").sentinel_password("open");
    for redis in [plain, locked, locked_twice] {
        let site = Site::start(redis.start().await).await;
        site.post(POST).await;
        works(&site, 1).await;
        for daemon in [&site.ingest, &site.syncd] {
            let output = daemon.output().join("\n");
            assert!(!output.contains("sesame") && !output.contains("open"), "{output}");
        }
    }
}

/// Demands that a program says what is wrong, and that nothing it says holds the password.
async fn complains(daemon: &Daemon, complaint: &str) -> String {
    let line = daemon.wait_for_line(complaint).await;
    let output = daemon.output().join("\n");
    assert!(!output.contains("sesame"), "{output}");
    line
}

#[tokio::test]
async fn a_service_that_the_sentinels_do_not_know_is_named() {
    let redis = ReplicatedRedis::builder().password("sesame").start().await;
    let url = redis.url_of_service("veiws");
    // What is wrong with the tables would be told before.
    let (database, ..) = site::database(&url).await;
    let complaint = "the sentinels know no primary of the service";

    let ingest = view_ingest(&url).start();
    let line = complains(&ingest, complaint).await;
    assert!(line.contains("veiws"), "{line}");
    let client = Client::new(ingest.wait_for_listening("public").await);
    assert_eq!(client.get("/readyz").await.status, 503);
    let syncd = view_syncd(&url, &database).start();
    complains(&syncd, complaint).await;
    let sync = view_syncd(&url, &database).arg("sync").start();
    complains(&sync, complaint).await;
    assert_eq!(sync.wait_exit().await.code(), Some(1));
}

#[tokio::test]
async fn a_wrong_password_for_the_sentinels_is_told() {
    let redis = ReplicatedRedis::builder().sentinel_password("open").start().await;
    let ingest = view_ingest(&redis.url().replace("=open", "=sesame")).start();
    complains(&ingest, "no sentinel lets us in").await;
}

#[tokio::test]
async fn any_one_sentinel_is_enough_to_find_the_primary_again() {
    let site = Site::start(ReplicatedRedis::start().await).await;
    site.post(POST).await;
    let primary = site.redis.primary().await;
    for survivor in 0..3 {
        let others = || site.redis.sentinels().into_iter().enumerate().filter(move |(place, _)| *place != survivor);
        for (_, sentinel) in others() {
            sentinel.kill().await;
        }
        // The second time, the survivor is the one that was asked last.
        for time in 0..2 {
            let connections = [&site.ingest, &site.syncd].map(|daemon| daemon.lines_with("Redis connected").len());
            disconnect(primary, "normal").await;
            site.ingest.wait_for_nth_line(connections[0] + INGEST_WORKERS, "Redis connected").await;
            site.syncd.wait_for_nth_line(connections[1] + 1, "Redis connected").await;
            works(&site, 1 + survivor as u64 * 2 + time).await;
        }
        for (_, sentinel) in others() {
            sentinel.restart().await;
        }
    }
}

#[tokio::test]
async fn a_sentinel_that_hangs_is_passed_over() {
    for hanging in 0..3 {
        let redis = ReplicatedRedis::start().await;
        redis.sentinels()[hanging].pause();
        let site = Site::start(redis).await;
        site.post(POST).await;
        works(&site, 1).await;
    }
}
