//! The room engine over HTTP: one call, one outcome.
//!
//! Touches the network and nothing else. No retries: the engine decides what follows an outcome. No URL leaves this
//! module, because it carries the UserSig; `reqwest` errors are turned into [`Trouble`] here and dropped.

mod names;

use crate::clock;
use names::Names;
use reqwest::{Client, Response, Url, header::CONTENT_TYPE, redirect};
use roomrobot_core::{
    call::{Caller, Outcome, Target, Trouble, TroubleKind, judge},
    codes::Operation,
    endpoint::Endpoint,
    right::Until,
};
use std::{error::Error, io, time::Duration};
use tower::{BoxError, util::MapResultLayer};

/// Time for TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time for the whole call. The room engine gives up after 3 s; a client is told to wait longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// The most of a reply that is read; a real one has some hundred bytes.
const REPLY_LIMIT: usize = 8 * 1024;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS for calls to the room engine: {0}")]
pub struct SetupError(#[source] reqwest::Error);

/// The right to call ended before the request could be sent: nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the right to call ended before there was a connection")]
pub struct Ended;

/// A client with its connection pool; cheap to clone.
#[derive(Clone, Debug)]
pub struct RoomEngine {
    http: Client,
}

impl RoomEngine {
    /// A client that keeps connections alive, as the vendor asks, and follows no redirect. It sends nothing over a
    /// connection that is there only after `until`: connecting may take until another replica may call.
    ///
    /// # Errors
    /// If the system's root certificates cannot be loaded.
    pub fn new(until: Until) -> Result<Self, SetupError> {
        let in_time = move |connection: Result<_, BoxError>| {
            if until.passed_at(clock::now()) { Err(BoxError::from(Ended)) } else { connection }
        };
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(redirect::Policy::none())
            .dns_resolver(Names::default())
            .connector_layer(MapResultLayer::new(in_time))
            .user_agent(concat!("roomrobot-operator/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SetupError(error.without_url()))?;
        Ok(Self { http })
    }

    /// Sends `operation` once.
    ///
    /// # Errors
    /// If nothing was sent because the right to call ended first.
    pub async fn call(
        &self,
        operation: Operation,
        caller: &Caller,
        target: &Target,
    ) -> Result<Outcome, Ended> {
        let Some(url) = url(operation, caller, fastrand::u32(..)) else {
            return Ok(Outcome::failed(TroubleKind::Connect));
        };
        let body = serde_json::json!({"RoomId": target.room_id, "Member_Account": target.member_account});
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        let outcome = match request.send().await {
            Err(error) if ended(&error) => return Err(Ended),
            Err(error) => Outcome::failed(trouble(&error)),
            Ok(response) => {
                let status = response.status().as_u16();
                match read(response).await {
                    Ok(body) => judge(status, &body),
                    Err(kind) => {
                        Outcome::Trouble(Trouble { kind, http_status: Some(status), request_id: None })
                    }
                }
            }
        };
        Ok(outcome.without(&caller.user_sig))
    }
}

impl RoomEngine {
    /// Asks `endpoint` for its root, with nothing signed: whether it can be reached at all, and what its clock says.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn knock(&self, endpoint: &Endpoint) -> Result<Option<String>, TroubleKind> {
        let response = self.http.get(endpoint.to_string()).send().await.map_err(|error| trouble(&error))?;
        let date = response.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.map(str::to_owned))
    }
}

/// Whether there was no connection in time.
fn ended(error: &reqwest::Error) -> bool {
    std::iter::successors(error.source(), |error| (*error).source()).any(<dyn Error>::is::<Ended>)
}

/// The request's URL; `None` only if the endpoint, which was parsed before, cannot be parsed.
fn url(operation: Operation, caller: &Caller, random: u32) -> Option<Url> {
    let mut url = Url::parse(&caller.endpoint.to_string()).ok()?;
    url.set_path(&format!("/v4/room_engine_http_srv/{operation}"));
    url.query_pairs_mut()
        .append_pair("sdkappid", &caller.sdk_app_id.to_string())
        .append_pair("identifier", &caller.identifier)
        .append_pair("usersig", caller.user_sig.expose())
        .append_pair("random", &random.to_string())
        .append_pair("contenttype", "json");
    // A space is written as '+' there, which not every server takes back; a real '+' is already %2B.
    let query = url.query().unwrap_or_default().replace('+', "%20");
    url.set_query(Some(&query));
    Some(url)
}

/// The body, if it is not larger than a reply can be.
async fn read(mut response: Response) -> Result<Vec<u8>, TroubleKind> {
    let mut body = Vec::new();
    if response.content_length().is_some_and(|length| length > REPLY_LIMIT as u64) {
        return Err(TroubleKind::TooLarge);
    }
    while let Some(chunk) = response.chunk().await.map_err(|error| trouble(&error))? {
        if body.len() + chunk.len() > REPLY_LIMIT {
            return Err(TroubleKind::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The kind of a `reqwest` error; of its text, which may show the URL, nothing is kept.
fn trouble(error: &reqwest::Error) -> TroubleKind {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return TroubleKind::Certificate;
        }
        let io = error.downcast_ref::<io::Error>();
        if let Some(io) = io {
            if io.kind() == io::ErrorKind::ConnectionRefused {
                return TroubleKind::Refused;
            }
            // std has no error kind for a failed look-up, only this text.
            if io.to_string().starts_with("failed to lookup address information") {
                return TroubleKind::Name;
            }
        }
        // What an I/O error wraps is not its source, but the error itself in another coat.
        cause = match io.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    if error.is_timeout() {
        TroubleKind::Timeout
    } else if error.is_connect() {
        TroubleKind::Connect
    } else {
        TroubleKind::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roomrobot_core::usersig::Sensitive;
    use std::{collections::BTreeMap, sync::Arc};
    use tokio::io::AsyncReadExt as _;

    fn caller(endpoint: &str) -> Caller {
        Caller {
            endpoint: endpoint.parse().unwrap(),
            sdk_app_id: 1_400_000_000,
            identifier: "an admin+1".into(),
            user_sig: Arc::new(Sensitive::new("eJy*-_secret".into())),
        }
    }

    #[test]
    fn the_url_is_the_one_of_the_vendors_page() {
        let url = url(Operation::DeleteRobot, &caller("https://console.tim.qq.com"), 4_294_967_295).unwrap();
        assert_eq!(
            url.as_str(),
            "https://console.tim.qq.com/v4/room_engine_http_srv/delete_robot?sdkappid=1400000000\
             &identifier=an%20admin%2B1&usersig=eJy*-_secret&random=4294967295&contenttype=json"
        );
        let pairs: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs["identifier"], "an admin+1");
    }

    /// A transport that fails shows the URL in every `reqwest` error: nothing of it may come through.
    #[tokio::test]
    async fn a_failed_call_tells_nothing_of_its_url() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let engine = RoomEngine::new(Until::default()).unwrap();
        let target = Target { room_id: "room".into(), member_account: "robot".into() };
        let caller = caller(&format!("http://{closed}"));
        let outcome = engine.call(Operation::DeleteRobot, &caller, &target).await.unwrap();
        assert_eq!(outcome, Outcome::failed(TroubleKind::Refused));
        for text in [format!("{outcome:?}"), format!("{caller:?}"), outcome.sentence(Operation::DeleteRobot)]
        {
            for secret in ["secret", "usersig", "sdkappid=", "http://"] {
                assert!(!text.contains(secret), "{text} shows {secret}");
            }
        }
    }

    /// Connecting took until the Lease ended: the connection is closed, and not a byte was sent over it.
    #[tokio::test]
    async fn nothing_is_sent_over_a_connection_that_is_there_too_late() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = caller(&format!("http://{}", listener.local_addr().unwrap()));
        let target = Target { room_id: "room".into(), member_account: "robot".into() };
        let until = Until::default();
        let engine = RoomEngine::new(until.clone()).unwrap();
        until.set(Some(clock::now()));
        let received = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            received
        };
        let (outcome, received) =
            tokio::join!(engine.call(Operation::DeleteRobot, &caller, &target), received);
        assert_eq!((outcome, received.len()), (Err(Ended), 0));
    }
}
