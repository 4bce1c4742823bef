//! What the API server says that its users wrote.

use crate::{Error, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// A write of the audit log, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `create`, `patch`, …
    pub verb: String,
    /// Who wrote.
    pub user: User,
    /// What was written.
    #[serde(default)]
    pub object_ref: ObjectRef,
    /// How it ended.
    #[serde(default)]
    pub response_status: ResponseStatus,
    /// The body.
    #[serde(default)]
    pub request_object: serde_json::Value,
    /// When it came in.
    pub request_received_timestamp: MicroTime,
    /// When it was answered.
    pub stage_timestamp: MicroTime,
}

impl Entry {
    /// The conditions that the operator's patch of a status writes. One that stays but for its generation is not among them.
    #[must_use]
    pub fn written_conditions(&self) -> Vec<&serde_json::Value> {
        let values = self.steps("/status/conditions").filter_map(|step| step.get("value"));
        let of_whole = self.steps("/status").filter_map(|step| step.pointer("/value/conditions"));
        let lists = values.chain(of_whole);
        lists
            .flat_map(|value| value.as_array().map_or_else(|| vec![value], |list| list.iter().collect()))
            .filter(|one| one.is_object())
            .collect()
    }

    /// The other fields of the status that it writes.
    #[must_use]
    pub fn status_fields(&self) -> Vec<(&str, &serde_json::Value)> {
        let single = self.steps("/status/").filter_map(|step| {
            let field = step.get("path")?.as_str()?.strip_prefix("/status/")?;
            (!field.contains('/') && field != "conditions").then_some((field, step.get("value")?))
        });
        let whole = self.steps("/status").filter_map(|step| step.get("value")?.as_object());
        let whole = whole.flatten().filter(|(field, _)| *field != "conditions");
        single.chain(whole.map(|(field, value)| (field.as_str(), value))).collect()
    }

    /// The steps of a JSON patch at `path`; below it, where that ends in a slash or is a list.
    fn steps<'a>(&'a self, path: &'static str) -> impl Iterator<Item = &'a serde_json::Value> {
        let at = move |step: &&serde_json::Value| {
            let found = step.get("path").and_then(serde_json::Value::as_str).unwrap_or_default();
            found == path || path != "/status" && found.starts_with(path)
        };
        self.request_object.as_array().into_iter().flatten().filter(at)
    }
}

/// Who wrote.
#[derive(Clone, Debug, Deserialize)]
pub struct User {
    /// The user's name.
    pub username: String,
}

/// What was written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectRef {
    /// Such as `roomrobot.dev`; empty for the core.
    pub api_group: String,
    /// Such as `roomrobots`.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// How it ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ResponseStatus {
    /// The HTTP status.
    pub code: u16,
}

/// The audit log from a moment on.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    from: u64,
}

impl AuditLog {
    /// What comes from now on in the log at `path`.
    #[must_use]
    pub fn from_now(path: &Path) -> Self {
        Self { path: path.to_owned(), from: path.metadata().map_or(0, |meta| meta.len()) }
    }

    /// The entries so far.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let why = |error: std::io::Error| Error::new("audit log", error);
        let mut file = File::open(&self.path).map_err(why)?;
        file.seek(SeekFrom::Start(self.from)).map_err(why)?;
        let mut entries = Vec::new();
        for line in BufReader::new(file).lines() {
            // The last line may still be being written.
            if let Ok(entry) = serde_json::from_str(&line.map_err(why)?) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// How many lines since `from`, which moves on, have all of `words` in them.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn count(&self, from: &mut u64, words: &[&str]) -> Result<usize> {
        let why = |error: std::io::Error| Error::new("audit log", error);
        let mut file = File::open(&self.path).map_err(why)?;
        file.seek(SeekFrom::Start((*from).max(self.from))).map_err(why)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(why)?;
        // The last line may still be being written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        *from = (*from).max(self.from) + u64::try_from(whole).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(..whole).unwrap_or_default());
        Ok(text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count())
    }
}
