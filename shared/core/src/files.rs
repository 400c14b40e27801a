//! Files that hold secrets or keys: how they are read, and who else may read them.
//!
//! A file is read within a bound of bytes and of time: a path may lead to a device without an end, a pipe that nobody
//! writes to, or a file system that has gone away.

mod exposed;

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

/// The most that such a file may hold, in bytes. Keys take a few thousand.
const MAX_BYTES: u64 = 1024 * 1024;
/// How long a file may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many files may be waited for that did not come in time. Each holds a thread, which nobody can end.
const MAX_STUCK: usize = 8;

/// When a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// At the start. A pipe will do: shells hand over with `<(…)` what is in no file.
    First,
    /// Again, later. A pipe has nothing more to give.
    Again,
}

/// What a file held.
#[derive(Clone)]
pub struct SecretFile {
    path: PathBuf,
    content: Vec<u8>,
    mode: u32,
    owner: u32,
}

/// Shows nothing of the content.
impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's reason.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is something else.
    #[error("it is {0} and no regular file")]
    NoFile(&'static str),
    /// It can be read once only.
    #[error("it is a pipe, which can be read at the start only")]
    Pipe,
    /// It is too large.
    #[error("it has more than 1 MiB")]
    TooLarge,
    /// It did not come.
    #[error("it could not be read in time (5 s)")]
    TooSlow,
}

/// Reads a file, wherever symbolic links lead to.
///
/// # Errors
/// [`FileError`], after five seconds at the latest.
pub fn read(path: &Path, reading: Reading) -> Result<SecretFile, FileError> {
    static STUCK: AtomicUsize = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(1);
    let (file, delivered) = (path.to_owned(), Arc::new(AtomicUsize::new(0)));
    if STUCK.load(SeqCst) >= MAX_STUCK {
        return Err(FileError::TooSlow);
    }
    let arrived = Arc::clone(&delivered);
    // The system gives up neither on a pipe nor on a file system that is away, so the thread is left to itself.
    thread::Builder::new().name("file".to_owned()).spawn(move || {
        let _ = sender.send(read_now(&file, reading));
        if arrived.fetch_add(1, SeqCst) > 0 {
            STUCK.fetch_sub(1, SeqCst);
        }
    })?;
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        if delivered.fetch_add(1, SeqCst) == 0 {
            STUCK.fetch_add(1, SeqCst);
        }
        Err(FileError::TooSlow)
    })
}

fn read_now(path: &Path, reading: Reading) -> Result<SecretFile, FileError> {
    // To open a device may do something already.
    check(&std::fs::metadata(path)?, reading)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    check(&metadata, reading)?;
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    Ok(SecretFile { path: path.to_owned(), content, mode: metadata.mode() & 0o7777, owner: metadata.uid() })
}

fn check(metadata: &Metadata, reading: Reading) -> Result<(), FileError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return if metadata.len() > MAX_BYTES { Err(FileError::TooLarge) } else { Ok(()) };
    }
    Err(match kind {
        kind if kind.is_fifo() && reading == Reading::First => return Ok(()),
        kind if kind.is_fifo() => FileError::Pipe,
        kind if kind.is_dir() => FileError::NoFile("a directory"),
        kind if kind.is_socket() => FileError::NoFile("a socket"),
        _ => FileError::NoFile("a device"),
    })
}

impl SecretFile {
    /// Returns all that the file held.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Returns the content without the mark that some editors begin a file in UTF-8 with, and without the line break
    /// that most end it with.
    #[must_use]
    pub fn bare(&self) -> &[u8] {
        let content = self.content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.content);
        let end = content.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        &content[..end]
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::unix::{fs::symlink, net::UnixListener},
        process::Command,
        time::Instant,
    };

    use super::*;

    fn fifo(folder: &Path) -> PathBuf {
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    #[test]
    fn a_file_is_read_through_links_and_without_its_frame() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink("file", &link).unwrap();
        for (content, bare) in [
            ("secret\n", "secret"),
            ("secret\r\n\r\n", "secret"),
            ("\u{feff}secret\n", "secret"),
            (" secret ", " secret "),
            ("\n", ""),
            ("\u{feff}", ""),
        ] {
            std::fs::write(&file, content).unwrap();
            for reading in [Reading::First, Reading::Again] {
                let read = read(&link, reading).unwrap();
                assert_eq!((read.content(), read.bare()), (content.as_bytes(), bare.as_bytes()));
            }
        }
        assert!(!format!("{:?}", read(&file, Reading::First).unwrap()).contains("secret"));
    }

    #[test]
    fn what_has_no_end_or_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let begin = Instant::now();
        for (path, why) in [
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/null"), "a device"),
            (folder.path(), "a directory"),
            (&socket, "a socket"),
            (&large, "more than 1 MiB"),
            (Path::new("/nonexistent"), "No such file"),
        ] {
            let error = read(path, Reading::First).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        File::create(&large).unwrap().set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&large, Reading::Again).unwrap().content().len() as u64, MAX_BYTES);
        assert!(begin.elapsed() < PATIENCE);
    }

    #[test]
    fn a_pipe_is_read_once_within_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        assert!(matches!(read(&path, Reading::Again), Err(FileError::Pipe)));
        let writer = path.clone();
        let writing = thread::spawn(move || File::options().write(true).open(writer).unwrap().write_all(b"secret\n").unwrap());
        assert_eq!(read(&path, Reading::First).unwrap().bare(), b"secret");
        writing.join().unwrap();
        let begin = Instant::now();
        assert!(matches!(read(&path, Reading::First), Err(FileError::TooSlow)));
        assert!((PATIENCE..2 * PATIENCE).contains(&begin.elapsed()));
    }

    #[test]
    fn a_pipe_without_an_end_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let mut cat = Command::new("sh").args(["-c", "cat /dev/zero > \"$0\""]).arg(&path).spawn().unwrap();
        assert!(matches!(read(&path, Reading::First), Err(FileError::TooLarge)));
        // Nobody reads any more, which ends it.
        cat.wait().unwrap();
    }
}
