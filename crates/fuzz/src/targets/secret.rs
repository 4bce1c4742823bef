//! The data of a Secret. First line: its keys, with blanks between them; then their values, with `|` between them.
//!
//! - One of the two keys, with a text, is a credential; both, or none, or no text is not.
//! - Neither the credential nor why there is none shows a byte of the Secret.
//! - What a key signs can stand in a query as it is, and tells nothing of the key.

use super::head;
use roomrobot_core::{
    application::Credentials,
    usersig::{LIFETIME, sign},
};
use std::collections::BTreeMap;

pub fn check(bytes: &[u8]) {
    let (keys, values) = head(bytes);
    let keys = String::from_utf8_lossy(keys);
    let values = values.split(|byte| *byte == b'|').map(<[u8]>::to_vec);
    let data: BTreeMap<String, Vec<u8>> = keys.split(' ').map(str::to_owned).zip(values).collect();
    let text = |key: &str| data.get(key).map(|value| std::str::from_utf8(value).ok().map(str::trim));
    let credentials = Credentials::read(Some(&data));
    let shown = format!("{credentials:?}");
    match &credentials {
        Credentials::Key(key) => {
            assert_eq!(shown, "Key(<redacted>)");
            assert!(!key.expose().is_empty());
            assert_eq!((text("secretKey"), text("userSig")), (Some(Some(key.expose())), None));
            let signed = sign(key, 1_400_000_000, "administrator", 1_800_000_000, LIFETIME);
            let safe = |letter: char| letter.is_ascii_alphanumeric() || "*-_".contains(letter);
            assert!(signed.expose().chars().all(safe));
            assert!(key.expose().len() < 16 || !signed.expose().contains(key.expose()));
            assert_eq!(format!("{signed:?}"), "<redacted>");
        }
        Credentials::UserSig(sig) => {
            assert_eq!(shown, "UserSig(<redacted>)");
            assert!(!sig.expose().is_empty());
            assert_eq!((text("secretKey"), text("userSig")), (None, Some(Some(sig.expose()))));
        }
        Credentials::Invalid(why) => {
            let known = [
                "it has neither secretKey nor userSig",
                "it has both secretKey and userSig; keep one",
                "its secretKey is empty",
                "its userSig is empty",
                "its secretKey is not text",
                "its userSig is not text",
            ];
            assert!(known.contains(&why.as_str()), "{why}");
            let usable = |key: &str| text(key).is_some_and(|text| text.is_some_and(|text| !text.is_empty()));
            let both = data.contains_key("secretKey") && data.contains_key("userSig");
            assert!(both || !usable("secretKey") && !usable("userSig"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}
