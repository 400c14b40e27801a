//! The posts and the people.

use std::time::Duration;

use testkit::tokens;

use crate::random::Random;

/// The key of all tokens.
pub(crate) const SECRET: &str = "the-secret-of-a-proof";

const POSTS: usize = 60;
const UNKNOWN_POSTS: usize = 8;
const FIRST_VIEWERS: u64 = 300;
const NEW_VIEWERS_PER_SECOND: u64 = 25;

/// A post that exists.
pub(crate) struct Post {
    pub(crate) id: String,
    pub(crate) author: String,
}

/// A viewer, who may be an author as well.
pub(crate) struct Viewer {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// Everything that is asked about and everybody who asks. Follows from the seed.
pub(crate) struct World {
    pub(crate) posts: Vec<Post>,
    /// Ids of posts that do not exist.
    pub(crate) unknown: Vec<String>,
    pub(crate) viewers: Vec<Viewer>,
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
        let posts = (0..POSTS).map(|_| Post { id: random.uuid(), author: viewers[random.place(50)].id.clone() }).collect();
        let unknown = (0..UNKNOWN_POSTS).map(|_| random.uuid()).collect();
        Self { posts, unknown, viewers }
    }

    /// The posts that exist, with their authors.
    pub(crate) fn authors(&self) -> std::collections::BTreeMap<String, String> {
        self.posts.iter().map(|post| (post.id.clone(), post.author.clone())).collect()
    }

    /// The author of a post that exists.
    pub(crate) fn author(&self, post: &str) -> Option<&str> {
        self.posts.iter().find(|known| known.id == post).map(|known| known.author.as_str())
    }
}
