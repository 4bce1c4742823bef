//! Other programs, run as a person runs them: their words are the result, or the error.

use crate::{Error, Result};
use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Command, Stdio},
};

/// A program with what is the same at every call.
#[derive(Clone, Debug)]
pub struct Tool {
    program: String,
    hint: String,
    before: Vec<String>,
}

impl Tool {
    /// `hint` says what to do where the program is missing.
    #[must_use]
    pub fn new(program: &str, hint: &str) -> Self {
        Self { program: program.to_owned(), hint: hint.to_owned(), before: Vec::new() }
    }

    /// The same with arguments that stand before all others.
    #[must_use]
    pub fn with(mut self, args: &[&str]) -> Self {
        self.before.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// A command that is not started yet.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).args(args).stdin(Stdio::null());
        command
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// If it cannot be run or fails; its words are in the error.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String> {
        self.feed(args, "")
    }

    /// Runs it with `input`.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn feed<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<String> {
        let (status, out, err) = self.outcome(args, input)?;
        if status {
            return Ok(out);
        }
        let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        Err(Error::new(format!("{} {}", self.program, args.join(" ")), format!("{err}{out}").trim()))
    }

    /// Runs it and returns whether it succeeded, what it printed, and its complaints.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn outcome<S: AsRef<OsStr>>(&self, args: &[S], input: &str) -> Result<(bool, String, String)> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.missing(&error))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that does not read its input closes the pipe: no error of ours.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| Error::new(&self.program, error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }

    /// Runs it with its words going to the terminal.
    ///
    /// # Errors
    /// If it cannot be run or fails.
    pub fn show<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<()> {
        let status = self.command(args).status().map_err(|error| self.missing(&error))?;
        if status.success() { Ok(()) } else { Err(Error::new(&self.program, status)) }
    }

    fn missing(&self, error: &std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::NotFound {
            Error(format!("{} is not installed: {}", self.program, self.hint))
        } else {
            Error::new(&self.program, error)
        }
    }
}

/// What has the label of this Helm release anywhere in the cluster, of all kinds that it serves.
///
/// # Errors
/// If the cluster cannot be asked.
pub fn labelled(release: &str, kubectl: impl Fn(&[&str]) -> Result<String>) -> Result<Vec<String>> {
    let served = kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let kinds = served.lines().collect::<Vec<_>>().join(",");
    let selector = format!("app.kubernetes.io/instance={release}");
    let mut found: Vec<String> =
        kubectl(&["get", &kinds, "-A", "-o", "name", "-l", &selector])?.lines().map(str::to_owned).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let error =
            Tool::new("no-such-program-here", "apt-get install it").run(&["x"]).unwrap_err().to_string();
        assert_eq!(error, "no-such-program-here is not installed: apt-get install it");
    }

    #[test]
    fn a_failure_has_the_programs_own_words() {
        let tool = Tool::new("sh", "").with(&["-c"]);
        assert_eq!(tool.feed(&["cat"], "hello").unwrap(), "hello");
        let error = tool.run(&["echo out; echo err >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("err"), "{error}");
    }
}
