//! UserSig (TLSSigAPIv2): who calls, signed with the application's key.
//!
//! Pure: the time comes in, the text goes out. Source: the vendor's "Generating UserSig" page and official signers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use std::{fmt, time::Duration};

/// How long a UserSig lives. The vendor's error table advises at least 24 h.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Text that must never reach a log, a status, an event or a metric. Its `Debug` says so.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Signs for `identifier` of `sdk_app_id`, valid from `now` (Unix seconds) for `lifetime`.
#[must_use]
pub fn sign(key: &Sensitive, sdk_app_id: u32, identifier: &str, now: i64, lifetime: Duration) -> Sensitive {
    let expire = lifetime.as_secs();
    let text = format!(
        "TLS.identifier:{identifier}\nTLS.sdkappid:{sdk_app_id}\nTLS.time:{now}\nTLS.expire:{expire}\n"
    );
    // The key is used as text; it is not hex-decoded though it looks so.
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let json = serde_json::json!({
        "TLS.ver": "2.0",
        "TLS.identifier": identifier,
        "TLS.sdkappid": sdk_app_id,
        "TLS.expire": expire,
        "TLS.time": now,
        "TLS.sig": signature,
    })
    .to_string();
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(json.as_bytes(), 6);
    Sensitive(STANDARD.encode(packed).chars().map(url_safe).collect())
}

/// The vendor's own alphabet for what base64 has outside letters and digits.
fn url_safe(c: char) -> char {
    match c {
        '+' => '*',
        '/' => '-',
        '=' => '_',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn decode(usersig: &str) -> Value {
        let base64: String = usersig
            .chars()
            .map(|c| match c {
                '*' => '+',
                '-' => '/',
                '_' => '=',
                other => other,
            })
            .collect();
        let packed = STANDARD.decode(base64).unwrap();
        serde_json::from_slice(&miniz_oxide::inflate::decompress_to_vec_zlib(&packed).unwrap()).unwrap()
    }

    #[test]
    fn the_official_vectors_decode_to_the_same_document() {
        let vectors: Value = serde_json::from_str(include_str!("../testdata/usersig_vectors.json")).unwrap();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 3);
        for vector in vectors {
            let sdk_app_id = u32::try_from(vector["sdkappid"].as_u64().unwrap()).unwrap();
            let signed = sign(
                &Sensitive::new(vector["key"].as_str().unwrap().to_owned()),
                sdk_app_id,
                vector["identifier"].as_str().unwrap(),
                vector["time"].as_i64().unwrap(),
                Duration::from_secs(vector["expire"].as_u64().unwrap()),
            );
            assert_eq!(decode(signed.expose()), vector["decoded_json"], "{}", vector["name"]);
            for official in vector["usersig"].as_object().unwrap().values() {
                assert_eq!(decode(official.as_str().unwrap()), vector["decoded_json"], "{}", vector["name"]);
            }
        }
    }

    #[test]
    fn the_text_is_safe_in_a_query_string() {
        for second in 1_700_000_000..1_700_000_200 {
            let signed =
                sign(&Sensitive::new("k".repeat(64)), 1_400_000_000, "administrator", second, LIFETIME);
            assert!(signed.expose().chars().all(|c| c.is_ascii_alphanumeric() || "*-_".contains(c)));
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Sensitive::new("key".into())), "<redacted>");
    }
}
