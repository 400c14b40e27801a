//! The posts, the viewers, and the viewers' tokens. The same in every run.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use testkit::tokens::Token;

/// The key of all tokens.
pub(crate) use testkit::tokens::SECRET;
/// No run is as long.
const TOKEN_LIFETIME_SECONDS: i64 = 7 * 24 * 3600;
const SEED: u64 = 1;

/// Somebody who views.
pub(crate) struct Viewer {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// Everything that is viewed, and everybody who views.
pub(crate) struct Population {
    pub(crate) posts: Vec<String>,
    pub(crate) viewers: Vec<Viewer>,
    /// Somebody else, who has viewed everything before a measurement begins.
    pub(crate) visitor: Viewer,
}

impl Population {
    pub(crate) fn new(posts: usize, viewers: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(SEED);
        let mut id = || uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string();
        let posts = (0..posts).map(|_| id()).collect();
        let mut viewer = || {
            let id = id();
            Viewer { token: Token::new(&id).expires_in(TOKEN_LIFETIME_SECONDS).hs256(SECRET), id }
        };
        let viewers = (0..viewers).map(|_| viewer()).collect();
        Self { posts, viewers, visitor: viewer() }
    }
}
