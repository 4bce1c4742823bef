//! Checks a UserSig as the vendor does, written from the page and not from the operator's signer.

use super::App;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use serde::Deserialize;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    sdk_app_id: u32,
    #[serde(rename = "TLS.expire")]
    expire: i64,
    #[serde(rename = "TLS.time")]
    time: i64,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

/// `Ok` if `user_sig` was signed by `app` for `identifier`, no more than `ahead` seconds after `wall`, and is valid then,
/// else ErrorCode and ErrorInfo.
pub(super) fn check(
    user_sig: &str,
    app: &App,
    identifier: &str,
    wall: i64,
    ahead: i64,
) -> Result<(), (i64, String)> {
    let refuse = |code: i64, why: &str| Err((code, why.to_owned()));
    if user_sig.is_empty() {
        return refuse(70002, "the UserSig is empty");
    }
    let Some(document) = open(user_sig) else {
        return refuse(70003, "the UserSig cannot be read");
    };
    if document.identifier != identifier {
        return refuse(70013, "the identifier differs");
    }
    if document.sdk_app_id != app.sdk_app_id {
        return refuse(70014, "the SDKAppID differs");
    }
    let text = format!(
        "TLS.identifier:{identifier}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n",
        app.sdk_app_id, document.time, document.expire
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, app.secret_key.as_bytes());
    let genuine = STANDARD
        .decode(&document.signature)
        .is_ok_and(|signature| hmac::verify(&key, text.as_bytes(), &signature).is_ok());
    if !genuine || document.version != "2.0" {
        return refuse(70009, "the UserSig was made with another key");
    }
    if wall > document.time + document.expire {
        return refuse(70001, "the UserSig has expired");
    }
    if document.time - wall > ahead {
        return refuse(70003, "the UserSig is from the future");
    }
    Ok(())
}

fn open(user_sig: &str) -> Option<Document> {
    let text: String = user_sig
        .chars()
        .map(|c| match c {
            '*' => '+',
            '-' => '/',
            '_' => '=',
            other => other,
        })
        .collect();
    let packed = STANDARD.decode(text).ok()?;
    serde_json::from_slice(&miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, 4096).ok()?).ok()
}
