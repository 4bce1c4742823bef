//! The simulator's HTTP: the two commands under the vendor's path, and `/simulator/…` for scripts.

use super::{App, Call, Fault, Kind, Request, Shared};
use futures::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, io::Error>;

const PREFIX: &str = "/v4/room_engine_http_srv/";

pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = stream.into_std() else { continue };
        // A second handle on the same socket: a fault can make its end a reset.
        let Ok(handle) = stream.try_clone() else { continue };
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (shared, handle) = (shared.clone(), Arc::new(handle));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (shared, handle) = (shared.clone(), Arc::clone(&handle));
                async move { answer(&shared, request, &handle).await.map(|response| dated(&shared, response)) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// `response` with the time of the simulator's own clock.
fn dated(shared: &Shared, mut response: Response<Body>) -> Response<Body> {
    let now = k8s_openapi::jiff::Timestamp::now().as_second() + shared.lock().clock_skew;
    let date = k8s_openapi::jiff::Timestamp::from_second(now).ok().and_then(|now| {
        k8s_openapi::jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&now)
            .ok()?
            .parse()
            .ok()
    });
    if let Some(date) = date {
        response.headers_mut().insert(hyper::header::DATE, date);
    }
    response
}

async fn answer(
    shared: &Shared,
    request: hyper::Request<Incoming>,
    socket: &std::net::TcpStream,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = parts.uri.path();
    if let Some(rest) = path.strip_prefix("/simulator/") {
        return Ok(script(shared, &parts.method, rest, &body));
    }
    let command =
        path.strip_prefix(PREFIX).filter(|command| matches!(*command, "delete_robot" | "add_robot"));
    let Some(command) = command.filter(|_| parts.method == Method::POST) else {
        return Ok(page(StatusCode::NOT_FOUND));
    };
    let request = read(command, parts.uri.query().unwrap_or_default(), &body);
    let fault = {
        let mut state = shared.lock();
        let latency = state.settings.latency;
        let fault = request
            .as_ref()
            .ok()
            .and_then(|request| state.faults.iter_mut().find(|fault| fault.concerns(request)));
        let kind = fault.map_or(Kind::None, |fault| {
            fault.times = fault.times.map(|times| times - 1);
            fault.kind.clone()
        });
        (kind, latency)
    };
    let (fault, latency) = fault;
    let delay =
        latency + if let Kind::DelayMs(ms) = fault { Duration::from_millis(ms) } else { Duration::ZERO };
    // The call counts when it comes in, before any delay.
    let (code, reply) = verdict(shared, request, &fault);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let reply_text = reply.to_string();
    let reset = || {
        let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
        io::Error::other("reset")
    };
    Ok(match fault {
        Kind::Hang => std::future::pending().await,
        Kind::ResetBefore | Kind::ResetAfter | Kind::Late(_) => return Err(reset()),
        Kind::Http(status) => page(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)),
        Kind::Html => page(StatusCode::OK),
        Kind::Body(body) => whole(StatusCode::OK, "application/json", body),
        Kind::Huge(bytes) => streamed(blanks(bytes)),
        Kind::Stall(bytes) => streamed(blanks(bytes).chain(stream::pending())),
        Kind::Truncated => truncated(&reply_text),
        Kind::None | Kind::Code(_) | Kind::DelayMs(_) | Kind::NoRequestId => {
            debug_assert!(code.is_some());
            whole(StatusCode::OK, "application/json", reply_text)
        }
    })
}

/// Records the call, lets it have its effect unless the fault comes before, and makes the reply.
fn verdict(shared: &Shared, request: Result<Request, (i64, String)>, fault: &Kind) -> (Option<i64>, Value) {
    let wall = k8s_openapi::jiff::Timestamp::now().as_second();
    let mut state = shared.lock();
    // Under the lock, so that calls stand in the order of their times.
    let at = u64::try_from(shared.start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (request, (code, info, effect)) = match (request, fault) {
        (Err((code, why)), _) => (Request::default(), (Some(code), why, false)),
        (Ok(request), Kind::Code(code)) => (request, (Some(*code), String::new(), false)),
        (
            Ok(request),
            Kind::Hang
            | Kind::ResetBefore
            | Kind::Http(_)
            | Kind::Html
            | Kind::Body(_)
            | Kind::Huge(_)
            | Kind::Stall(_),
        ) => (request, (None, String::new(), false)),
        (Ok(request), Kind::Late(ms)) => {
            let (late, shared, place) = (request.clone(), shared.clone(), state.calls.len());
            let after = Duration::from_millis(*ms);
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let mut state = shared.lock();
                let (code, _, effect) = state.judge(&late, wall);
                if let Some(call) = state.calls.get_mut(place) {
                    (call.code, call.effect) = (Some(code), effect);
                }
            });
            (request, (None, String::new(), false))
        }
        (
            Ok(request),
            Kind::None | Kind::DelayMs(_) | Kind::ResetAfter | Kind::Truncated | Kind::NoRequestId,
        ) => {
            let (code, info, effect) = state.judge(&request, wall);
            (request, (Some(code), info, effect))
        }
    };
    let bare = matches!(fault, Kind::NoRequestId);
    let request_id = if bare { String::new() } else { state.next_request_id() };
    state.calls.push(Call {
        at,
        command: request.command,
        sdk_app_id: request.sdk_app_id,
        room: request.room,
        member: request.member,
        code,
        effect,
        delivered: matches!(fault, Kind::None | Kind::Code(_) | Kind::DelayMs(_) | Kind::NoRequestId),
        request_id: request_id.clone(),
    });
    let mut reply = json!({
        "ActionStatus": if code == Some(0) { "OK" } else { "FAIL" },
        "ErrorCode": code, "ErrorInfo": super::error_info(code, &info), "RequestId": request_id,
    });
    if bare && let Some(reply) = reply.as_object_mut() {
        reply.remove("RequestId");
    }
    (code, reply)
}

