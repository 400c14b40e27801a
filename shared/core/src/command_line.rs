//! What the command line gives away: complaints about it must not repeat a secret, and all users of the machine can read it.

use std::{env, ffi::OsString, process::ExitCode};

use clap::{
    Command, Error, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::settings::{EXIT_USAGE, Problems};

/// What stands in the place of what may be a secret.
const NOT_SHOWN: &str = "(not shown, for it may hold a password)";
/// Flags whose values are secrets.
const SECRETS: [(&str, &str); 2] = [("--jwt-secret", "JWT_SECRET"), ("--redis-password", "REDIS_PASSWORD")];
/// Flags whose values may hold a password.
const URLS: [(&str, &str); 2] = [("--database-url", "DATABASE_URL"), ("--redis-url", "REDIS_URL")];

/// Parses the command line and the environment.
///
/// # Errors
/// The exit status to end with, after the help text (0) or the complaint (64) has been printed.
pub fn parse_args<A: FromArgMatches>(command: &Command, args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    let matches = command.clone().try_get_matches_from(args);
    matches.and_then(|matches| A::from_arg_matches(&matches)).map_err(|error| tell(command, error))
}

/// Prints the help text, or what is wrong with the command line or the environment. Returns the exit status to end with.
fn tell(command: &Command, error: Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing is left to do when standard output is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::InvalidUtf8 {
        let wrong = not_text(command);
        let names = if wrong.is_empty() { "an argument".to_owned() } else { wrong.join(", ") };
        eprintln!("error: no text in UTF-8: {names}");
    } else {
        eprint!("{}", without_secrets(error));
    }
    ExitCode::from(EXIT_USAGE)
}

/// Returns the environment variables of settings that are no text. The library names none of them.
fn not_text(command: &Command) -> Vec<String> {
    let names = command.get_arguments().filter_map(|argument| argument.get_env());
    let wrong = names.filter(|name| env::var_os(name).is_some_and(|value| value.to_str().is_none()));
    wrong.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Returns whether an argument that is in the wrong place may hold a password: a URL, libpq's words, or a line of an
/// environment file.
fn may_hold_secret(argument: &str) -> bool {
    let text = argument.to_ascii_lowercase();
    let names = ["password", "secret", "passwd", "token"];
    let is_assignment = !text.starts_with('-') && text.contains('=') && names.iter().any(|name| text.contains(name));
    is_assignment || text.contains("://") || text.contains('@')
}

/// Returns the library's complaint. It repeats what it does not understand, and with it the password where there is one.
fn without_secrets(mut error: Error) -> String {
    let shown: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) if may_hold_secret(text) => Some(kind),
            _ => None,
        })
        .collect();
    for kind in shown {
        error.insert(kind, ContextValue::String(NOT_SHOWN.to_owned()));
        // What it resembles has nothing to say any more.
        error.remove(ContextKind::Suggested);
    }
    let text = error.render().to_string();
    if text.contains("://") { format!("error: {}\n", error.kind()) } else { text }
}

/// Notes a warning for each secret that is a flag: `ps` shows it to everybody.
pub fn warn_of_secrets(problems: &mut Problems, arguments: impl IntoIterator<Item = OsString>) {
    let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let value_of = |flag: &str| {
        arguments.iter().enumerate().find_map(|(place, argument)| match argument.strip_prefix(flag)? {
            "" => arguments.get(place + 1).cloned(),
            rest => rest.strip_prefix('=').map(str::to_owned),
        })
    };
    let secrets = SECRETS.into_iter().filter(|(flag, _)| value_of(flag).is_some_and(|value| !value.is_empty()));
    let urls = URLS.into_iter().filter(|(flag, _)| value_of(flag).is_some_and(|value| has_password(&value)));
    for (flag, variable) in secrets.chain(urls) {
        problems.warn(format!(
            "{flag}: everybody on this machine can read it, for the command line shows in the list of processes: use {variable}, \
             or a file, instead"
        ));
    }
}

/// Returns whether a URL, or libpq's words, may hold a password.
fn has_password(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let user = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map_or("", |(user, _)| user);
    user.contains(':') || text.contains("password")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn complaint(arguments: &[&str]) -> String {
        let command = Command::new("x")
            .subcommand(Command::new("sync"))
            .subcommand(Command::new("dead").subcommand_required(true).subcommand(Command::new("drop")))
            .arg(Arg::new("listen").long("listen").value_parser(["a", "b"]));
        without_secrets(command.try_get_matches_from([&["x"], arguments].concat()).unwrap_err())
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_repeated() {
        for url in [
            "host=db password=hidden",
            "JWT_SECRET=hidden",
            "u:hidden@db",
            "postgres://u:hidden@h/app",
            "redis://:hid den@h",
            "--postgres://u:hidden@h",
            "--listen=x://hidden",
            "-p://hidden",
        ] {
            for before in [&[][..], &["sync"], &["dead"], &["dead", "drop"], &["--listen"]] {
                let text = complaint(&[before, &[url]].concat());
                assert!(text.starts_with("error: ") && !text.contains("hid"), "{before:?} {url}: {text}");
            }
        }
        assert!(complaint(&["migrat"]).contains("migrat"));
        assert!(complaint(&["--listn", "a"]).contains("--listn"));
        let flag = complaint(&["--redis-pasword=hidden"]);
        assert!(flag.contains("--redis-pasword") && !flag.contains("hidden"), "{flag}");
    }

    #[test]
    fn secrets_that_everybody_can_see_are_told_without_them() {
        let told = |arguments: &[&str]| {
            let mut problems = Problems::default();
            warn_of_secrets(&mut problems, arguments.iter().map(Into::into));
            problems.take_warnings()
        };
        for (arguments, flag) in [
            (&["x", "--jwt-secret", "hidden"][..], "--jwt-secret: "),
            (&["x", "--jwt-secret=hidden"], "--jwt-secret: "),
            (&["x", "sync", "--redis-password", "hidden"], "--redis-password: "),
            (&["x", "--database-url", "postgres://u:hidden@db/app"], "--database-url: "),
            (&["x", "--database-url=host=db password=hidden"], "--database-url: "),
            (&["x", "--database-url=postgres://db/app?password=hidden"], "--database-url: "),
            (&["x", "--redis-url", "redis://:hidden@cache"], "--redis-url: "),
        ] {
            let warnings = told(arguments);
            assert!(warnings.len() == 1 && warnings[0].starts_with(flag) && !warnings[0].contains("hidden"), "{warnings:?}");
        }
        let harmless =
            ["x", "--jwt-secret-file", "f", "--database-url", "postgres://u@db:5432/app", "--redis-url=redis://cache:6379"];
        assert_eq!(told(&harmless), Vec::<String>::new());
    }
}
