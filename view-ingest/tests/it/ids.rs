//! The application's tables: types of ids, names of tables and columns.

use testkit::posts::{IdType, PostsTable};

use crate::support::World;

/// Counts one view in a table, finds the author, and misses what is not there.
async fn assert_works(posts: PostsTable) {
    let id_type = posts.id_type;
    let world = World::with_posts(posts).await;
    let [post, author, viewer, unknown] = match id_type {
        IdType::Uuid => [
            "550e8400-e29b-41d4-a716-446655440000",
            "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            "7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "550e8400-e29b-41d4-a716-446655440001",
        ],
        IdType::Bigint => ["7", "1001", "2002", "8"],
        IdType::Text | IdType::Varchar => ["Post_7-a", "user|1", "user|2", "post_7-a"],
    };
    world.post_of(post, author).await;
    let app = world.ingest().await;
    assert_eq!(app.verdict(viewer, post).await, "counted 1", "{id_type:?}");
    assert_eq!(app.verdict(author, post).await, "own 1", "{id_type:?}");
    assert_eq!(app.verdict(viewer, unknown).await, "404", "{id_type:?}");
    assert_eq!(world.outbox().await, [(post.to_owned(), viewer.to_owned())]);
}

#[tokio::test]
async fn every_type_of_id_works() {
    for id_type in IdType::ALL {
        assert_works(PostsTable::with_ids(id_type)).await;
    }
}

#[tokio::test]
async fn names_with_upper_case_and_odd_characters_work() {
    let camel = PostsTable {
        table: "Post".to_owned(),
        id_column: "postId".to_owned(),
        author_column: "authorId".to_owned(),
        count_column: "views; drop table".to_owned(),
        ..PostsTable::default()
    };
    assert_works(camel.clone()).await;
    assert_works(PostsTable { table: "My Blog.order".to_owned(), count_type: "bigint".to_owned(), ..camel }).await;
}

#[tokio::test]
async fn names_may_be_given_in_quotes() {
    let posts = PostsTable {
        table: "Post".to_owned(),
        author_column: "authorId".to_owned(),
        count_column: "viewsCount".to_owned(),
        ..PostsTable::with_ids(IdType::Text)
    };
    let world = World::with_posts(posts).await;
    world.post_of("p", "ann").await;
    let quoted = [("POSTS_TABLE", r#""Post""#), ("AUTHOR_COLUMN", r#""authorId""#), ("COUNT_COLUMN", r#""viewsCount""#)];
    assert_eq!(world.ingest_with(&quoted).await.verdict("ann", "p").await, "own 0");
}

#[tokio::test]
async fn an_id_that_the_columns_type_cannot_hold_is_not_found() {
    let numbers = World::with_posts(PostsTable::with_ids(IdType::Bigint)).await;
    numbers.post_of("7", None).await;
    let app = numbers.ingest().await;
    let posts = ["7", "007", "-0", "abc", "7_0", "99999999999999999999", "0x7", "550e8400-e29b-41d4-a716-446655440000"];
    let body = app.batch("1", &posts).await.json();
    assert_eq!(body["postIds"], serde_json::json!(["7"]), "{body}");
    assert_eq!(app.daemon.lines_with("cannot look posts up"), Vec::<String>::new());

    let uuids = World::with_posts(PostsTable::with_ids(IdType::Uuid)).await;
    let app = uuids.ingest().await;
    let viewer = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    assert_eq!(app.batch(viewer, &["7", "abc", "550e8400"]).await.json()["processedCount"], 0);
    assert_eq!(app.daemon.lines_with("cannot look posts up"), Vec::<String>::new());
}
