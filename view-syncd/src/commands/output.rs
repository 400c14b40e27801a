//! What commands tell on standard output: JSON for programs, and for people lines that fit a terminal of 100 columns.

use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::bail;
use indicatif::HumanCount;
use serde::Serialize;

/// The columns of a terminal.
const WIDTH: usize = 100;
/// What stands between two columns of a table.
const GAP: usize = 2;

/// Prints a report: as one line of JSON, or as the text.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn print(is_json: bool, report: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let text = if is_json { serde_json::to_string(report)? } else { text() };
    let mut output = io::stdout().lock();
    if writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush()).is_err() {
        bail!("standard output is closed");
    }
    Ok(())
}

/// Returns a time in words, in its two largest units: `400ms`, `12s`, `3m 12s`, `2h 5m`, `3days 4h`.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let rounded = match seconds {
        0 => Duration::from_millis(u64::from(age.subsec_millis()) / 100 * 100),
        1..3_600 => Duration::from_secs(seconds),
        3_600..86_400 => Duration::from_secs(seconds / 60 * 60),
        _ => Duration::from_secs(seconds / 3_600 * 3_600),
    };
    let text = humantime::format_duration(rounded).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Returns a moment that is given in milliseconds since 1970, in whole seconds of UTC.
pub(crate) fn moment(ms: i64) -> String {
    let moment = UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// Returns a number with commas between its thousands.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Returns `1 entry`, `2 entries`, `1,000 entries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Returns rows of cells one below the other, each column as wide as its widest cell. The last one takes the rest of
/// the line, and goes on below itself.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.saturating_sub(1)).map(width).collect();
    let indent: usize = widths.iter().map(|width| width + GAP).sum();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<0$}", width + GAP));
        }
        let last = row.last().map_or("", String::as_str);
        line.push_str(&wrapped(last, indent));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns a text whose lines begin at a column, and end before the terminal does. A longer word stays whole: it may be
/// a part of a statement that is to be copied.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent);
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_two_largest_units() {
        for (ms, expected) in [
            (40, "0s"),
            (430, "400ms"),
            (1_900, "1s"),
            (59_999, "59s"),
            (192_400, "3m 12s"),
            (3_600_000, "1h"),
            (7_541_000, "2h 5m"),
            (86_400_000, "1day"),
            (273_841_000, "3days 4h"),
            (40_000_000_000, "1year 3months"),
        ] {
            assert_eq!(age(Duration::from_millis(ms)), expected, "{ms}");
        }
        assert_eq!(moment(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(counted(1, "entry", "entries") + &counted(1_234_567, " entry", " entries"), "1 entry1,234,567  entries");
    }

    #[test]
    fn a_table_fits_the_terminal_and_breaks_only_its_last_column() {
        let long = "word ".repeat(40);
        let rows = [["ok", "redis", "is there"], ["warn", "disk", long.as_str()]].map(|row| row.map(str::to_owned));
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok    redis  is there");
        assert!(lines[1].starts_with("warn  disk   word word") && lines[2].starts_with("             word"), "{text}");
        assert!(lines.len() == 4 && lines.iter().all(|line| line.chars().count() <= WIDTH && !line.ends_with(' ')), "{text}");
    }

    #[test]
    fn a_word_that_is_wider_than_the_terminal_stays_whole() {
        let word = "x".repeat(200);
        assert_eq!(wrapped(&format!("run {word} now"), 4), format!("run\n    {word}\n    now"));
    }
}
