//! Traces: each deletion is one trace, found by the UID, with the RequestId; a collector is never in the way.

use crate::harness::{KEY, World, eventually};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use testbed::simulator::{Fault, Kind};
use tokio::net::TcpListener;

/// What a collector may want to see.
const TOKEN: &str = "nobody-should-read-this";

/// A collector that keeps what it gets.
struct Collector {
    address: String,
    /// Requests that had the token.
    tokens: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let tokens: Arc<AtomicUsize> = Arc::default();
        let to = (Arc::clone(&bodies), Arc::clone(&tokens));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let to = to.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (bodies, tokens) = to.clone();
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        let token =
                            request.headers().get("authorization").map(|token| token.to_str().unwrap());
                        assert!(token.is_none_or(|token| token == format!("Bearer {TOKEN}")), "{token:?}");
                        tokens.fetch_add(usize::from(token.is_some()), Ordering::Relaxed);
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        bodies.lock().unwrap().push(body);
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, tokens, bodies }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let bodies = self.bodies.lock().unwrap();
        bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.clone()?.value
}

fn text(span: &Span, key: &str) -> String {
    match attribute(&span.attributes, key) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} of {}: {other:?}", span.name),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_a_trace_that_the_uid_finds_and_that_has_the_request_id() {
    let world = World::new().await;
    let collector = Collector::start().await;
    let headers = format!("authorization=Bearer%20{TOKEN}");
    let operator = world
        .operator_with_env(
            &["--otlp-endpoint", &collector.address],
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
                ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=testbed"),
            ],
        )
        .await;
    let robot = world.robot("r").await;
    world.ready("r").await;
    world.simulator.fail(Fault::times(Kind::Code(100_001), 1).room("r"));
    world.delete("r").await;
    let last = world.gone("r").await;
    eventually("the robot's spans are there", || async {
        collector.spans().iter().any(|span| span.name == "delete RoomRobot")
    })
    .await;
    assert!(!operator.log().contains(TOKEN));
    operator.terminate(Duration::from_secs(15)).await.unwrap();
    let requests = collector.requests().len();
    assert!(requests > 0 && collector.tokens.load(Ordering::Relaxed) == requests);

    let uid = u128::from_str_radix(&robot.metadata.uid.unwrap().replace('-', ""), 16).unwrap();
    let spans = collector.spans();
    let spans: Vec<&Span> = spans.iter().filter(|span| span.trace_id == uid.to_be_bytes()).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names.iter().filter(|name| **name == "delete_robot").count(), 2, "{names:?}");

    let whole = spans.iter().find(|span| span.name == "delete RoomRobot").unwrap();
    assert!(whole.parent_span_id.is_empty());
    let asked = u64::try_from(last.metadata.deletion_timestamp.unwrap().0.as_second()).unwrap();
    assert_eq!(whole.start_time_unix_nano, asked * 1_000_000_000);
    assert_eq!(text(whole, "roomrobot.reason"), "Deleted");

    let parts: Vec<_> = spans.iter().filter(|span| span.parent_span_id == whole.span_id).collect();
    for part in &parts {
        assert_eq!(part.kind(), SpanKind::Client, "{}", part.name);
        assert_eq!(text(part, "roomrobot.name"), "r");
        assert_eq!(text(part, "k8s.namespace.name"), world.namespace);
        assert!(part.end_time_unix_nano <= whole.end_time_unix_nano, "{}", part.name);
    }
    let calls: Vec<_> = parts.iter().filter(|part| part.name == "delete_robot").collect();
    for (part, call) in calls.iter().zip(world.simulator.calls_about("r", "r")) {
        assert_eq!(text(part, "roomrobot.request_id"), call.request_id);
        assert_eq!(attribute(&part.attributes, "roomrobot.error_code"), call.code.map(Value::IntValue));
        assert_eq!(is_error(part), call.code != Some(0));
    }
    assert_eq!(calls.len(), 2);
    assert!(parts.iter().any(|part| part.name == "write status" && !is_error(part)));
    assert!(parts.iter().any(|part| part.name == "drop finalizer" && !is_error(part)));
    let before = spans.iter().find(|span| span.name == "add finalizer").unwrap();
    assert!(before.parent_span_id.is_empty(), "it is no part of the deletion");

    for request in collector.requests() {
        let resource = request.resource_spans[0].resource.clone().unwrap();
        for (key, value) in [("service.name", "roomrobot-operator"), ("k8s.cluster.name", "testbed")] {
            assert_eq!(attribute(&resource.attributes, key), Some(Value::StringValue(value.to_owned())));
        }
    }
    for body in collector.bodies.lock().unwrap().iter() {
        let body = String::from_utf8_lossy(body);
        for secret in [KEY, TOKEN, "usersig", "http://", "https://"] {
            assert!(!body.contains(secret), "{secret} in a trace");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_is_told_once_and_delays_nothing() {
    let world = World::new().await;
    // Nobody listens on this port of loopback.
    let operator = world.operator_with(&["--otlp-endpoint", "http://127.0.0.1:9"]).await;
    for name in ["a", "b"] {
        world.robot(name).await;
        world.ready(name).await;
        world.delete(name).await;
        world.gone(name).await;
        // A batch goes out each 5 s.
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    let told = |log: &str| log.lines().filter(|line| line.contains("does not take traces")).count();
    let log = operator.log();
    assert_eq!(told(&log), 1, "{log}");
    assert!(!log.contains("127.0.0.1:9"), "{log}");
    operator.terminate(Duration::from_secs(15)).await.unwrap();
}
