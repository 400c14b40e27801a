//! What is asked of PostgreSQL, in the project's own terms: which posts there are, and what is known of them.

mod snapshot;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio_postgres::{Row, types::ToSql};
use views_core::{
    ids::{PostId, ViewerId},
    post::KnownPost,
};

pub use self::snapshot::{PostSnapshot, look};
pub use crate::pair::{Pair, Sent, prepare};
use crate::{
    Database, DatabaseError,
    insert::count_rows,
    rows::{at_place, author_of, places},
    schema::Schema,
    spelling::{SentIds, Spelling},
};

/// What somebody believes to know of a post.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CachedPost {
    /// The post.
    pub post: PostId,
    /// The count, if any is known.
    pub views: Option<i64>,
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
}

/// What is true of a post of which somebody believed something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// There is no such post.
    Missing,
    /// There is.
    Exists {
        /// The count.
        views: i64,
        /// The author in its canonical spelling; empty when the post has none.
        author: String,
    },
}

/// For [`look_up`]: viewers are of no interest.
pub const NO_VIEWERS: i64 = -1;

/// Looks posts up, with the viewers of those that have at most `few` rows in the ledger. Posts that do not exist are
/// missing from the answer.
///
/// # Errors
/// [`DatabaseError`].
pub async fn look_up(database: &Database, posts: &[PostId], few: i64) -> Result<HashMap<PostId, KnownPost>, DatabaseError> {
    let schema = database.schema_that(|schema| posts.iter().all(|post| schema.accepts_post(post))).await?;
    let rows = find(database, &schema, posts, &schema.statements.hydrate, &[&few]).await?;
    let known = rows.into_iter().map(|(post, row)| {
        let mut viewers: Vec<String> = row.get(3);
        if i64::try_from(viewers.len()).is_ok_and(|number| number > few) {
            viewers.clear();
        }
        (post, KnownPost { author: author_of(&row, 1), views: row.get(2), viewers })
    });
    Ok(known.collect())
}

/// What PostgreSQL has of a post, as of one moment.
#[derive(Debug, Clone)]
pub struct SurveyedPost {
    /// The author in its canonical spelling; empty when the post has none.
    pub author: String,
    /// The count.
    pub views: i64,
    /// The viewers whom the ledger has; none where these are more than were asked for.
    pub viewers: Option<HashSet<ViewerId>>,
}

/// Looks at posts, with the viewers of those that have at most `few` rows in the ledger. Posts that do not exist are
/// missing from the answer.
///
/// # Errors
/// [`DatabaseError`].
pub async fn survey(database: &Database, posts: &[PostId], few: i64) -> Result<HashMap<PostId, SurveyedPost>, DatabaseError> {
    let schema = schema_for(database, posts.iter()).await?;
    let rows = find(database, &schema, posts, &schema.statements.hydrate, &[&few]).await?;
    let surveyed = rows.into_iter().map(|(post, row)| {
        let viewers: Vec<&str> = row.get(3);
        let are_few = i64::try_from(viewers.len()).is_ok_and(|number| number <= few);
        let viewers = are_few.then(|| viewers.into_iter().filter_map(|viewer| ViewerId::parse(viewer).ok()).collect());
        (post, SurveyedPost { author: author_of(&row, 1), views: row.get(2), viewers })
    });
    Ok(surveyed.collect())
}

/// The counts of those of the posts that exist.
///
/// # Errors
/// [`DatabaseError`].
pub async fn counts(database: &Database, posts: &[PostId]) -> Result<HashMap<PostId, i64>, DatabaseError> {
    let schema = schema_for(database, posts.iter()).await?;
    let rows = find(database, &schema, posts, &schema.statements.counts, &[]).await?;
    Ok(rows.into_iter().map(|(post, row)| (post, row.get(1))).collect())
}

/// Returns those of the viewers who are in the ledger with a post.
///
/// # Errors
/// [`DatabaseError`].
pub async fn viewers_among(database: &Database, post: &PostId, viewers: &[ViewerId]) -> Result<HashSet<ViewerId>, DatabaseError> {
    let schema = database.schema().await?;
    let viewers: Vec<Cow<'_, str>> =
        viewers.iter().map(ViewerId::as_str).filter(|viewer| schema.viewer_type.accepts(viewer)).map(Cow::Borrowed).collect();
    let viewers = SentIds::new(schema.viewer_type, viewers)?;
    let rows = find(database, &schema, &[*post], &schema.statements.viewers_among, &[viewers.param()]).await?;
    let found = rows.iter().flat_map(|(_, row)| row.get::<_, Vec<&str>>(1));
    Ok(found.filter_map(|viewer| ViewerId::parse(viewer).ok()).collect())
}

/// Returns those of the posts for which nobody has to be waited for: their rows are not locked and their counts have
/// room, or they do not exist.
///
/// # Errors
/// [`DatabaseError`].
pub async fn unlocked(database: &Database, posts: &[PostId]) -> Result<HashSet<PostId>, DatabaseError> {
    let schema = database.schema().await?;
    // Where that cannot be done, somebody has to be waited for.
    let accepted: Vec<PostId> = posts.iter().filter(|post| schema.accepts_post(post)).copied().collect();
    let ids: Vec<_> = Spelling::all(&schema, &accepted).into_iter().map(Cow::Owned).collect();
    count_rows::make(database, &schema, &ids).await?;
    let rows = find(database, &schema, posts, &schema.statements.unlocked, &[]).await?;
    let mut unlocked: HashSet<PostId> = rows.into_iter().map(|(post, _)| post).collect();
    let others: Vec<PostId> = posts.iter().filter(|post| !unlocked.contains(*post)).copied().collect();
    if !others.is_empty() {
        let existing = counts(database, &others).await?;
        unlocked.extend(others.iter().filter(|post| !existing.contains_key(*post)));
    }
    Ok(unlocked)
}

