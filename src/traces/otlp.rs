//! Spans as OTLP over HTTP, in batches.

use super::{Place, SetupError, Span, Value};
use async_trait::async_trait;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _},
};
use roomrobot_client::errors::root_cause;
use roomrobot_core::endpoint::Endpoint;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::runtime::Handle;

/// The longest that the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a collector takes traces over HTTP: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-request>.
const PATH: &str = "/v1/traces";

/// Collects spans and sends them in batches, on a thread of its own.
#[derive(Debug)]
pub(super) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporter {
    pub(super) fn new(endpoint: &Endpoint, namespace: &str, pod: &str) -> Result<Self, SetupError> {
        let why = |error: &dyn std::fmt::Display| SetupError(error.to_string());
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| why(&error.without_url()))?;
        let http = Http { client, runtime: Handle::current(), failing: Arc::default() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(http)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(TIMEOUT)
            .with_endpoint(format!("{endpoint}{PATH}"))
            .build()
            .map_err(|error| why(&error))?;
        let resource = Resource::builder()
            .with_attributes([
                KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.namespace", namespace.to_owned()),
                KeyValue::new("service.instance.id", pod.to_owned()),
            ])
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build();
        Ok(Self { processor, scope })
    }

    pub(super) fn send(&self, uid: &str, span: Span) {
        let (trace, deletion) = ids(uid);
        let (id, parent) = match span.place {
            Place::Deletion => (deletion, SpanId::INVALID),
            Place::OfDeletion => (SpanId::from(fastrand::u64(1..)), deletion),
            Place::Alone => (SpanId::from(fastrand::u64(1..)), SpanId::INVALID),
        };
        let attributes = span.attributes.into_iter().map(|(key, value)| match value {
            Value::Number(number) => KeyValue::new(key, number),
            Value::Text(text) => KeyValue::new(key, text),
        });
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: if span.request { SpanKind::Client } else { SpanKind::Internal },
            name: span.name.into(),
            start_time: span.start,
            end_time: span.end,
            attributes: attributes.collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }

    pub(super) fn end(&self, within: Duration) {
        if self.processor.shutdown_with_timeout(within).is_err() {
            tracing::warn!("the last traces could not be sent in time");
        }
    }
}

/// The trace of a RoomRobot, and the span of its deletion in it: both follow from its UID, so that whichever process
/// tells of a part knows the whole. A UID that is no UUID gets a trace of its own for each span.
fn ids(uid: &str) -> (TraceId, SpanId) {
    let digits: String = uid.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|number| *number != 0);
    let number = number.unwrap_or_else(|| fastrand::u128(1..));
    let halves = (number >> 64) ^ number;
    let deletion = u64::try_from(halves & u128::from(u64::MAX)).unwrap_or_default().max(1);
    (TraceId::from(number), SpanId::from(deletion))
}

/// The way to the collector: the operator's own HTTP client and runtime.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: Handle,
    /// Whether the last batch failed: it is told once, not for each batch.
    failing: Arc<AtomicBool>,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, failing) = (self.client.clone(), Arc::clone(&self.failing));
        // The exporter's thread is none of the runtime's.
        self.runtime.spawn(async move {
            let result = send(&client, request).await;
            let trouble = match &result {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("it answered HTTP {}", response.status().as_u16())),
                Err(error) => Some(root_cause(error)),
            };
            match (failing.swap(trouble.is_some(), Ordering::Relaxed), trouble) {
                (false, Some(trouble)) => {
                    tracing::warn!(%trouble, "the collector of --otlp-endpoint does not take traces; they are dropped meanwhile");
                }
                (true, None) => tracing::info!("the collector of --otlp-endpoint takes traces again"),
                _ => {}
            }
            result.map_err(HttpError::from)
        })
        .await?
    }
}

async fn send(client: &reqwest::Client, request: Request<Bytes>) -> reqwest::Result<Response<Bytes>> {
    let request = reqwest::Request::try_from(request)?;
    let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let status = response.status();
    // What a collector says beyond its status is of no use here, and may be of any size.
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_by_the_uid_of_its_room_robot() {
        let (trace, deletion) = ids("5cd79e81-a54d-4dbe-a1df-b9f25b53bc2c");
        assert_eq!(trace.to_string(), "5cd79e81a54d4dbea1dfb9f25b53bc2c");
        assert_eq!(ids("5cd79e81-a54d-4dbe-a1df-b9f25b53bc2c"), (trace, deletion));
        assert_ne!(deletion, SpanId::INVALID);
        assert_ne!(ids("no-uuid").0, TraceId::INVALID);
    }
}
