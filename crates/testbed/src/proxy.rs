//! A proxy in front of the API server that can answer in its place, lose replies and cut watches.

use crate::{Error, Result, control_plane::ControlPlane};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Frame, Incoming},
    header::{CONTENT_TYPE, HOST, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    fs, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::{net::TcpListener, sync::watch, task::AbortHandle};

type Body = BoxBody<Bytes, io::Error>;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is answered with this status and never reaches the API server.
    Answer(u16),
    /// It reaches the API server; the connection breaks before the reply.
    LoseReply,
    /// It never reaches the API server, and is not answered while the connection stays open.
    Hang,
}

/// Which requests it happens to.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Only this method.
    pub method: Method,
    /// Only paths of this resource and subresource, without names: `/roomrobots`, `/roomrobots/status`; or the end of the
    /// path of one object: `/roomrobots/NAME`; or the watches of a resource, or of one namespace's: `/roomrobots?watch`,
    /// `/namespaces/NAME/roomrobots?watch`; or, with a slash at its end, all of a namespace: `/namespaces/NAME/`.
    pub path: &'static str,
    /// How often.
    pub times: u32,
    /// What happens.
    pub action: Action,
}

/// A running proxy; it ends with the value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    rules: Arc<Mutex<Vec<Rule>>>,
    cut: watch::Sender<u32>,
    lost: watch::Sender<bool>,
    task: AbortHandle,
}

impl Proxy {
    /// Starts one in front of `plane`.
    ///
    /// # Errors
    /// If no port is free, or the API server's certificate cannot be read.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let why = |error: &dyn std::error::Error| Error::new("proxy", error);
        let certificate =
            fs::read(plane.folder().join("certificates/apiserver.crt")).map_err(|error| why(&error))?;
        let roots = reqwest::Certificate::from_pem_bundle(&certificate).map_err(|error| why(&error))?;
        let client = reqwest::Client::builder().tls_certs_only(roots).build().map_err(|error| why(&error))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| why(&error))?;
        let port = listener.local_addr().map_err(|error| why(&error))?.port();
        let rules = Arc::<Mutex<Vec<Rule>>>::default();
        let ((cut, cuts), (lost, losing)) = (watch::channel(0), watch::channel(false));
        let relay = Relay { client, upstream: plane.port(), rules: Arc::clone(&rules), cuts, losing };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let relay = relay.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let relay = relay.clone();
                        async move { relay.pass(request).await }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
        .abort_handle();
        Ok(Self { port, rules, cut, lost, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn server(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// What the rules have still to do.
    #[must_use]
    pub fn left(&self) -> Vec<Rule> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().filter(|rule| rule.times > 0).cloned().collect()
    }

    /// Takes all rules away.
    pub fn heal(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// From now on nothing comes through in either direction, and no connection breaks: a network that is cut.
    pub fn lose_all(&self) {
        self.lost.send_replace(true);
    }

    /// Breaks every reply that is still coming in: the watches.
    pub fn cut_watches(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Relay {
    client: reqwest::Client,
    upstream: u16,
    rules: Arc<Mutex<Vec<Rule>>>,
    cuts: watch::Receiver<u32>,
    losing: watch::Receiver<bool>,
}

impl Relay {
    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.unless_lost().await;
        let action = self.action(&parts.method, &parts.uri);
        match action {
            Some(Action::Answer(status)) => return Ok(refusal(status)),
            Some(Action::Hang) => std::future::pending().await,
            Some(Action::LoseReply) | None => {}
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        headers.remove(HOST);
        let answer = self
            .client
            .request(parts.method, format!("https://127.0.0.1:{}{path}", self.upstream))
            .headers(headers)
            .body(body)
            .send()
            .await
            .map_err(io::Error::other)?;
        self.unless_lost().await;
        if action == Some(Action::LoseReply) {
            return Err(io::Error::other("the reply is lost"));
        }
        let answer: Response<reqwest::Body> = answer.into();
        let (parts, body) = answer.into_parts();
        let mut cuts = self.cuts.clone();
        cuts.mark_unchanged();
        let cut = Box::pin(async move { drop(cuts.changed().await) });
        Ok(Response::from_parts(parts, Cuttable { body, cut, losing: self.losing.clone() }.boxed()))
    }

    /// Never ends where everything is lost.
    async fn unless_lost(&self) {
        if *self.losing.borrow() {
            std::future::pending::<()>().await;
        }
    }

    fn action(&self, method: &Method, uri: &Uri) -> Option<Action> {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let resource = resource(path);
        let watched = query.contains("watch=true").then(|| format!("{path}?watch"));
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |rule: &&mut Rule| {
            let place = rule.path == resource
                || path.ends_with(rule.path)
                || rule.path.ends_with('/') && path.contains(rule.path)
                || watched.as_ref().is_some_and(|watched| watched.ends_with(rule.path));
            rule.times > 0 && rule.method == method && place
        };
        let rule = rules.iter_mut().find(fits)?;
        rule.times -= 1;
        Some(rule.action)
    }
}

/// The resource and subresource of a path such as `/apis/GROUP/VERSION/namespaces/NAME/RESOURCE/NAME/SUBRESOURCE`.
fn resource(path: &str) -> String {
    let mut parts: Vec<&str> = path.trim_start_matches("/apis/").split('/').skip(2).collect();
    if parts.len() > 2 && parts.first() == Some(&"namespaces") {
        parts.drain(..2);
    }
    parts.into_iter().step_by(2).flat_map(|part| ["/", part]).collect()
}

/// A `Status` as the API server would send it; a 404 says that there is no such namespace.
fn refusal(status: u16) -> Response<Body> {
    let (reason, message, details) = match status {
        404 => ("NotFound", "namespaces not found", json!({"kind": "namespaces"})),
        _ => ("Scripted", "answered by the proxy", json!({})),
    };
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
        "reason": reason, "message": message, "details": details,
    })
    .to_string();
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that ends with an error when it is cut.
struct Cuttable {
    body: reqwest::Body,
    cut: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    losing: watch::Receiver<bool>,
}

impl hyper::body::Body for Cuttable {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if *self.losing.borrow() {
            return Poll::Pending;
        }
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::Error::other("cut"))));
        }
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map(|frame| frame.map(|frame| frame.map_err(io::Error::other)))
    }
}

#[cfg(test)]
mod tests {
    use super::resource;

    #[test]
    fn a_path_is_of_one_resource() {
        let ours = "/apis/roomrobot.dev/v1alpha1";
        for (path, expected) in [
            (format!("{ours}/namespaces/n/roomrobots/r"), "/roomrobots"),
            (format!("{ours}/namespaces/n/roomrobots/r/status"), "/roomrobots/status"),
            (format!("{ours}/rtcapplications/a/status"), "/rtcapplications/status"),
            ("/apis/events.k8s.io/v1/namespaces/n/events".to_owned(), "/events"),
        ] {
            assert_eq!(resource(&path), expected);
        }
    }
}
