//! A recorder's way to Redis: pipelines over a link of its own, as long as the gate is open.

use views_redis::{
    link::{Link, LinkError},
    resp::{Commands, Replies, Reply},
};

use super::{REDIS_TIMEOUT, Stores};

/// The link, and the memory that one batch leaves to the next.
#[derive(Default)]
pub(super) struct Lane {
    link: Option<Link>,
    /// What the gate had seen when the link was opened.
    events: u64,
    pub(super) commands: Commands,
    pub(super) replies: Replies,
}

impl Lane {
    /// Sends the commands. The replies are there when this gives true; otherwise the commands may have been carried out or not.
    pub(super) async fn exchange(&mut self, stores: &Stores) -> bool {
        if !stores.gate.is_open() {
            return false;
        }
        let why = match tokio::time::timeout(REDIS_TIMEOUT, self.send(stores)).await {
            Ok(Ok(())) => match self.replies.iter().find_map(Reply::not_the_one) {
                Some(words) => words.to_owned(),
                None => return true,
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        stores.health.complain("Redis does not take a batch", &why);
        self.link = None;
        stores.gate.distrust();
        false
    }

    /// Whoever gives up waiting takes the link along: only an exchange that was completed leaves it behind.
    async fn send(&mut self, stores: &Stores) -> Result<(), LinkError> {
        let events = stores.gate.events();
        let last = self.link.take().filter(|_| events == self.events);
        let mut link = match last.and_then(|mut link| link.is_open().then_some(link)) {
            Some(link) => link,
            None => Link::open(&stores.redis).await?,
        };
        link.exchange(&self.commands, &mut self.replies).await?;
        (self.link, self.events) = (Some(link), events);
        Ok(())
    }
}
