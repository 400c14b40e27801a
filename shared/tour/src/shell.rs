//! Commands: those that people may repeat in a terminal, and programs whose success is all that matters.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// The environment that a command has beside the caller's own.
pub(crate) type Environment = BTreeMap<String, String>;

/// What a command has printed.
pub(crate) struct Output {
    text: String,
    succeeded: bool,
}

impl Output {
    /// Both streams without the last end of line, and the exit status where it is not 0.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the exit status is 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Returns a field of a JSON object as text; nothing where there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        field(&self.json(), name)
    }

    /// Returns the output as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// Returns a field of a JSON object as text; nothing where there is none.
pub(crate) fn field(object: &Value, name: &str) -> String {
    match &object[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Runs the very text of a command in a shell.
pub(crate) async fn run(command: &str, environment: &Environment) -> Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec 2>&1\n{command}")).envs(environment);
    let output = output(own_settings(&mut shell)).await;
    let mut text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if let Some(status) = output.status.code().filter(|status| *status != 0) {
        text += &format!(" (exit status {status})");
    }
    Output { text, succeeded: output.status.success() }
}

/// Runs a program. Its output is an error's reason.
///
/// # Errors
/// When the program does not succeed.
pub(crate) async fn succeeds(command: &mut Command) -> Result<(), String> {
    let output = output(own_settings(command)).await;
    if output.status.success() {
        return Ok(());
    }
    let streams = [output.stdout, output.stderr].concat();
    Err(format!("{}:\n{}", output.status, String::from_utf8_lossy(&streams).trim_end()))
}

/// Runs a program until it ends, and returns its output. It ends with this process.
///
/// # Panics
/// When the program cannot be started.
pub(crate) async fn output(command: &mut Command) -> std::process::Output {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Quotes a word for a shell, where it has to be.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@=+,%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Settings of the caller's own would lead psql to another server, and curl to a proxy.
fn own_settings(command: &mut Command) -> &mut Command {
    let given: Vec<_> = command.as_std().get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") && !given.contains(&name) {
            command.env_remove(name);
        }
    }
    command.env("PSQLRC", "/dev/null").env("PAGER", "cat").env("no_proxy", "127.0.0.1").env("NO_PROXY", "127.0.0.1")
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::{Environment, quoted, run, succeeds};

    #[tokio::test]
    async fn a_command_has_its_variables_and_both_streams_and_tells_its_failure() {
        let environment = Environment::from([("WORD".to_owned(), "it is".to_owned())]);
        let output = run("echo \"$WORD\"; echo wrong >&2; exit 3", &environment).await;
        assert_eq!(output.text(), "it is\nwrong (exit status 3)");
        assert!(!output.succeeded());
    }

    #[tokio::test]
    async fn fields_of_an_answer_are_text_whatever_they_are() {
        let output = run(r#"echo '{"status":"counted","viewsCount":42}'"#, &Environment::new()).await;
        assert_eq!([output.field("status"), output.field("viewsCount"), output.field("error")], ["counted", "42", ""]);
        assert_eq!(run("echo nothing", &Environment::new()).await.field("status"), "");
    }

    #[tokio::test]
    async fn the_output_of_a_program_is_the_reason_of_its_failure() {
        assert_eq!(succeeds(&mut Command::new("true")).await, Ok(()));
        let failed = succeeds(Command::new("sh").args(["-c", "echo so; echo what >&2; exit 2"])).await;
        assert_eq!(failed, Err("exit status: 2:\nso\nwhat".to_owned()));
    }

    #[test]
    fn a_quoted_word_is_one_word_for_a_shell() {
        assert_eq!(quoted("redis://default:1f@127.0.0.1:6379/0"), "redis://default:1f@127.0.0.1:6379/0");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
