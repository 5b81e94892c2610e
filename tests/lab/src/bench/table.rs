//! The report as a table for a terminal and for a page of text.

use super::contestant::{AGENT, Phase};
use super::growth::Growth;
use super::report::Report;
use super::statistics::Summary;
use super::stopwatch::Taken;

/// What is written where nothing was measured.
const NOTHING: &str = "-";

/// What stands in a cell of a contestant's column.
type Cell<'a> = &'a dyn Fn(&'static str, Phase) -> Option<String>;

/// The whole report in words and columns.
pub fn text(report: &Report) -> String {
    let median = |of: fn(&Taken) -> f64| {
        move |name, phase| Some(number(report.summary(name, phase, of)?.median))
    };
    let counts = |name, phase| {
        let counted = report.counted(name, phase)?;
        let numbers = [counted.processes, counted.programs, counted.fsyncs];
        Some(numbers.map(|number| number.to_string()).join(" / "))
    };
    let grids: [(&str, Cell); 5] = [
        ("Seconds: median (least to most)", &|name, phase| {
            report
                .summary(name, phase, |taken| taken.seconds)
                .map(three)
        }),
        (
            "Times as long as the agent, in pairs of one run: median (least to most)",
            &|name, phase| {
                report
                    .ratio(name, phase)
                    .filter(|_| name != AGENT)
                    .map(three)
            },
        ),
        (
            "Seconds of processors, of the program and all that it started, without daemons: median",
            &median(|taken| taken.processor),
        ),
        (
            "MiB of the largest process: median",
            &median(|taken| taken.largest),
        ),
        (
            "Processes begun / programs started / fsyncs, in a run of their own that is not measured",
            &counts,
        ),
    ];
    let mut text = head(report);
    for (title, cell) in grids {
        text += &format!("\n{title}\n\n{}", grid(report, cell));
    }
    text + &floor(report) + &growth(report) + &notes(report)
}

fn head(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "The role {} on guests of {}, {} runs each, in turn, each on a guest of its own.\n\
         {}, {} processors, {} GiB, Linux {}; load {} at the beginning, {} at the end.\n",
        report.role,
        report.release,
        report.runs,
        machine.processor,
        machine.processors,
        machine.memory,
        machine.kernel,
        machine.load,
        report.load_at_the_end,
    );
    for (name, version) in report.versions() {
        let version = version.split_whitespace().collect::<Vec<_>>().join(" ");
        text += &format!("{name:<10}  {version}\n");
    }
    text
}

/// A line for each contestant, a column for each phase.
fn grid(report: &Report, cell: Cell) -> String {
    let mut rows = vec![
        [""].into_iter()
            .map(str::to_owned)
            .chain(Phase::ALL.map(|phase| phase.to_string()))
            .collect::<Vec<String>>(),
    ];
    for contestant in &report.contestants {
        let name = contestant.name;
        let mut row = vec![name.to_owned()];
        row.extend(Phase::ALL.map(|phase| match report.faults(name, phase) {
            Some(_) => "FAILED".to_owned(),
            None => cell(name, phase).unwrap_or_else(|| NOTHING.to_owned()),
        }));
        rows.push(row);
    }
    aligned(&rows)
}

/// Columns as wide as what stands in them; the first to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (value, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("  {value:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What the reads of an apply with nothing to change take alone.
fn floor(report: &Report) -> String {
    let Some(floor) = &report.floor else {
        return String::new();
    };
    format!(
        "\nThe agent with nothing to change above its floor, a process that makes its {} reads and sends its {} messages to\n\
         D-Bus at once, seconds: median (least to most)\n\n{}",
        floor.reads,
        floor.messages,
        aligned(&[
            vec!["floor".to_owned(), three(floor.floor)],
            vec!["agent".to_owned(), three(floor.agent)],
            vec!["times".to_owned(), three(floor.ratio)],
        ])
    )
}

/// A line for each size of the content.
fn growth(report: &Report) -> String {
    let Some(growth) = &report.growth else {
        return String::new();
    };
    let mut rows = vec![vec!["files".to_owned()]];
    rows[0].extend(Growth::OF.map(str::to_owned));
    for (files, both) in &growth.sizes {
        let mut row = vec![files.to_string()];
        row.extend(both.map(three));
        rows.push(row);
    }
    let mut last = vec!["milliseconds a file".to_owned()];
    last.extend(
        growth
            .slopes()
            .map(|slope| slope.map_or(NOTHING.to_owned(), |one| number(one * 1000.0))),
    );
    rows.push(last);
    format!(
        "\nThe agent by the files of its content, seconds: median (least to most)\n\n{}",
        aligned(&rows)
    )
}

/// Why a cell is empty, and who is not in the table.
fn notes(report: &Report) -> String {
    let mut notes = Vec::new();
    for contestant in &report.contestants {
        for phase in Phase::ALL {
            let name = contestant.name;
            if let Some(why) = report.left(name, phase) {
                notes.push(format!("{name}, {phase}: {why}"));
            }
            for fault in report.faults(name, phase).into_iter().flatten() {
                notes.push(format!("{name} FAILED, {phase}: {fault}"));
            }
        }
    }
    notes.extend(
        report
            .left_out()
            .iter()
            .map(|(name, why)| format!("not here: {name}: {why}")),
    );
    match notes.is_empty() {
        true => String::new(),
        false => format!("\n{}\n", notes.join("\n")),
    }
}

fn three(summary: Summary) -> String {
    let numbers = [summary.median, summary.least, summary.most].map(number);
    format!("{} ({} to {})", numbers[0], numbers[1], numbers[2])
}

/// Three digits that count, whatever the size.
fn number(value: f64) -> String {
    let places = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let all = [0.0052, 0.123, 1.234, 12.34, 1234.5].map(number);
        assert_eq!(all, ["0.0052", "0.123", "1.23", "12.3", "1234"]);
    }

    #[test]
    fn the_table_names_machine_versions_and_times() {
        let text = text(&sample());
        for part in [
            "a processor",
            "shell 1.0",
            "1.00 (0.500 to 1.50)",
            "50.0 (50.0 to 50.0)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    }
}
