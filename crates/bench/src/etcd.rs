//! etcd through its JSON gateway: stored objects are put in place by the thousand, where the API server takes minutes.
//!
//! What is put there is a copy of what the API server itself stored, with other names.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Client;
use serde_json::{Value, json};
use testbed::{Error, Result};

/// Puts in one transaction; etcd takes 128.
const TOGETHER: usize = 100;

/// Transactions at once.
const AT_ONCE: usize = 4;

/// A client of etcd.
#[derive(Clone, Debug)]
pub struct Etcd {
    http: Client,
    endpoint: String,
}

impl Etcd {
    /// A client of the etcd at `endpoint`.
    #[must_use]
    pub const fn new(http: Client, endpoint: String) -> Self {
        Self { http, endpoint }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let why = |error: reqwest::Error| Error::new(format!("etcd {path}"), error);
        let request = self.http.post(format!("{}/v3/kv/{path}", self.endpoint)).body(body.to_string());
        let response = request.send().await.map_err(why)?;
        let status = response.status();
        let text = response.text().await.map_err(why)?;
        if !status.is_success() {
            return Err(Error::new(format!("etcd {path}"), text));
        }
        serde_json::from_str(&text).map_err(|error| Error::new(format!("etcd {path}"), error))
    }

    /// What is stored at `key`, which is JSON for custom resources.
    ///
    /// # Errors
    /// If there is nothing, or it is no JSON.
    pub async fn get(&self, key: &str) -> Result<Value> {
        let answer = self.post("range", &json!({"key": STANDARD.encode(key)})).await?;
        let value = answer.pointer("/kvs/0/value").and_then(Value::as_str).unwrap_or_default();
        STANDARD
            .decode(value)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| Error(format!("etcd has no JSON at {key}")))
    }

    /// Stores `objects` at their keys.
    ///
    /// # Errors
    /// If etcd refuses.
    pub async fn put(&self, objects: impl Iterator<Item = (String, Value)>) -> Result<()> {
        let put = |(key, object): (String, Value)| json!({"requestPut": {"key": STANDARD.encode(key), "value": STANDARD.encode(object.to_string())}});
        let transactions = stream::iter(objects.map(put))
            .chunks(TOGETHER)
            .map(|puts| async move { self.post("txn", &json!({"success": puts})).await.map(drop) });
        transactions.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Removes everything whose key starts with `prefix`.
    ///
    /// # Errors
    /// If etcd refuses.
    pub async fn delete(&self, prefix: &str) -> Result<()> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let range = json!({"key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end)});
        self.post("deleterange", &range).await.map(drop)
    }
}
