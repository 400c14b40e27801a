//! Starts a Redis and a PostgreSQL server with an empty posts table for trying things by hand, prints how to reach them,
//! and removes them when it ends, by Ctrl-C or otherwise: `cargo run -p testkit`.

use testkit::postgres;
use testkit::posts::PostsTable;
use testkit::redis::RedisServer;

#[tokio::main]
async fn main() {
    let redis = RedisServer::start().await;
    // The shared server is a static, which no destructor cleans up: the tests of the kit rely on that being harmless.
    let server = postgres::shared().await;
    let database = server.database().await;
    PostsTable::default().create(&database.client().await).await;
    println!("REDIS_URL={}", redis.url());
    println!("DATABASE_URL={}", database.url());
    for (folder, pid) in [(redis.folder(), redis.pid()), (server.folder(), server.pid())] {
        println!("running folder={} pid={}", folder.display(), pid.unwrap_or_default());
    }
    // Waited for, and not left to the system: a program that was started in the background of a script would ignore it.
    tokio::signal::ctrl_c().await.expect("the system lets us wait for Ctrl-C");
}
