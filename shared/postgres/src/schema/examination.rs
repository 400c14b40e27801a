//! All that is to be said of the tables at once, for operators. Changes nothing.

use super::{
    Purpose, Repeatable, Schema, SchemaError,
    migration::{open_to_others, warn_of_orphans},
};
use crate::{Database, DatabaseError};

/// What was found of the tables, and of the role's rights on them.
#[derive(Debug, Default)]
pub struct Examination {
    /// The tables, where views can be stored in them.
    pub schema: Option<Schema>,
    /// Why no views can be stored, and what to do about it, a sentence each.
    pub problems: Vec<String>,
    /// Why counts cannot be made anew, likewise.
    pub of_bases: Vec<String>,
    /// Who has rights on the tables beside the posts and may be anybody.
    pub open: Vec<String>,
    /// What an operator should know of the ledger's foreign key.
    pub orphans: Option<String>,
    /// What an operator should know of ids that nothing keeps unique.
    pub repeatable: Option<String>,
    /// What each stored view sets off.
    pub triggers: Option<String>,
}

impl Database {
    /// Looks at the tables and at the role's rights.
    ///
    /// # Errors
    /// [`DatabaseError`], but never for what is wrong with the tables.
    pub async fn examine(&self) -> Result<Examination, DatabaseError> {
        let mut found = Examination::default();
        let schema = match self.try_load(Purpose::Work).await? {
            Ok(schema) => schema,
            Err(problems) => return Ok(Examination { problems, ..found }),
        };
        found.problems.extend(self.find_repetition(&schema).await?);
        let bases = match self.try_load(Purpose::Recount).await? {
            Ok(recount) => recount.beside.base,
            Err(problems) => {
                found.of_bases = problems;
                None
            }
        };
        let beside = [schema.beside.ledger.as_ref(), schema.beside.counts.as_ref(), bases.as_ref()];
        found.open = beside.into_iter().flatten().filter(|table| !table.open_to.is_empty()).map(open_to_others).collect();
        found.orphans = warn_of_orphans(&schema);
        found.repeatable = schema.repeatable.as_ref().map(|Repeatable { warning, .. }| warning.clone());
        found.triggers = self.warn_of_triggers(&schema).await?;
        found.schema = Some(schema);
        Ok(found)
    }

    /// Reads the catalogue, and returns what is wrong with the tables where they are not as they are needed.
    async fn try_load(&self, purpose: Purpose) -> Result<Result<Schema, Vec<String>>, DatabaseError> {
        match self.read_catalogue(purpose).await? {
            Ok(schema) => Ok(Ok(schema)),
            Err(SchemaError::Unfit(problems)) => Ok(Err(problems.iter().map(str::to_owned).collect())),
            Err(error) => Err(error.into()),
        }
    }
}
