//! Files that hold secrets: what is read of them, and who else may read them.

use std::{os::unix::fs::PermissionsExt, path::Path};

/// The permission of everybody to read.
const OTHERS_READ: u32 = 0o004;
/// The permission of everybody to write.
const OTHERS_WRITE: u32 = 0o002;

/// The content without the line break that editors end a file with.
#[must_use]
pub fn without_line_break(content: &[u8]) -> &[u8] {
    let end = content.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    &content[..end]
}

/// A warning where everybody may read or replace the secret in a file, which a setting names.
#[must_use]
pub fn exposed(setting: &str, path: &Path) -> Option<String> {
    let mode = mode(path).filter(|mode| mode & (OTHERS_READ | OTHERS_WRITE) != 0)?;
    let deed = if mode & OTHERS_READ == 0 { "replace" } else { "read" };
    let path = path.display();
    Some(format!("{setting}: everybody on this machine may {deed} the secret in {path} (mode {mode:04o}): chmod o-rwx {path}"))
}

/// A warning where everybody may replace what a file says, which is no secret.
#[must_use]
pub fn replaceable(setting: &str, path: &Path) -> Option<String> {
    let mode = mode(path).filter(|mode| mode & OTHERS_WRITE != 0)?;
    let path = path.display();
    Some(format!("{setting}: everybody on this machine may replace the keys in {path} (mode {mode:04o}): chmod o-w {path}"))
}

fn mode(path: &Path) -> Option<u32> {
    // Who cannot ask has just failed to read it, or is about to.
    std::fs::metadata(path).ok().map(|metadata| metadata.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

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
            let warnings = (exposed("--x", path), replaceable("--x", path));
            assert_eq!((warnings.0.is_some(), warnings.1.is_some()), (secret, public), "{mode:o}");
            for warning in [warnings.0, warnings.1].into_iter().flatten() {
                assert!(warning.contains(&format!("(mode {mode:04o})")) && warning.contains(path.to_str().unwrap()), "{warning}");
            }
        }
        assert_eq!(exposed("--x", Path::new("/nonexistent/file")), None);
    }
}
