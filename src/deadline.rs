//! A deadline for every request to the API server: a connection may stay open and never answer.
//!
//! A layer under the Kubernetes client. It bounds the time until an answer begins and the time between two parts of it, so
//! that a list, the start of a watch or a write that hangs ends with an error. A watch that has begun may be silent.

use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use kube::client::Body;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Layer, Service};
use tower_http::timeout::TimeoutBody;

/// How long the API server may take to begin an answer. It has to read thousands of objects for a list.
const ANSWER: Duration = Duration::from_secs(30);

/// How long it may take from one part of an answer to the next.
const PART: Duration = Duration::from_secs(15);

/// A watch is silent while nothing happens. `kube` ends it after less than five minutes and begins another.
const WATCH: Duration = Duration::from_secs(600);

/// The API server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs())]
pub struct Late(Duration);

/// Adds deadlines to a service.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    answer: Duration,
    part: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { answer: ANSWER, part: PART }
    }
}

impl<S> Layer<S> for Deadlines {
    type Service = WithDeadlines<S>;

    fn layer(&self, inner: S) -> WithDeadlines<S> {
        WithDeadlines { inner, deadlines: *self }
    }
}

/// A service with deadlines.
#[derive(Clone, Debug)]
pub struct WithDeadlines<S> {
    inner: S,
    deadlines: Deadlines,
}

impl<S, B> Service<Request<Body>> for WithDeadlines<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: hyper::body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<http_body_util::combinators::UnsyncBoxBody<B::Data, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Deadlines { answer, part } = self.deadlines;
        let watches = is_watch(request.uri().query().unwrap_or_default());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = tokio::time::timeout(answer, response)
                .await
                .map_err(|_| Late(answer))?
                .map_err(Into::into)?;
            let between = if watches { WATCH } else { part };
            Ok(response.map(|body| TimeoutBody::new(between, body).boxed_unsync()))
        })
    }
}

fn is_watch(query: &str) -> bool {
    query.split('&').any(|field| matches!(field, "watch=true" | "watch=1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper::body::{Bytes, Frame};
    use std::convert::Infallible;

    /// Answers that never begin, and answers that stop in the middle, on a clock that jumps.
    #[tokio::test(start_paused = true)]
    async fn what_never_answers_or_stops_in_the_middle_ends_with_an_error() {
        let ask = |path: &str| Request::get(path).body(Body::empty()).unwrap();
        let silent = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        });
        for path in ["/list", "/list?watch=true", "/status"] {
            let error = Deadlines::default().layer(silent).call(ask(path)).await.err().unwrap();
            assert_eq!(error.to_string(), "the API server did not answer within 30 s");
        }
        let halting = tower::service_fn(|_: Request<Body>| async {
            let first = futures::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")))]);
            let body = StreamBody::new(futures::StreamExt::chain(first, futures::stream::pending()));
            Ok::<_, Infallible>(Response::new(body))
        });
        let begun = tokio::time::Instant::now();
        let mut body =
            Deadlines::default().layer(halting).call(ask("/list?limit=5")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{");
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(begun.elapsed().as_secs(), PART.as_secs());
        let mut body =
            Deadlines::default().layer(halting).call(ask("/list?&watch=true")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let later = tokio::time::timeout(Duration::from_secs(300), body.frame()).await;
        assert!(later.is_err(), "a watch may be silent for as long as kube lets it");
    }
}
