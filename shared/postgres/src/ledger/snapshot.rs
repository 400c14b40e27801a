//! What PostgreSQL has of views that it does not take now: whoever is stored is told so all the same.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio_postgres::types::ToSql;
use views_core::ids::{PostId, ViewerId};

use crate::{
    COMMIT, Database, DatabaseError,
    rows::{at_place, author_of, places},
    spelling::{SentIds, Spelling},
};

/// How long locks are waited for, which only a change of a table holds against whoever reads.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// What PostgreSQL has of a post.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostSnapshot {
    /// The count.
    pub views: i64,
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
    /// Those of the viewers asked for whom the ledger has.
    pub viewers: HashSet<ViewerId>,
}

/// Looks at posts, and at some viewers of each. Posts that do not exist are missing from the answer.
///
/// # Errors
/// [`DatabaseError`].
pub async fn look(
    database: &Database,
    wanted: &HashMap<PostId, Vec<ViewerId>>,
) -> Result<HashMap<PostId, PostSnapshot>, DatabaseError> {
    let mut seen = HashMap::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(seen);
    }
    let schema = database.schema().await?;
    let begin = database.begin(LOCK_TIMEOUT, "");
    let mut open: Vec<(&PostId, &Vec<ViewerId>)> = wanted.iter().filter(|(post, _)| schema.accepts_post(post)).collect();
    let mut spelling = Some(Spelling::Canonical);
    while let Some(now) = spelling.filter(|_| !open.is_empty()) {
        let ids = SentIds::new(schema.post_type, open.iter().map(|(post, _)| now.of(post.as_str())).collect())?;
        let (mut pair_places, mut viewers) = (Vec::new(), Vec::new());
        for ((_, of_post), place) in open.iter().zip(0_i32..) {
            for viewer in of_post.iter().filter(|viewer| schema.accepts_viewer(viewer)) {
                pair_places.push(place);
                viewers.push(Cow::Borrowed(viewer.as_str()));
            }
        }
        let viewers = SentIds::new(schema.viewer_type, viewers)?;
        let places = places(open.len());
        let params: [&(dyn ToSql + Sync); 4] = [&places, ids.param(), &pair_places, viewers.param()];
        for row in database.transact(&begin, &schema.statements.look, &params, COMMIT).await? {
            let Some((_, (post, _))) = at_place(&row, &open) else { continue };
            let viewers = row.get::<_, Vec<&str>>(3).into_iter().filter_map(|viewer| ViewerId::parse(viewer).ok()).collect();
            seen.insert(**post, PostSnapshot { author: author_of(&row, 1), views: row.get(2), viewers });
        }
        open.retain(|(post, _)| !seen.contains_key(*post) && Spelling::may_differ(&schema, post));
        spelling = now.next();
    }
    Ok(seen)
}
