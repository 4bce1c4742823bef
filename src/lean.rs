//! Answers of the API server without what nobody here reads: they cost no more memory than what is read of them.
//!
//! Pure but for [`Lean`], which stands between `kube` and the connection. Whoever may write a `RoomRobot` may store a
//! megabyte beside its spec: annotations, labels, managed fields, conditions and finalizers of others. `kube` collects
//! a whole page of a list before it reads it. So each answer is reduced byte by byte as it comes, before it is
//! collected; nothing of what is left out is ever held.
//!
//! Places are kept: in `status.conditions` and `metadata.finalizers` of a `RoomRobot`, where the operator writes by
//! place, a number stands for so many elements of others in a row. [`Sparse`](roomrobot_core::sparse::Sparse) reads both forms.

mod reducer;
mod rules;

pub use reducer::Malformed;

use hyper::{
    Request, Response,
    body::{Body, Bytes, Frame},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};
use reducer::Reducer;
use rules::{APPLICATIONS, NAMESPACES, ROBOTS, Rule, rule};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::{BoxError, Layer, Service};

/// The body of an answer, reduced or as it is.
#[derive(Debug)]
pub struct Reduced<B> {
    body: B,
    reducer: Option<Reducer>,
    /// Events of a watch may end at any time: what is missing comes with the next one.
    endless: bool,
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Reduced<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => {
                    let complete = this.reducer.take().is_none_or(|reducer| reducer.is_complete());
                    let short = (!complete && !this.endless).then(|| Err(Malformed::Short.into()));
                    return Poll::Ready(short);
                }
            };
            let Some(reducer) = &mut this.reducer else { return Poll::Ready(Some(Ok(frame))) };
            let Ok(data) = frame.into_data() else { continue };
            match reducer.push(&data) {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

/// Reduces the answers about RoomRobots, RtcApplications and namespaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeanLayer;

impl<S> Layer<S> for LeanLayer {
    type Service = Lean<S>;

    fn layer(&self, inner: S) -> Lean<S> {
        Lean { inner }
    }
}

/// What [`LeanLayer`] makes.
#[derive(Clone, Debug)]
pub struct Lean<S> {
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for Lean<S>
where
    S: Service<Request<Q>, Response = Response<B>, Future: Send + 'static>,
{
    type Response = Response<Reduced<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let rule = rule(request.method(), request.uri());
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map(|answer| reduced(answer, rule)) })
    }
}

fn reduced<B>(answer: Response<B>, rule: Option<&'static Rule>) -> Response<Reduced<B>> {
    let (mut head, body) = answer.into_parts();
    let json =
        head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let readable = head.status.is_success() && json && !head.headers.contains_key(CONTENT_ENCODING);
    let rule = rule.filter(|_| readable);
    if rule.is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    let events = [&ROBOTS.event, &APPLICATIONS.event, &NAMESPACES.event];
    let endless = rule.is_some_and(|rule| events.iter().any(|event| std::ptr::eq(*event, rule)));
    Response::from_parts(head, Reduced { body, reducer: rule.map(Reducer::new), endless })
}

#[cfg(test)]
mod tests;
