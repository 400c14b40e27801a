//! Whose the keys in Redis are: looked at before anything is taken out of them, or deleted.
//!
//! The look and what follows it go over the same link, so that no other server comes in between.

use views_redis::{
    Code,
    ownership::NO_TEXT,
    resp::{Commands, Replies, Reply},
};

use crate::engine::{Engine, Failure, refusal};

impl Engine {
    /// Demands that the keys are this ledger's. Where they have no owner (Redis is new, or has lost everything), they become so.
    ///
    /// # Errors
    /// [`Failure::Foreign`] where they are another one's.
    pub(crate) async fn check_owner(&mut self) -> Result<(), Failure> {
        let owner = self.database.owner().await?;
        let found = self.find_owner(owner.as_str()).await?;
        let result = found.map_or(Ok(()), |found| owner.check(&self.keys, &found));
        self.watch.note_owner(result.is_err());
        if result.is_err() {
            // No step comes as far as to meet a connection that is gone, behind which there may be another server by now.
            self.database.doubt_owner();
        }
        self.owned = self.line.number();
        Ok(result?)
    }

    /// Reads the owner's name, and writes this one's where there is none.
    async fn find_owner(&mut self, own: &str) -> Result<Option<String>, Failure> {
        let (mut commands, mut replies) = (Commands::default(), Replies::default());
        commands.command("GET", 1).text(self.keys.owner());
        self.line.exchange(&commands, &mut replies).await?;
        if replies.iter().next() == Some(Reply::Null) {
            commands.clear();
            commands.command("SET", 3).text(self.keys.owner()).text(own).text("NX");
            commands.command("GET", 1).text(self.keys.owner());
            self.line.exchange(&commands, &mut replies).await?;
            if let Some(Reply::Error(error)) = replies.iter().next()
                && error.code != Code::OutOfMemory
            {
                return Err(refusal(replies.iter().next()).into());
            }
        }
        match replies.iter().last() {
            Some(Reply::Null) => Ok(None),
            Some(Reply::Text(found)) => Ok(Some(found.to_owned())),
            Some(Reply::Bytes(found)) => Ok(Some(String::from_utf8_lossy(found).into_owned())),
            Some(Reply::Error(error)) if error.code == Code::WrongType => Ok(Some(NO_TEXT.to_owned())),
            other => Err(refusal(other).into()),
        }
    }
}
