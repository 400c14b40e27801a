//! The pages, and the posts that they are about.

use crate::site::{Page, html, module};
use crate::stores::Stores;

/// All posts.
const POSTS: [&str; 18] = [
    "single",
    "closing-1",
    "closing-2",
    "beacon",
    "refused",
    "short",
    "tall",
    "below",
    "hidden",
    "module-closing-1",
    "module-closing-2",
    "module-cookie",
    "module-offline",
    "module-under-way",
    "forged-fetch",
    "forged-beacon",
    "forged-form",
    "forged-json",
];

/// Creates the posts.
pub(super) async fn create_posts(stores: &Stores) {
    let statements = format!(
        "CREATE TABLE posts (id text PRIMARY KEY, author_id text, title text, views_count bigint NOT NULL DEFAULT 0);
        INSERT INTO posts (id, author_id, title) SELECT id, 'somebody-else', id FROM unnest('{{{}}}'::text[]) AS id",
        POSTS.join(",")
    );
    stores.database.client().await.batch_execute(&statements).await.expect("the posts can be created");
}

/// Returns the page of a path.
pub(super) fn of(path: &str, views_url: &str) -> Option<Page> {
    match path {
        "/views.js" => Some(module()),
        // With the module at hand.
        "/" => Some(html(format!(
            "<!doctype html><title>A page</title><script type=module>
            import {{ createViews }} from '/views.js';
            Object.assign(window, {{ createViews, VIEWS: '{views_url}' }});
            </script>"
        ))),
        // A list of posts: one is short, one taller than the screen, one far below.
        "/posts" => Some(html(format!(
            "<!doctype html><title>Posts</title>
            <style>article {{ margin: 0 }} #short {{ height: 200px }} #tall {{ height: 4000px }} #below {{ height: 300px }}</style>
            <article id=short></article><article id=tall></article><article id=below></article>
            <script type=module>
            import {{ createViews }} from '/views.js';
            window.start = (token) => {{
              const onCounts = (counts) => {{
                for (const [id, count] of Object.entries(counts)) document.getElementById(id).textContent = count;
              }};
              const views = createViews({{ url: '{views_url}', token: async () => token, flushMs: 200, onCounts }});
              for (const element of document.querySelectorAll('article')) views.observe(element, element.id);
              window.views = views;
            }};
            </script>"
        ))),
        // What a page of another site would have its visitors' browsers send.
        "/form" => Some(html(format!(
            "<!doctype html><title>Forged</title>
            <form method=post action='{views_url}/posts/view' enctype='text/plain'>
            <input name='{{&quot;postId&quot;:&quot;forged-form&quot;,&quot;x&quot;:&quot;' value='&quot;}}'></form>"
        ))),
        _ => None,
    }
}
