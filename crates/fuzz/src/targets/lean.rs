//! Answers of the API server, reduced as they come. First line: what was asked for (`GET` and the path), the length of the
//! pieces in which the answer comes, and where it breaks off; then the answer.
//!
//! - Where the pieces end changes nothing.
//! - JSON stays JSON; an answer to anything else stays as it is.
//! - An answer that breaks off is an error, but for a watch, which ends at any time.

use super::head;
use futures::{FutureExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Frame},
};
use roomrobot_operator::lean::LeanLayer;
use serde_json::Value;
use std::convert::Infallible;
use tower::{Layer as _, Service as _, service_fn};

pub fn check(bytes: &[u8]) {
    let (asked, answer) = head(bytes);
    let asked = String::from_utf8_lossy(asked);
    let mut words = asked.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(7);
    let (piece, end) = (number().max(1), number());
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    let Some(whole) = reduce(&method, path, answer, answer.len().max(1)) else { return };
    let pieces = reduce(&method, path, answer, piece).unwrap();
    assert_eq!(whole, pieces, "in pieces of {piece}");
    // A watch says so in its query; an event of it may be cut off.
    let watch = path.contains("watch=true");
    let json = serde_json::from_slice::<Value>(answer);
    if json.is_ok() {
        let reduced = whole.as_ref().unwrap_or_else(|why| panic!("{why}"));
        let read = serde_json::from_slice::<Value>(reduced);
        assert!(read.is_ok(), "{}", String::from_utf8_lossy(reduced));
        // One more end of a line; applications have something in the place of each condition of others.
        assert!(reduced.len() <= answer.len() + 1 || path.contains("rtcapplications"), "it grew");
    }
    let foreign = !path.contains("roomrobot.dev") && !path.contains("namespaces");
    if foreign {
        assert_eq!(whole.as_deref(), Ok(answer));
    }
    if let Ok(Value::Object(_)) = json {
        let begun = &answer[..end.min(answer.trim_ascii_end().len().saturating_sub(1))];
        let result = reduce(&method, path, begun, piece).unwrap();
        let unchanged = whole.as_deref() == Ok(answer);
        if !begun.trim_ascii().is_empty() && !watch && !unchanged {
            assert!(result.is_err(), "{}", String::from_utf8_lossy(begun));
        }
    }
}

/// What comes of an answer that comes in pieces of this length; `None` where nobody can ask so.
pub fn reduce(method: &Method, path: &str, answer: &[u8], piece: usize) -> Option<Result<Vec<u8>, String>> {
    let request = Request::builder().method(method).uri(path).body(()).ok()?;
    let frames: Vec<_> = answer
        .chunks(piece)
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let mut answers = Some(StreamBody::new(stream::iter(frames)));
    let mut client = LeanLayer.layer(service_fn(move |_| {
        let answer = Response::builder().header("content-type", "application/json");
        let answer = answer.body(answers.take().unwrap()).unwrap();
        async { Ok::<_, Infallible>(answer) }
    }));
    let response = client.call(request).now_or_never().unwrap().unwrap();
    let body = response.into_body().collect().now_or_never().unwrap();
    Some(body.map(|body| body.to_bytes().to_vec()).map_err(|error| error.to_string()))
}
