//! The `Status` with which the API server, a webhook or something on the way refuses a write, as JSON.
//!
//! - That there is no such object is said by a 404 of the API server about that object alone.
//! - What a webhook denies is refused, whatever code and reason it chose.
//! - A server in trouble refuses nothing.
//! - The words are one line, and have the code.

use super::hides;
use kube::core::Status;
use roomrobot_client::errors::explain;
use roomrobot_core::{api_server::classify, engine::WriteError};

pub fn check(bytes: &[u8]) {
    let Ok(status) = serde_json::from_slice::<Status>(bytes) else { return };
    let error = classify(&status);
    let denied = status.message.starts_with("admission webhook \"")
        && status.message.contains("\" denied the request")
        || status.code == 500 && status.message.contains("failed calling webhook");
    assert!(!denied || matches!(error, WriteError::Refused(_)), "{error:?}");
    match &error {
        WriteError::NotFound => {
            assert_eq!((status.code, status.reason.as_str()), (404, "NotFound"));
            assert!(status.details.as_ref().is_none_or(|details| details.kind != "namespaces"));
        }
        WriteError::Conflict(_) => assert!([409, 412, 422].contains(&status.code), "{}", status.code),
        WriteError::Refused(_) => assert!(denied || (400..500).contains(&status.code), "{}", status.code),
        WriteError::Other(_) => assert!(!denied),
        WriteError::Unreachable(_) | WriteError::Late => panic!("there was an answer: {error:?}"),
    }
    let beginning = format!("the API server answered {}: ", status.code);
    let reason = error.reason().map(str::to_owned);
    for said in reason.into_iter().chain([explain(&kube::Error::Api(status.boxed()))]) {
        assert!(said.starts_with(&beginning) && !hides(&said), "{said:?}");
    }
}
