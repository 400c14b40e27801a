//! The posts and the people.

use std::{collections::BTreeMap, time::Duration};

use testkit::tokens;

use crate::random::Random;

/// The key of all tokens.
pub(crate) use testkit::tokens::SECRET;

/// Posts of each nature.
const KEPT_POSTS: usize = 60;
const COUNTED_POSTS: usize = 5;
const REAUTHORED_POSTS: usize = 5;
const FLEETING_POSTS: usize = 8;
const UNKNOWN_POSTS: usize = 8;
/// Who may become the author of a post whose author changes, its first one included.
const AUTHORS: usize = 3;
const FIRST_VIEWERS: u64 = 300;
const NEW_VIEWERS_PER_SECOND: u64 = 25;

/// What the application does with a post, beside locking its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Nothing.
    Kept,
    /// It changes the count.
    Counted,
    /// It changes the author.
    Reauthored,
    /// It deletes the post and creates it anew.
    Fleeting,
}

/// A post that exists, but for a fleeting one, which exists at the beginning and at the end.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) id: String,
    pub(crate) nature: Nature,
    /// Whoever may be its author at some time, the first one first.
    pub(crate) authors: Vec<String>,
}

impl Post {
    /// Returns whether a viewer may be the post's author, at some time.
    pub(crate) fn may_be_by(&self, viewer: &str) -> bool {
        self.authors.iter().any(|author| author == viewer)
    }
}

/// A viewer, who may be an author as well.
pub(crate) struct Viewer {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// Everything that is asked about and everybody who asks. Follows from the seed.
pub(crate) struct World {
    /// The kept ones first.
    pub(crate) posts: Vec<Post>,
    /// Ids of posts that do not exist.
    pub(crate) unknown: Vec<String>,
    pub(crate) viewers: Vec<Viewer>,
    places: BTreeMap<String, usize>,
}

impl World {
    pub(crate) fn new(seed: u64, duration: Duration) -> Self {
        let mut random = Random::stream(seed, 2);
        let viewers = FIRST_VIEWERS + NEW_VIEWERS_PER_SECOND * duration.as_secs();
        let viewers: Vec<Viewer> = (0..viewers)
            .map(|_| {
                let id = random.uuid();
                Viewer { token: tokens::Token::new(&id).expires_in(7 * 24 * 3600).hs256(SECRET), id }
            })
            .collect();
        let mut posts = Vec::new();
        for (nature, number) in [
            (Nature::Kept, KEPT_POSTS),
            (Nature::Counted, COUNTED_POSTS),
            (Nature::Reauthored, REAUTHORED_POSTS),
            (Nature::Fleeting, FLEETING_POSTS),
        ] {
            for _ in 0..number {
                let id = random.uuid();
                let mut authors = Vec::new();
                while authors.len() < if nature == Nature::Reauthored { AUTHORS } else { 1 } {
                    let author = &viewers[random.place(50)].id;
                    if !authors.contains(author) {
                        authors.push(author.clone());
                    }
                }
                posts.push(Post { id, nature, authors });
            }
        }
        let unknown = (0..UNKNOWN_POSTS).map(|_| random.uuid()).collect();
        let places = posts.iter().enumerate().map(|(place, post)| (post.id.clone(), place)).collect();
        Self { posts, unknown, viewers, places }
    }

    /// Returns the posts of which the application changes nothing that matters here.
    pub(crate) fn kept(&self) -> &[Post] {
        &self.posts[..KEPT_POSTS]
    }

    /// Returns the others.
    pub(crate) fn changing(&self) -> &[Post] {
        &self.posts[KEPT_POSTS..]
    }

    /// Returns the posts of a nature.
    pub(crate) fn of(&self, nature: Nature) -> impl Iterator<Item = &Post> {
        self.posts.iter().filter(move |post| post.nature == nature)
    }

    /// Returns all posts by their ids.
    pub(crate) fn by_id(&self) -> BTreeMap<String, Post> {
        self.posts.iter().map(|post| (post.id.clone(), post.clone())).collect()
    }

    /// Returns a post that exists.
    pub(crate) fn post(&self, id: &str) -> Option<&Post> {
        self.places.get(id).map(|place| &self.posts[*place])
    }
}

/// Returns whether the application's triggers may refuse a viewer, or its transactions lock a view of his: his views
/// may have to wait in `views:dead`, where no count has them. Three of sixteen viewers.
pub(crate) fn may_be_refused(viewer: &str) -> bool {
    viewer.starts_with(REFUSED_PREFIXES)
}

/// The first letters of the ids of such viewers.
pub(crate) const REFUSED_PREFIXES: [char; 3] = ['3', '7', 'b'];
