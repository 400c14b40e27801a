//! The commands of the chapter on an older service, in the order of the document.

const CHAPTER: &str = "\n## From an array of viewers, step by step\n";
const FENCE: &str = "```";

/// A command of the chapter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Settings for all that follows.
    Export(Vec<(String, String)>),
    /// Services to be started, or stopped.
    Services { verb: String, names: Vec<String> },
    /// Commands of a shell, and what the document shows of their output.
    Shell { text: String, shown: Option<String> },
    /// Statements.
    Sql(String),
}

/// Returns the steps of the chapter.
///
/// # Panics
/// When the document has no such chapter.
pub(super) fn steps(document: &str) -> Vec<Step> {
    let chapter = document.split(CHAPTER).nth(1).expect("the document has the chapter");
    let chapter = chapter.split("\n## ").next().unwrap_or(chapter);
    let mut steps = Vec::new();
    let mut block: Option<(&str, Vec<&str>)> = None;
    for line in chapter.lines() {
        let text = line.trim_start();
        match (text.strip_prefix(FENCE), &mut block) {
            (Some(language), None) => block = Some((language, Vec::new())),
            (Some(_), Some(_)) => {
                let (language, lines) = block.take().unwrap_or_default();
                add(&mut steps, language, &lines);
            }
            (None, Some((_, lines))) => lines.push(text),
            (None, None) => {}
        }
    }
    steps
}

fn add(steps: &mut Vec<Step>, language: &str, lines: &[&str]) {
    let text = lines.join("\n");
    match (language, steps.last_mut()) {
        ("sql", _) => steps.push(Step::Sql(text)),
        ("sh", _) => steps.push(shell(text)),
        ("", Some(Step::Shell { shown, .. })) => *shown = Some(text),
        other => panic!("what is to be done with {other:?}?"),
    }
}

fn shell(text: String) -> Step {
    if let Some(settings) = text.strip_prefix("export ") {
        let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        return Step::Export(settings.split_whitespace().filter_map(pair).collect());
    }
    if let Some(command) = text.strip_prefix("sudo systemctl ") {
        let mut words = command.split_whitespace().map(str::to_owned);
        return Step::Services { verb: words.next().unwrap_or_default(), names: words.collect() };
    }
    Step::Shell { text, shown: None }
}

#[cfg(test)]
mod tests {
    use super::{Step, steps};

    #[test]
    fn commands_are_read_with_what_is_shown_of_their_output() {
        let document = "# A\n```sh\nnot this\n```\n## From an array of viewers, step by step\n1. First:\n\n   ```sh\n   export A=1 B=2\n   \
            ```\n   ```sh\n   echo x \\\n     y\n   ```\n\n   ```\n   x y\n   ```\n```sh\nsudo systemctl stop a b\n```\n```sql\nSELECT 1;\n\
            ```\n## Another\n```sh\nnor this\n```\n";
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let expected = [
            Step::Export(vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]),
            Step::Shell { text: "echo x \\\ny".to_owned(), shown: Some("x y".to_owned()) },
            Step::Services { verb: "stop".to_owned(), names: words(&["a", "b"]) },
            Step::Sql("SELECT 1;".to_owned()),
        ];
        assert_eq!(steps(document), expected);
    }
}
