//! What a person reads of a run of many steps: a line when a step ends, and a summary at the end.

use crate::{Error, Result};
use std::{
    fmt::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

/// One step that has ended.
#[derive(Debug)]
struct Row {
    name: String,
    took: Duration,
    outcome: Result<(), String>,
}

/// The steps so far.
#[derive(Debug)]
pub struct Report {
    start: Instant,
    rows: Vec<Row>,
}

impl Default for Report {
    fn default() -> Self {
        Self { start: Instant::now(), rows: Vec::new() }
    }
}

impl Report {
    /// Carries out a step; its facts are printed below it.
    ///
    /// # Errors
    /// If the step failed, as it said.
    pub async fn step(&mut self, name: &str, work: impl Future<Output = Result<Vec<String>>>) -> Result<()> {
        let start = Instant::now();
        let outcome = work.await;
        let took = start.elapsed();
        let (verdict, lines) = match &outcome {
            Ok(lines) => ("ok    ", lines.clone()),
            Err(error) => ("FAILED", vec![error.to_string()]),
        };
        println!("{verdict} {name}  [{:.1} s]", took.as_secs_f32());
        for line in lines.iter().flat_map(|text| text.lines()) {
            println!("         {line}");
        }
        let row = Row {
            name: name.to_owned(),
            took,
            outcome: outcome.as_ref().map(drop).map_err(ToString::to_string),
        };
        self.rows.push(row);
        outcome.map(drop)
    }

    /// Whether anything succeeded yet.
    #[must_use]
    pub fn touched(&self) -> bool {
        self.rows.iter().any(|row| row.outcome.is_ok())
    }

    /// All steps in a table, and whether all was well: `end` is how the whole ended.
    #[must_use]
    pub fn summary(&self, end: &Result<()>) -> String {
        let mut text = String::from("\nSummary\n");
        for Row { name, took, outcome } in &self.rows {
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            let _ = writeln!(text, "  {word:<7}{:>7.1} s  {name}", took.as_secs_f32());
        }
        let took = self.start.elapsed().as_secs();
        let failed = self.rows.iter().filter(|row| row.outcome.is_err()).count();
        let _ = match end {
            Ok(()) if failed == 0 => writeln!(text, "All {} steps passed, in {took} s.", self.rows.len()),
            Ok(()) => writeln!(text, "{failed} of {} steps failed.", self.rows.len()),
            Err(error) => {
                let first = error.to_string();
                let first = first.lines().next().unwrap_or_default();
                writeln!(
                    text,
                    "Ended after {} steps, {took} s; what follows was not tried. {first}",
                    self.rows.len()
                )
            }
        };
        text
    }

    /// The exit code: success only if the whole ended well and no step failed.
    #[must_use]
    pub fn exit_code(&self, end: &Result<()>) -> ExitCode {
        let passed = end.is_ok() && !self.rows.is_empty() && self.rows.iter().all(|row| row.outcome.is_ok());
        if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// An error with `why`, unless `holds`.
///
/// # Errors
/// If it does not hold.
pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error(why())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_step_is_named_and_fails_the_whole() {
        let mut report = Report::default();
        report.step("one", async { Ok(vec!["a fact".to_owned()]) }).await.unwrap();
        assert_eq!(report.exit_code(&Ok(())), ExitCode::SUCCESS);
        let end = report.step("two", async { Err(Error("why it failed".to_owned())) }).await;
        assert_eq!(report.exit_code(&end), ExitCode::FAILURE);
        // Also where the caller goes on as if nothing had been.
        assert_eq!(report.exit_code(&Ok(())), ExitCode::FAILURE);
        let text = report.summary(&end);
        assert!(text.contains("FAILED") && text.contains("two") && text.contains("why it failed"), "{text}");
    }

    #[test]
    fn nothing_done_is_no_success() {
        assert_eq!(Report::default().exit_code(&Ok(())), ExitCode::FAILURE);
    }
}
