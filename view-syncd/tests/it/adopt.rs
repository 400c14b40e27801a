//! `view-syncd adopt`: the views of an older system, from arrays and from tables, become the ledger's.

mod beside;
mod old_writer;
mod sources;

use testkit::{
    http::Client,
    postgres,
    posts::{IdType, PostsTable},
    process::Daemon,
    redis::RedisServer,
    tokens::hs256,
};

use crate::support::{SECRET, World};

/// A posts table as the origin has it, with a count: `"Post"(id text, "authorId" text, views text[])`.
async fn origin() -> World {
    let posts =
        PostsTable { table: "Post".to_owned(), author_column: "authorId".to_owned(), ..PostsTable::with_ids(IdType::Text) };
    let world = World::with_stores(RedisServer::start().await, postgres::shared().await.database().await, posts).await;
    world.sql.batch_execute("alter table \"Post\" add column views text[]").await.unwrap();
    world
}

/// Runs `adopt`, and returns its exit status and its last line.
async fn adopt(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let adopt = world.command("adopt").args(arguments).start();
    let status = adopt.wait_exit().await.code();
    (status, last_line(&adopt))
}

fn last_line(adopt: &Daemon) -> String {
    let lines = adopt.output();
    let summary = lines.iter().rev().find(|line| line.starts_with("posts ") || line.starts_with('{'));
    summary.cloned().unwrap_or_else(|| lines.join("\n"))
}

/// A post's count, its base and its rows in the ledger.
async fn counted(world: &World, post: &str) -> [i64; 3] {
    let table = format!("\"{}\"", world.posts.table);
    let statement = format!(
        "select views_count::bigint, coalesce((select base from post_views_base where post_id = p.id), 0),
          (select count(*) from post_views where post_id = p.id) from {table} p where id::text = $1"
    );
    let row = world.sql.query_one(&statement, &[&post]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

/// Has a viewer see a post, and returns the verdict and the count.
async fn view(client: &Client, post: &str, viewer: &str) -> (String, i64) {
    let token = format!("Bearer {}", hs256(SECRET, viewer));
    let body = format!("{{\"postId\":\"{post}\"}}");
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    let answer = client.request("POST", "/posts/view", &headers, body).await.json();
    (answer["status"].as_str().unwrap_or("?").to_owned(), answer["viewsCount"].as_i64().unwrap_or(-1))
}