/// Runs a statement that takes places and ids, in each spelling that the database may have. Returns the row of each
/// post that was found.
async fn find(
    database: &Database,
    schema: &Schema,
    posts: &[PostId],
    statement: &str,
    more: &[&(dyn ToSql + Sync)],
) -> Result<Vec<(PostId, Row)>, DatabaseError> {
    let mut found = Vec::with_capacity(posts.len());
    let mut wanted: Vec<PostId> = posts.iter().filter(|post| schema.accepts_post(post)).copied().collect();
    let mut spelling = Some(Spelling::Canonical);
    while let Some(now) = spelling.filter(|_| !wanted.is_empty()) {
        let ids = SentIds::new(schema.post_type, wanted.iter().map(|post| now.of(post.as_str())).collect())?;
        let places = places(wanted.len());
        let params: Vec<&(dyn ToSql + Sync)> = [&places as _, ids.param()].into_iter().chain(more.iter().copied()).collect();
        let rows = database.query(statement, &params).await?;
        let mut is_missing = vec![true; wanted.len()];
        for row in rows {
            let Some((place, post)) = at_place(&row, &wanted) else { continue };
            is_missing[place] = false;
            found.push((*post, row));
        }
        let mut is_missing = is_missing.into_iter();
        wanted.retain(|post| is_missing.next().unwrap_or(false) && Spelling::may_differ(schema, post));
        spelling = now.next();
    }
    Ok(found)
}

/// Compares what somebody believes of posts with what PostgreSQL has. Gives the posts of which something differs. What
/// is as it is believed to be costs a look at the index, and no row.
///
/// # Errors
/// [`DatabaseError`].
pub async fn compare(database: &Database, cached_posts: &[CachedPost]) -> Result<HashMap<PostId, Difference>, DatabaseError> {
    let schema = schema_for(database, cached_posts.iter().map(|cached| &cached.post)).await?;
    let mut differences = HashMap::new();
    let mut open: Vec<&CachedPost> = Vec::with_capacity(cached_posts.len());
    for cached in cached_posts {
        if schema.accepts_post(&cached.post) {
            open.push(cached);
        } else {
            differences.insert(cached.post, Difference::Missing);
        }
    }
    let mut spelling = Some(Spelling::Canonical);
    while let Some(now) = spelling.filter(|_| !open.is_empty()) {
        let ids = SentIds::new(schema.post_type, open.iter().map(|cached| now.of(cached.post.as_str())).collect())?;
        let views: Vec<Option<i64>> = open.iter().map(|cached| cached.views).collect();
        let authors: Vec<&str> = open.iter().map(|cached| cached.author.as_str()).collect();
        let params: [&(dyn ToSql + Sync); 4] = [&places(open.len()), ids.param(), &views, &authors];
        let mut missing = Vec::new();
        for row in database.query(&schema.statements.compare, &params).await? {
            let Some((_, cached)) = at_place(&row, &open) else { continue };
            if row.get::<_, bool>(1) {
                differences.insert(cached.post, Difference::Exists { views: row.get(2), author: author_of(&row, 3) });
            } else {
                differences.insert(cached.post, Difference::Missing);
                missing.push(*cached);
            }
        }
        spelling = now.next();
        missing.retain(|cached| spelling.is_some() && Spelling::may_differ(&schema, &cached.post));
        for cached in &missing {
            // What the next spelling says nothing of is as it is believed to be.
            differences.remove(&cached.post);
        }
        open = missing;
    }
    Ok(differences)
}

/// Returns the schema to look for posts with of which all is given up that are not found. One whose id does not fit the
/// column does not exist, unless the column is no longer what it was.
async fn schema_for(database: &Database, mut posts: impl Iterator<Item = &PostId>) -> Result<Arc<Schema>, DatabaseError> {
    let schema = database.schema().await?;
    if posts.all(|post| schema.accepts_post(post)) { Ok(schema) } else { database.schema_to_give_up().await }
}

/// Returns whether the ledger can hold a viewer, by the type of its column as it was last read. Where that is unknown,
/// nothing speaks against it. This is asked for every view: it costs a look at a pointer, and no memory.
#[must_use]
pub fn seems_to_fit(database: &Database, viewer: &ViewerId) -> bool {
    database.last_known_schema().as_ref().is_none_or(|schema| schema.accepts_viewer(viewer))
}

/// Returns whether the ledger can never hold a viewer. The type is read anew before the answer is yes, but for once a
/// second at most; where PostgreSQL does not tell, what is known has to do.
pub async fn refuses(database: &Database, viewer: &ViewerId) -> bool {
    if seems_to_fit(database, viewer) {
        return false;
    }
    match database.schema_for_refusal().await {
        Ok(schema) => !schema.accepts_viewer(viewer),
        Err(_) => !seems_to_fit(database, viewer),
    }
}
