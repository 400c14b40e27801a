//! `docs/configuration.md`: its tables are made from what clap knows about the programs, and tests compare them with
//! it.
//!
//! The file has a section for what both programs take, which stands under headings of its own in their help, and a
//! section for each program. What surrounds the sections is written by hand.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::made;

const FILE: &str = "docs/configuration.md";
/// How wide text is. Rows of tables cannot be broken.
const WIDTH: usize = 100;

/// Demands that the file has what the help of a program says, or writes it where the environment asks for that.
///
/// # Panics
/// When it has something else.
pub fn assert_documented(mut command: Command) {
    // Hands the flags on to the subcommands, and leaves out of them what is the program's.
    command.build();
    let text = std::fs::read_to_string(made::path(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let text = with_section(&text, command.get_name(), &of_program(&command));
    made::assert_file(FILE, &with_section(&text, "both", &of_both(&command)));
}

/// Returns a document's text with another section between its marks.
///
/// # Panics
/// When it has no such marks.
pub fn with_section(text: &str, name: &str, section: &str) -> String {
    let [begin, end] = ["begin", "end"].map(|side| format!("<!-- {name}: {side} -->\n"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.unwrap_or_else(|| panic!("there is no section {name}"));
    format!("{before}{begin}\n{section}\n\n{end}{after}")
}

/// Returns the settings that stand under headings, each with a table of its own.
fn of_both(command: &Command) -> String {
    let mut headings: Vec<&str> = command.get_arguments().filter_map(Arg::get_help_heading).collect();
    headings.dedup();
    let sections = headings.iter().map(|heading| {
        let of_heading = |arg: &&Arg| arg.get_help_heading() == Some(heading);
        format!("### {heading}\n\n{}", settings(command.get_arguments().filter(of_heading)))
    });
    sections.collect::<Vec<_>>().join("\n\n")
}

/// Returns the settings of one program alone, and its commands.
fn of_program(command: &Command) -> String {
    let mut text = settings(command.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_help_heading().is_none()));
    let commands = commands(command, "");
    if commands.is_empty() {
        return text;
    }
    text += "\n\n### Commands\n\nAll of them take all settings, before or behind their name.\n\n| command | meaning |\n|---|---|";
    for (name, command) in &commands {
        text += &format!("\n| {name} | {} |", cell(&command.get_about().map(ToString::to_string).unwrap_or_default()));
    }
    for alike in commands.chunk_by(|one, next| options(one.1) == options(next.1)) {
        let options = options(alike[0].1);
        if !options.is_empty() {
            let names: Vec<_> = alike.iter().map(|(name, _)| name.as_str()).collect();
            text += &format!("\n\n| of {} | meaning |\n|---|---|{options}", names.join(", "));
        }
    }
    text
}

/// Returns a table of settings, and below it what is too long for it.
fn settings<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = "| flag | environment | default | meaning |\n|---|---|---|---|".to_owned();
    let mut notes = String::new();
    for arg in args {
        let flag = format!("`--{}`", arg.get_long().expect("a setting has a flag"));
        let variable = arg.get_env().unwrap_or_else(|| panic!("{flag} has no environment variable")).to_string_lossy();
        let help = arg.get_help().unwrap_or_else(|| panic!("{flag} has no help")).to_string();
        let (meaning, default) = default_in_words(&help);
        let default = match arg.get_default_values().first() {
            Some(default) => format!("`{}`", default.to_string_lossy()),
            None if default.is_empty() => "–".to_owned(),
            None => default.to_owned(),
        };
        write!(table, "\n| {flag} | `{variable}` | {default} | {} |", cell(meaning)).expect("a String takes all");
        let long = arg.get_long_help().map(ToString::to_string).unwrap_or_default();
        for (number, paragraph) in long.split("\n\n").skip(1).enumerate() {
            let paragraph = if number == 0 { format!("{flag}: {paragraph}") } else { paragraph.to_owned() };
            notes += &format!("\n\n{}", wrapped(&paragraph));
        }
    }
    table + &notes
}

/// Returns the commands with their whole names, those of several words included.
fn commands<'a>(command: &'a Command, before: &str) -> Vec<(String, &'a Command)> {
    let own = command.get_subcommands().filter(|command| command.get_name() != "help");
    let found = own.flat_map(|command| {
        let name = format!("{before}{}", command.get_name());
        if command.has_subcommands() { commands(command, &format!("{name} ")) } else { vec![(format!("`{name}`"), command)] }
    });
    found.collect()
}

/// Returns rows of what a command alone takes.
fn options(command: &Command) -> String {
    let is_own = |arg: &&Arg| arg.get_env().is_none() && !matches!(arg.get_id().as_str(), "help" | "version");
    let rows = command.get_arguments().filter(is_own).map(|arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        format!("\n| `{arg}` | {} |", cell(&help))
    });
    rows.collect()
}

/// Separates a help text from a default in words at its end.
fn default_in_words(help: &str) -> (&str, &str) {
    let parts = help.strip_suffix(']').and_then(|help| help.split_once(" [default: "));
    parts.unwrap_or((help, ""))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Breaks a paragraph into lines.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let arg = |name: &'static str| Arg::new(name).long(name);
        let one = |name: &'static str, about: &'static str| Command::new(name).about(about).arg(arg("json").help("In JSON"));
        Command::new("daemon")
            .arg(arg("port").env("PORT").default_value("1").help("The port").long_help("The port\n\nA | B\n\nAnd C"))
            .arg(arg("rate").env("RATE").help("The rate [default: no limit]"))
            .arg(arg("url").env("URL").help("The URL").help_heading("Redis"))
            .subcommand(Command::new("dead").subcommands([one("list", "Show them"), one("drop", "Remove them")]))
    }

    #[test]
    fn a_programs_own_settings_and_commands_are_told() {
        let mut command = command();
        command.build();
        let expected = "\
            | flag | environment | default | meaning |\n\
            |---|---|---|---|\n\
            | `--port` | `PORT` | `1` | The port |\n\
            | `--rate` | `RATE` | no limit | The rate |\n\n\
            `--port`: A | B\n\n\
            And C\n\n\
            ### Commands\n\n\
            All of them take all settings, before or behind their name.\n\n\
            | command | meaning |\n\
            |---|---|\n\
            | `dead list` | Show them |\n\
            | `dead drop` | Remove them |\n\n\
            | of `dead list`, `dead drop` | meaning |\n\
            |---|---|\n\
            | `--json <json>` | In JSON |";
        assert_eq!(of_program(&command), expected);
        let both =
            "### Redis\n\n| flag | environment | default | meaning |\n|---|---|---|---|\n| `--url` | `URL` | – | The URL |";
        assert_eq!(of_both(&command), both);
    }

    #[test]
    fn no_value_of_the_environment_gets_into_the_file() {
        // Cargo sets this one for every test.
        let arg = Arg::new("secret").long("secret").env("CARGO_MANIFEST_DIR").help("A secret");
        let mut command = Command::new("daemon").arg(arg);
        command.build();
        assert!(!of_program(&command).contains(env!("CARGO_MANIFEST_DIR")), "{}", of_program(&command));
    }

    #[test]
    fn a_section_replaces_the_one_before() {
        let text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        assert_eq!(with_section(text, "x", "new"), "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n");
    }

    #[test]
    fn lines_are_broken_between_words() {
        let long = wrapped(&"word ".repeat(100));
        assert!(long.lines().all(|line| line.len() <= WIDTH && !line.ends_with(' ')), "{long}");
        assert_eq!(long.split_whitespace().count(), 100);
    }
}
