//! `deploy/man` and `deploy/completions`: a manual page for each program and each command, and what shells complete.
//! Packages install them.

use std::collections::BTreeMap;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::made;

const MAN_FOLDER: &str = "deploy/man";
const COMPLETIONS_FOLDER: &str = "deploy/completions";
/// That of daemons and administrators' tools.
const SECTION: &str = "8";
const STATUSES: [(&str, &str); 4] = [
    ("0", "All is well, or it has ended as it was told to."),
    ("1", "Something went wrong, was found or is left. The last lines say what."),
    ("64", "Settings are wrong. All of them are named."),
    ("78", "A store is not as it is needed. The message says what to do."),
];
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Demands that both folders have what the help of a program says, or writes them where the environment asks for that.
/// Of a program with commands, no setting may be global: pages and completions of a command have what is its own.
///
/// # Panics
/// When they have something else.
pub fn assert_current(command: Command) {
    let name = command.get_name().to_owned();
    let mut command = command.disable_help_subcommand(true);
    made::assert_folder(COMPLETIONS_FOLDER, &name, &completions(&command, &name));
    // Tells commands their whole names.
    command.build();
    let mut pages = BTreeMap::new();
    add_pages(&command, &name, &mut pages);
    made::assert_folder(MAN_FOLDER, &name, &pages);
}

fn completions(command: &Command, name: &str) -> BTreeMap<String, String> {
    let file = |shell: Shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), name, &mut script);
        let script = String::from_utf8(script).expect("names of flags are text");
        match shell {
            Shell::Zsh => (format!("_{name}"), script),
            // In a name with a hyphen, the library takes it for the end of a command in one place, and not in the other.
            Shell::Bash => (format!("{name}.bash"), script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))),
            _ => (format!("{name}.{shell}"), script),
        }
    };
    SHELLS.into_iter().map(file).collect()
}

/// Adds the pages of a program or command and of those below it.
fn add_pages(command: &Command, program: &str, pages: &mut BTreeMap<String, String>) {
    for below in command.get_subcommands() {
        add_pages(below, program, pages);
    }
    let name = command.get_display_name().unwrap_or(program).to_owned();
    let page = if name == program { of_program(command.clone(), program) } else { of_command(command, program) };
    pages.insert(format!("{name}.{SECTION}"), page);
}

/// Returns the page of a program. Its settings are too many for the synopsis.
fn of_program(command: Command, program: &str) -> String {
    let commands = if command.has_subcommands() { " [COMMAND]" } else { "" };
    let usage = format!("{program} [SETTING]...{commands}");
    let command = command.override_usage(usage);
    let mut more = Roff::new();
    more.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in STATUSES {
        more.control("TP", []).text([bold(status)]).text([roman(meaning)]);
    }
    more.control("SH", ["FILES"]).control("TP", []);
    more.text([italic(format!("/etc/view-counter/{program}.env"))]);
    more.text([roman(format!("Where the unit {program}.service of systemd reads its settings, as environment variables."))]);
    more.control("SH", ["SEE ALSO"]);
    let other = if program == "view-ingest" { "view-syncd" } else { "view-ingest" };
    more.text([bold(other), roman(format!("({SECTION})"))]);
    page(command, &more)
}

/// Returns the page of a command, which has its own options only.
fn of_command(command: &Command, program: &str) -> String {
    let reference: [Inline; 2] = [bold(program), roman(format!("({SECTION})"))];
    let mut more = Roff::new();
    more.control("SH", ["SETTINGS"]);
    let [name, section] = reference.clone();
    more.text([roman("It takes all settings of "), name, section, roman(", before or behind its name.")]);
    more.control("SH", ["SEE ALSO"]).text(reference);
    page(command.clone(), &more)
}

/// Returns a page without a version and a date, which would make it another one each time.
fn page(command: Command, more: &Roff) -> String {
    let has_commands = command.has_subcommands();
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let man = Man::new(command.subcommand_help_heading("COMMANDS").subcommand_value_name("COMMAND")).section(SECTION);
    let mut text = Vec::new();
    let mut write = || -> std::io::Result<()> {
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if has_commands {
            man.render_subcommands_section(&mut text)?;
        }
        man.render_options_section(&mut text)?;
        more.to_writer(&mut text)
    };
    write().expect("memory takes all");
    // Each section begins like a page, of which there is only one.
    let beginning = Roff::new().render();
    let sections = String::from_utf8(text).expect("help is text").replace(&beginning, "");
    format!("{beginning}.TH {name} {SECTION} \"\" view-counter \"Unique post views\"\n{sections}")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        let url = Arg::new("url").long("url").env("URL").help("The URL").help_heading("Redis");
        let list = Command::new("list").about("Show them").arg(Arg::new("post").long("post").help("Only of one post"));
        Command::new("daemon").about("Works").arg(url).subcommand(Command::new("dead").about("See to them").subcommand(list))
    }

    #[test]
    fn each_command_has_a_page_of_its_own() {
        let mut command = command().disable_help_subcommand(true);
        command.build();
        let mut pages = BTreeMap::new();
        add_pages(&command, "daemon", &mut pages);
        assert_eq!(pages.keys().collect::<Vec<_>>(), ["daemon-dead-list.8", "daemon-dead.8", "daemon.8"]);
        let [list, daemon] = [&pages["daemon-dead-list.8"], &pages["daemon.8"]];
        assert!(daemon.contains("[SETTING]... [COMMAND]") && daemon.contains(".SH REDIS"), "{daemon}");
        assert!(list.contains("daemon dead list") && list.contains(r"\-\-post"), "{list}");
        assert!(!list.contains(r"\-\-url"), "{list}");
    }

    #[test]
    fn shells_complete_commands_and_flags() {
        let files = completions(&command(), "daemon");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["_daemon", "daemon.bash", "daemon.fish"]);
        for (name, script) in files {
            assert!(["url", "dead", "list", "post"].iter().all(|word| script.contains(word)), "{name}: {script}");
        }
    }

    #[test]
    fn bash_completes_what_is_below_a_command_of_a_program_with_a_hyphen() {
        let script = completions(&command().name("a-daemon"), "a-daemon").remove("a-daemon.bash").unwrap();
        let ask = "COMP_WORDS=(a-daemon dead l); COMP_CWORD=2; _a__daemon a-daemon l dead; echo \"${COMPREPLY[*]}\"";
        let answer = std::process::Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "list\n");
    }
}
