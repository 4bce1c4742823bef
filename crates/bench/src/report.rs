//! The figures of a run, as JSON and as a table.

use super::measure::Spread;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write as _, fs};

/// One measured run of a scenario. What a scenario does not show is absent.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The scenario's letter and name.
    pub scenario: String,
    /// Settled robots beside those that are deleted.
    pub settled: usize,
    /// Robots that are deleted.
    pub deletions: usize,
    /// Ends of deletions in a second, from the first to the last.
    pub deletions_per_second: Option<f64>,
    /// That, as a share of the quota.
    pub share_of_quota: Option<f64>,
    /// That, as a share of the smaller of the quota and the floor's rate.
    pub share_of_limit: Option<f64>,
    /// Calls in a second at the room engine, from the first to the last: robots that leave their rooms.
    pub calls_per_second: Option<f64>,
    /// That, as a share of the smaller of the quota and the floor's rate.
    pub calls_share_of_limit: Option<f64>,
    /// The most calls of one SDKAppID in any sliding second, as the room engine saw them.
    pub most_calls_in_a_second: Option<usize>,
    /// Calls for each deletion.
    pub calls_per_deletion: Option<f64>,
    /// Calls that the room engine saw.
    pub calls: usize,
    /// Writes to RoomRobots for each life, by what they changed.
    pub writes_per_life: BTreeMap<String, f64>,
    /// All other writes.
    pub other_writes: BTreeMap<String, usize>,
    /// Writes that the API server refused.
    pub refused_writes: BTreeMap<String, usize>,
    /// CPU time of the operator's process for each life, in milliseconds.
    pub cpu_ms_per_life: Option<f64>,
    /// That, as a multiple of the floor's.
    pub cpu_of_floor: Option<f64>,
    /// Resident memory when all is done, in bytes.
    pub rss_steady: Option<u64>,
    /// The most resident memory, in bytes.
    pub rss_peak: Option<u64>,
    /// From the request for a single deletion to its end, in milliseconds, one at a time.
    pub single: Option<Spread>,
    /// From the operator's start until it was ready, in milliseconds.
    pub ready_ms: Option<f64>,
    /// CPU time until then, in milliseconds.
    pub cpu_ms_until_ready: Option<f64>,
    /// Robots taken in charge in a second.
    pub accepted_per_second: Option<f64>,
}

/// A whole run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The operator's binary, in bytes.
    pub binary_bytes: u64,
    /// What was measured, in this order.
    pub rows: Vec<Row>,
    /// The engine alone, without any input or output.
    pub engine: Vec<EngineRow>,
}

/// The engine alone.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineRow {
    /// Settled robots.
    pub settled: usize,
    /// Applications.
    pub applications: usize,
    /// Memory for each robot, in bytes; absent where there are too few to tell.
    pub bytes_per_robot: Option<f64>,
    /// Time of the engine's task for each deletion, in microseconds.
    pub micros_per_deletion: f64,
}

/// Where it was measured.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// What they are.
    pub cpu: String,
    /// Memory, in bytes.
    pub memory: u64,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal");
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: field("/proc/cpuinfo", "model name"),
            memory: kib.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024,
        }
    }
}

/// A column: its head, and what it shows of a row.
type Column = (&'static str, fn(&Row) -> String);

const COLUMNS: [Column; 16] = [
    ("scenario", |row| row.scenario.clone()),
    ("settled", |row| row.settled.to_string()),
    ("deleted", |row| row.deletions.to_string()),
    ("del/s", |row| number(row.deletions_per_second, 1)),
    ("calls/s", |row| number(row.calls_per_second, 1)),
    ("% quota", |row| percent(row.share_of_quota)),
    ("% limit, calls", |row| percent(row.calls_share_of_limit)),
    ("% limit", |row| percent(row.share_of_limit)),
    ("most/s", |row| row.most_calls_in_a_second.map_or_else(String::new, |most| most.to_string())),
    ("calls/del", |row| number(row.calls_per_deletion, 3)),
    ("writes/life", |row| {
        let writes = row.writes_per_life.values().sum::<f64>();
        if row.writes_per_life.is_empty() { String::new() } else { number(Some(writes), 3) }
    }),
    ("CPU ms/life", |row| number(row.cpu_ms_per_life, 2)),
    ("x floor", |row| number(row.cpu_of_floor, 2)),
    ("RSS MB", |row| match (row.rss_steady, row.rss_peak) {
        (Some(steady), Some(peak)) => format!("{}, peak {}", megabytes(steady), megabytes(peak)),
        _ => row.rss_peak.map_or_else(String::new, |peak| format!("peak {}", megabytes(peak))),
    }),
    ("single ms p50/p99/max", |row| {
        row.single.map_or_else(String::new, |one| format!("{:.1}/{:.1}/{:.1}", one.p50, one.p99, one.max))
    }),
    ("ready ms", |row| number(row.ready_ms, 0)),
];

impl Report {
    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let Machine { cores, cpu, memory } = &self.machine;
        let mut text = format!(
            "{cores} cores of {cpu}, {} MB; the operator's binary has {:.2} MB\n\n",
            megabytes(*memory),
            float(self.binary_bytes) / 1e6
        );
        let cells = self.rows.iter().map(|row| COLUMNS.map(|(_, show)| show(row)));
        write_table(&mut text, COLUMNS.map(|(head, _)| head.to_owned()), cells);
        for row in &self.rows {
            let mut notes = Vec::new();
            notes.extend(row.writes_per_life.iter().map(|(what, count)| format!("{count:.3} {what}")));
            notes.extend(row.other_writes.iter().map(|(what, count)| format!("{count} x {what}")));
            notes.extend(row.refused_writes.iter().map(|(what, count)| format!("refused {count} x {what}")));
            if let Some(rate) = row.accepted_per_second {
                notes.push(format!("taken in charge: {rate:.0}/s"));
            }
            if let Some(cpu) = row.cpu_ms_until_ready {
                notes.push(format!("CPU until ready: {cpu:.0} ms"));
            }
            if !notes.is_empty() {
                let _ = writeln!(text, "  {}, {} settled: {}", row.scenario, row.settled, notes.join(", "));
            }
        }
        if !self.engine.is_empty() {
            text.push('\n');
            let head = ["engine alone", "applications", "bytes/robot", "us/deletion"].map(str::to_owned);
            let cells = self.engine.iter().map(|row| {
                [
                    row.settled.to_string(),
                    row.applications.to_string(),
                    number(row.bytes_per_robot, 0),
                    format!("{:.1}", row.micros_per_deletion),
                ]
            });
            write_table(&mut text, head, cells);
        }
        text
    }
}

fn write_table<const N: usize>(
    text: &mut String,
    head: [String; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let all: Vec<[String; N]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in &all {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:>width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{:.1}", value * 100.0))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", float(bytes) / 1e6)
}

/// Bytes as a float, exact up to four petabytes.
#[allow(clippy::cast_precision_loss, reason = "no machine has that much")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
