//! The results as a document for people.

use super::{Figure, Goal, Part, Results, Table};

/// Returns the whole document.
pub(crate) fn document(results: &Results) -> String {
    let mut text =
        "# Results\n\nWritten by `deploy/bench`; see [results.json](results.json) for every single measurement.\n".to_owned();
    for (name, part) in results.in_order() {
        let how = format!("`deploy/bench {name}`. {}", part.how);
        text += &format!("\n## {}\n\n{}\n\n{}\n", part.title, wrapped(&how), wrapped(&part.machine.to_string()));
        text += &body(part);
    }
    text
}

/// Breaks a paragraph into lines of at most a hundred characters. A longer word has a line of its own.
pub(crate) fn wrapped(paragraph: &str) -> String {
    const WIDTH: usize = 100;
    let (mut text, mut width) = (String::new(), 0);
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

/// Returns a part without its head.
pub(crate) fn body(part: &Part) -> String {
    let mut text = String::new();
    if !part.figures.is_empty() {
        text += &format!("\n{}", figures(&part.figures, part.machine.was_busy()));
    }
    for wanted in &part.tables {
        text += &format!("\n### {}\n\n{}", wanted.title, table(wanted));
    }
    for chart in &part.charts {
        text += &format!("\n![{}]({})\n", chart.title(), chart.file());
    }
    text
}

/// Returns a table of figures with their goals. Of a machine that had other work to do, no number is held against a goal.
pub(crate) fn figures(figures: &[Figure], was_busy: bool) -> String {
    let rows = figures.iter().map(|figure| {
        let goal = match figure.goal {
            Some(Goal::AtMost(limit)) => format!("≤ {}", number(limit)),
            Some(Goal::AtLeast(limit)) => format!("≥ {}", number(limit)),
            None => String::new(),
        };
        let verdict = match figure.holds() {
            Some(_) if was_busy => "spoiled",
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        vec![figure.what.clone(), format!("{} {}", number(figure.value), figure.unit).trim().to_owned(), goal, verdict.to_owned()]
    });
    let columns = ["figure", "measured", "goal", ""].map(str::to_owned).to_vec();
    table(&Table { title: String::new(), columns, rows: rows.collect() })
}

/// Returns a table without its title. Columns of numbers are aligned to the right.
pub(crate) fn table(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let is_number = |place: usize| {
        // The first column names its row, and a name may begin with a digit.
        if place == 0 {
            return false;
        }
        let mut cells = table.rows.iter().filter_map(|row| row.get(place)).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.starts_with(|first: char| first.is_ascii_digit()))
    };
    let rule = (0..table.columns.len()).map(|place| if is_number(place) { "---:" } else { "---" }.to_owned()).collect::<Vec<_>>();
    let mut text = line(&table.columns) + &line(&rule);
    text.extend(table.rows.iter().map(|row| line(row)));
    text
}

/// Three digits that mean something, and thousands set apart.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if size >= 99.95 || size == 0.0 || size.fract() == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{size:.digits$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}{grouped}{fraction}", if value < 0.0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_mean_something() {
        let cases =
            [(0.0, "0"), (0.8, "0.80"), (4.0, "4"), (9.99, "9.99"), (12.34, "12.3"), (99.96, "100"), (34_812.4, "34,812")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(1_000_000.0), "1,000,000");
        assert_eq!(number(-2.5), "-2.50");
    }

    #[test]
    fn a_paragraph_is_at_most_a_hundred_characters_wide() {
        let words = vec!["µs"; 70].join(" ");
        let text = wrapped(&words);
        assert_eq!(text.lines().map(|line| line.chars().count()).collect::<Vec<_>>(), [98, 98, 11]);
        assert_eq!(text.replace('\n', " "), words);
    }

    #[test]
    fn a_table_aligns_numbers_and_not_names() {
        let columns = vec!["server".to_owned(), "req/s".to_owned()];
        let rows = vec![vec!["1 floor".to_owned(), "60,000".to_owned()], vec!["2 ours".to_owned(), String::new()]];
        let text = table(&Table { title: String::new(), columns, rows });
        assert_eq!(text, "| server | req/s |\n| --- | ---: |\n| 1 floor | 60,000 |\n| 2 ours |  |\n");
    }

    #[test]
    fn a_missed_goal_is_said() {
        let missed = Figure::new("CPU", 5.0, "µs").goal(Goal::AtMost(4.0));
        assert!(figures(std::slice::from_ref(&missed), false).contains("| CPU | 5 µs | ≤ 4 | **missed** |"));
        assert!(figures(&[missed], true).contains("| CPU | 5 µs | ≤ 4 | spoiled |"));
    }
}
