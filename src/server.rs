//! `/livez`, `/readyz` and `/metrics` over HTTP.

use crate::{engine::Snapshot, metrics::Metrics};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};

/// The most connections at once; probes and one or two scrapers need few.
const CONNECTIONS: usize = 32;

/// How long a client may take for the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Server {
    /// Whether the process is ready.
    pub ready: Arc<AtomicBool>,
    /// What is counted.
    pub metrics: Metrics,
    /// Asks the engine's task for its state.
    pub snapshots: mpsc::Sender<oneshot::Sender<Snapshot>>,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    /// Answers until the process ends.
    pub async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let this = self.clone();
            tokio::spawn(async move {
                let _place = place;
                let handler = service_fn(|request| this.answer(request));
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), handler)
                    .await;
            });
        }
    }

    async fn answer<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, kind, text) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/livez") => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            (&Method::GET, "/readyz") if self.ready.load(Ordering::Relaxed) => {
                (StatusCode::OK, "text/plain", "ok\n".to_owned())
            }
            (&Method::GET, "/readyz") => (
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                "waiting for the first lists, or ending\n".to_owned(),
            ),
            (&Method::GET, "/metrics") => {
                const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                match self.metrics().await {
                    Some(text) => (StatusCode::OK, OPEN_METRICS, text),
                    None => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "ending\n".to_owned()),
                }
            }
            _ => (StatusCode::NOT_FOUND, "text/plain", "try /livez, /readyz or /metrics\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        if let Ok(kind) = kind.parse() {
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        Ok(response)
    }

    async fn metrics(&self) -> Option<String> {
        let (reply, snapshot) = oneshot::channel();
        self.snapshots.send(reply).await.ok()?;
        self.metrics.text(&snapshot.await.ok()?).ok()
    }
}