#[derive(Deserialize)]
struct Command {
    #[serde(rename = "RoomId")]
    room: String,
    #[serde(rename = "Member_Account")]
    member: String,
}

/// Reads the query, whose names are case-sensitive, and the body.
fn read(command: &str, query: &str, body: &[u8]) -> Result<Request, (i64, String)> {
    let refuse = |code: i64, why: &str| (code, why.to_owned());
    let pairs: BTreeMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, decode(value)))
        .collect();
    let get = |name: &str| pairs.get(name).cloned();
    if get("contenttype").as_deref() != Some("json") {
        return Err(refuse(60002, "contenttype must be json"));
    }
    let sdk_app_id = get("sdkappid").and_then(|id| id.parse().ok());
    let body: Command =
        serde_json::from_slice(body).map_err(|_| refuse(60003, "the body is no such JSON"))?;
    Ok(Request {
        command: command.to_owned(),
        sdk_app_id: sdk_app_id.ok_or_else(|| refuse(60012, "sdkappid is missing"))?,
        identifier: get("identifier").unwrap_or_default(),
        user_sig: get("usersig").unwrap_or_default(),
        random: get("random").and_then(|random| random.parse().ok()),
        room: body.room,
        member: body.member,
    })
}

/// Percent-decoding; a '+' stays one.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        if byte == b'%'
            && let (Some(high), Some(low)) = (hex(bytes.next()), hex(bytes.next()))
        {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What scripts may do: `PUT apps`, `PUT rooms`, `POST faults`, `DELETE faults`, `GET calls`, `GET rooms`.
fn script(shared: &Shared, method: &Method, what: &str, body: &[u8]) -> Response<Body> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Room {
        sdk_app_id: u32,
        #[serde(rename = "room")]
        id: String,
        members: Vec<String>,
    }
    let mut state = shared.lock();
    let done = |result: serde_json::Result<()>| match result {
        Ok(()) => whole(StatusCode::OK, "application/json", "{}".to_owned()),
        Err(error) => whole(StatusCode::BAD_REQUEST, "text/plain", format!("{error}\n")),
    };
    match (method, what) {
        (&Method::PUT, "apps") => done(serde_json::from_slice::<App>(body).map(|app| {
            state.apps.insert(app.sdk_app_id, app);
        })),
        (&Method::PUT, "rooms") => done(serde_json::from_slice::<Room>(body).map(|room| {
            state.rooms.insert((room.sdk_app_id, room.id), room.members.into_iter().collect());
        })),
        (&Method::POST, "faults") => {
            done(serde_json::from_slice::<Fault>(body).map(|fault| state.faults.push(fault)))
        }
        (&Method::DELETE, "faults") => {
            state.faults.clear();
            done(Ok(()))
        }
        (&Method::GET, "calls") => whole(StatusCode::OK, "application/json", json!(state.calls).to_string()),
        (&Method::GET, "rooms") => {
            let rooms: Vec<Value> = state
                .rooms
                .iter()
                .map(|((app, room), members)| json!({"sdkAppId": app, "room": room, "members": members}))
                .collect();
            whole(StatusCode::OK, "application/json", json!(rooms).to_string())
        }
        _ => whole(
            StatusCode::NOT_FOUND,
            "text/plain",
            "PUT apps, PUT rooms, POST faults, DELETE faults, GET calls, GET rooms\n".to_owned(),
        ),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn whole(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    respond(status, kind, Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed())
}

fn page(status: StatusCode) -> Response<Body> {
    whole(
        status,
        "text/html",
        format!("<html><head><title>{status}</title></head><body>{status}</body></html>"),
    )
}

fn streamed(frames: impl Stream<Item = io::Result<Frame<Bytes>>> + Send + Sync + 'static) -> Response<Body> {
    respond(StatusCode::OK, "application/json", BodyExt::boxed(StreamBody::new(frames)))
}

/// Half of `text` under the length of the whole, then the end of the connection.
fn truncated(text: &str) -> Response<Body> {
    let half = Bytes::copy_from_slice(text.as_bytes().get(..text.len() / 2).unwrap_or_default());
    let frames = stream::iter([Ok(Frame::data(half)), Err(io::Error::other("truncated"))]);
    let mut response = streamed(frames);
    response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
    response
}

/// A body of `bytes`, made as it is read, without a length that would warn the client.
fn blanks(bytes: u64) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    const CHUNK: u64 = 64 * 1024;
    stream::iter((0..bytes.div_ceil(CHUNK)).map(move |n| {
        let size = usize::try_from(CHUNK.min(bytes - n * CHUNK)).unwrap_or_default();
        Ok(Frame::data(Bytes::from(vec![b' '; size])))
    }))
}
