//! The posts that the requests are about.

use crate::stores::Stores;

/// The viewer of all requests.
pub(super) const VIEWER: &str = "viewer-of-everything";

/// Creates a post for every single character, which is what made-up ids mostly come down to, and those of the
/// document's examples. Where the id is an upper-case letter, the viewer is the author.
pub(super) async fn create(stores: &Stores) {
    let statements = format!(
        "CREATE TABLE posts (id text PRIMARY KEY, author_id text, views_count bigint NOT NULL DEFAULT 0);
        INSERT INTO posts (id, author_id)
        SELECT id, CASE WHEN id ~ '^[A-Z]$' THEN '{VIEWER}' ELSE 'somebody-else' END
        FROM unnest(regexp_split_to_array('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-', '')
            || ARRAY['42', '00', '550e8400-e29b-41d4-a716-446655440000']) AS id"
    );
    stores.database.client().await.batch_execute(&statements).await.expect("the posts can be created");
}
