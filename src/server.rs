//! `/livez`, `/readyz` and `/metrics` over HTTP.
//!
//! Who may open a connection is not known here, and a probe must be answered in time whatever else is connected. So every
//! connection is accepted, and those that are too many are closed, the oldest first; nothing lasts long; and readers of
//! `/metrics`, however many and however slow, share a few texts. `hyper` bounds the head of a request and its time, and
//! a timer the rest. Limits of `tower` and `axum` begin with a request, and most of what is to be bounded
//! here never sends one.

use crate::{metrics::Metrics, watch::SECRETS};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use roomrobot_core::engine::Snapshot;
use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::sleep,
};

/// The most connections that have not sent the head of a request yet. A probe sends it at once: it is closed only if so
/// many others come in between.
const SILENT: usize = 96;

/// The most connections whose answer is under way. A probe's answer is never under way: it is a few bytes.
const ANSWERED: usize = 32;

/// The most connections, with those that are being closed.
const OPEN: usize = SILENT + ANSWERED + AT_ONCE;

/// Connections that are accepted one after the other, before what they sent is looked at.
const AT_ONCE: usize = 24;

/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last: no scraper waits for longer.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request, in bytes: the least that `hyper` takes.
const HEAD_LIMIT: usize = 8192;

/// What the kernel keeps of an answer for a slow reader, in bytes; without a limit it is some megabytes, which count as
/// the Pod's memory.
const SEND_BUFFER: u32 = 64 * 1024;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// The most texts of `/metrics` in memory. More readers than that at once share the last one.
const TEXTS: usize = 3;

/// A view of the cluster that is cut for this long makes the process not ready. A restart of the API server takes less.
const CUT: Duration = Duration::from_secs(30);

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
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Connections have what their listener has.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// Answers until the process ends.
    pub async fn serve(self, listener: TcpListener) {
        let texts = Arc::new(Texts::default());
        let mut connections = Connections::default();
        // Those that are closed take a moment to go; no client can make it longer.
        let places = Arc::new(Semaphore::new(OPEN));
        for count in 1_usize.. {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.make_room();
                    let (connection, told) = Connection::new();
                    let exchange = exchange(self.clone(), Arc::clone(&texts), stream, told);
                    tokio::spawn(async move {
                        exchange.await;
                        drop(place);
                    });
                    connections.0.push_back(connection);
                }
                // The client has gone already.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
            if count.is_multiple_of(AT_ONCE) {
                // What these have sent is read before others may close them.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Why the process is not ready, if it is not.
    fn not_ready(&self) -> Option<String> {
        if !self.ready.load(Ordering::Relaxed) {
            return Some("waiting for the first lists, or ending".to_owned());
        }
        let views = self.metrics.views();
        let (resource, age) = views
            .cut_for()
            .into_iter()
            .filter(|(resource, _)| *resource != SECRETS)
            .max_by_key(|(_, age)| *age)?;
        (age >= CUT)
            .then(|| format!("the watch of {resource} has failed for {} s; see the log", age.as_secs()))
    }

    async fn answer<B>(&self, request: Request<B>, texts: &Texts) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain";
        const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/livez") => (StatusCode::OK, TEXT, Bytes::from("ok\n")),
            (&Method::GET, "/readyz") => match self.not_ready() {
                None => (StatusCode::OK, TEXT, Bytes::from("ok\n")),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, Bytes::from(format!("{why}\n"))),
            },
            (&Method::GET, "/metrics") => match texts.read(self).await {
                Some(text) => (StatusCode::OK, OPEN_METRICS, text),
                None => (StatusCode::SERVICE_UNAVAILABLE, TEXT, Bytes::from("ending\n")),
            },
            _ => (StatusCode::NOT_FOUND, TEXT, Bytes::from("try /livez, /readyz or /metrics\n")),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        if let Ok(kind) = kind.parse() {
            response.headers_mut().insert(CONTENT_TYPE, kind);
        }
        response
    }

    async fn metrics(&self) -> Option<String> {
        let (reply, snapshot) = oneshot::channel();
        self.snapshots.send(reply).await.ok()?;
        let (metrics, snapshot) = (self.metrics.clone(), snapshot.await.ok()?);
        // Some megabytes of text take their time, and nothing else is to wait for that.
        tokio::task::spawn_blocking(move || metrics.text(&snapshot)).await.ok()?.ok()
    }
}

/// One request and its answer, and the connection is closed. One that lasts too long, or is one too many, is cut: what it
/// has not read yet is not kept for it, not by the kernel either.
async fn exchange(server: Server, texts: Arc<Texts>, stream: TcpStream, told: Told) {
    let Told { answered, close } = told;
    let handler = service_fn(|request| {
        answered.store(true, Ordering::Relaxed);
        async { Ok::<_, Infallible>(server.answer(request, &texts).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), handler);
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(WHOLE_TIMEOUT) => {}
        _ = close => {}
    }
    let _ = connection.into_parts().io.into_inner().set_zero_linger();
}

/// A connection that was accepted; it is cut when this is dropped.
struct Connection {
    /// Whether the head of its request is here.
    answered: Arc<AtomicBool>,
    open: oneshot::Sender<Infallible>,
}

/// The other end of a [`Connection`].
struct Told {
    answered: Arc<AtomicBool>,
    close: oneshot::Receiver<Infallible>,
}

impl Connection {
    fn new() -> (Self, Told) {
        let (open, close) = oneshot::channel();
        let answered = Arc::new(AtomicBool::new(false));
        (Self { answered: Arc::clone(&answered), open }, Told { answered, close })
    }
}

/// The open connections, the oldest first.
#[derive(Default)]
struct Connections(VecDeque<Connection>);

impl Connections {
    /// Cuts what is too many, so that there is room for one more that is silent yet.
    fn make_room(&mut self) {
        self.0.retain(|connection| !connection.open.is_closed());
        for (answered, most) in [(false, SILENT - 1), (true, ANSWERED)] {
            let of_these = |it: &Connection| it.answered.load(Ordering::Relaxed) == answered;
            let there = self.0.iter().filter(|it| of_these(it)).count();
            let mut too_many = there.saturating_sub(most);
            self.0.retain(|connection| {
                let cut = too_many > 0 && of_these(connection);
                too_many -= usize::from(cut);
                !cut
            });
        }
    }
}

/// The texts of `/metrics` that somebody is reading.
struct Texts {
    places: Arc<Semaphore>,
    last: Arc<Mutex<Weak<Text>>>,
}

/// A text, and its place among those in memory.
struct Text {
    text: String,
    _place: OwnedSemaphorePermit,
}

/// A reader's part of a text.
struct Shared(Arc<Text>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.text.as_bytes()
    }
}

impl Default for Texts {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(TEXTS)), last: Arc::default() }
    }
}

impl Texts {
    /// A text of now; the last one where all places are taken. `None` where the engine has ended.
    async fn read(&self, server: &Server) -> Option<Bytes> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        // While no place is free, the last text is in one of them.
        if let Some(text) = last.upgrade().filter(|_| place.is_none()) {
            return Some(Bytes::from_owner(Shared(text)));
        }
        let (places, server) = (Arc::clone(&self.places), server.clone());
        // It goes on though its reader is cut: otherwise many could be in the making.
        let made = tokio::spawn(async move {
            let place = match place {
                Some(place) => place,
                None => places.acquire_owned().await.ok()?,
            };
            let text = Arc::new(Text { text: server.metrics().await?, _place: place });
            *last = Arc::downgrade(&text);
            Some(text)
        });
        Some(Bytes::from_owner(Shared(made.await.ok()??)))
    }
}

#[cfg(test)]
mod tests;
