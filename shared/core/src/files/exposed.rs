//! Who else may read or replace a file with secrets or keys, and what to do about it.

use super::SecretFile;

/// The permission of everybody to read.
const OTHERS_READ: u32 = 0o004;
/// The permission of everybody to write.
const OTHERS_WRITE: u32 = 0o002;

impl SecretFile {
    /// Returns a warning where everybody may read or replace the secret, which a setting names.
    #[must_use]
    pub fn exposed(&self, setting: &str) -> Option<String> {
        let mode = Some(self.mode).filter(|mode| mode & (OTHERS_READ | OTHERS_WRITE) != 0)?;
        let deed = if mode & OTHERS_READ == 0 { "replace" } else { "read" };
        let path = self.path.display();
        let advice = self.advice(rustix::process::geteuid().as_raw());
        Some(format!("{setting}: everybody on this machine may {deed} the secret in {path} (mode {mode:04o}): {advice}"))
    }

    /// Returns a warning where everybody may replace what the file says, which is no secret.
    #[must_use]
    pub fn replaceable(&self, setting: &str) -> Option<String> {
        let mode = Some(self.mode).filter(|mode| mode & OTHERS_WRITE != 0)?;
        let path = self.path.display();
        Some(format!("{setting}: everybody on this machine may replace the keys in {path} (mode {mode:04o}): chmod o-w {path}"))
    }

    /// What keeps others out, but not a process of this user, which may have got in only because everybody may.
    fn advice(&self, user: u32) -> String {
        let path = self.path.display();
        if user == 0 || user == self.owner {
            return format!("chmod o-rwx {path}");
        }
        format!(
            "let systemd hand it over (LoadCredential=, see the unit), or give it to this program's user (chown {user} {path}) before \
             you take the others' right away, without which this program could not read it either"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{Permissions, set_permissions},
        os::unix::fs::PermissionsExt,
        path::Path,
    };

    use super::super::{Reading, read};
    use super::*;

    #[test]
    fn what_everybody_may_read_or_write_is_told_with_its_mode() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        for (mode, secret, public) in [
            (0o600, false, false),
            (0o640, false, false),
            (0o660, false, false),
            (0o644, true, false),
            (0o604, true, false),
            (0o602, true, true),
            (0o666, true, true),
        ] {
            set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let read = read(path, Reading::First).unwrap();
            let warnings = (read.exposed("--x"), read.replaceable("--x"));
            assert_eq!((warnings.0.is_some(), warnings.1.is_some()), (secret, public), "{mode:o}");
            for warning in [warnings.0, warnings.1].into_iter().flatten() {
                assert!(warning.contains(&format!("(mode {mode:04o})")) && warning.contains(path.to_str().unwrap()), "{warning}");
            }
        }
    }

    #[test]
    fn nobody_is_told_to_lock_this_program_out() {
        let file = |owner| SecretFile { path: "/run/secrets/jwt".into(), content: Vec::new(), mode: 0o444, owner };
        for (user, owner, own) in [(0, 0, true), (0, 7, true), (7, 7, true), (7, 0, false), (65_534, 0, false), (7, 8, false)] {
            let advice = file(owner).advice(user);
            assert_eq!(advice.contains("chmod o-rwx"), own, "{advice}");
            assert_eq!(advice.contains(&format!("chown {user} /run/secrets/jwt")) && advice.contains("LoadCredential="), !own);
        }
        assert_eq!(file(0).path, Path::new("/run/secrets/jwt"));
    }
}
