//! The variables that the journey's commands need, here and in another terminal.

use std::path::Path;

use super::people::{ADMIN_ID, AUTHOR_ID, FRIEND_ID, VIEWER_ID};
use crate::daemons::ANY_PORT;
use crate::shell::{Environment, quoted};
use crate::stores::Stores;

/// The variables, and the file that they can be read from.
pub(super) struct Exports {
    variables: Environment,
    lines: String,
    file: String,
}

impl Exports {
    /// What the daemons are told, tokens to play with, and the stores' passwords; the programs are found by their names.
    pub(super) fn new(stores: &Stores, binaries: &Path) -> Self {
        let mut variables = stores.environment(&stores.database.url());
        let more = [
            ("VIEWER", stores.token(VIEWER_ID)),
            ("FRIEND", stores.token(FRIEND_ID)),
            ("AUTHOR", stores.token(AUTHOR_ID)),
            ("ADMIN", stores.admin_token(ADMIN_ID)),
            ("REDISCLI_AUTH", stores.redis_password.clone()),
            ("PGPASSWORD", stores.database_password.clone()),
            // Daemons that are started by hand find ports beside those that run already.
            ("VIEW_INGEST_LISTEN", ANY_PORT.to_owned()),
            ("VIEW_INGEST_ADMIN_LISTEN", ANY_PORT.to_owned()),
            ("VIEW_SYNCD_ADMIN_LISTEN", ANY_PORT.to_owned()),
            ("no_proxy", "127.0.0.1".to_owned()),
        ];
        variables.extend(more.map(|(name, value)| (name.to_owned(), value)));
        let binaries = binaries.display().to_string();
        let mut lines = vec![format!("export PATH={}:\"$PATH\"", quoted(&binaries))];
        lines.extend(variables.iter().map(|(name, value)| format!("export {name}={}", quoted(value))));
        let lines = lines.join("\n");
        let path = std::env::var("PATH").unwrap_or_default();
        variables.insert("PATH".to_owned(), format!("{binaries}:{path}"));
        let file = stores.folder.write("exports", format!("{lines}\n")).display().to_string();
        Self { variables, lines, file }
    }

    /// Returns the variables, for a command that is run here.
    pub(super) fn variables(&self) -> &Environment {
        &self.variables
    }

    /// Returns the lines that set them in a shell.
    pub(super) fn lines(&self) -> &str {
        &self.lines
    }

    /// Returns the command that reads these lines.
    pub(super) fn source(&self) -> String {
        format!(". {}", quoted(&self.file))
    }
}
