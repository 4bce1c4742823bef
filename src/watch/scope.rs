//! Which RoomRobots are watched.

use std::{collections::BTreeSet, sync::Arc};

/// Eight hexadecimal digits for `text`, the same in every version: they stand in the names of stored things.
#[must_use]
pub fn short_hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    format!("{:08x}", u32::from_be_bytes(first))
}

/// Which RoomRobots are watched.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these namespaces; empty means all.
    pub namespaces: Vec<String>,
    /// Only these labels.
    pub selector: Option<String>,
}

impl Scope {
    /// What tells this part of the RoomRobots from others in names; `None` for all of them.
    #[must_use]
    pub fn shard(&self) -> Option<String> {
        if self.namespaces.is_empty() && self.selector.is_none() {
            return None;
        }
        let namespaces: BTreeSet<&str> = self.namespaces.iter().map(String::as_str).collect();
        let namespaces: Vec<&str> = namespaces.into_iter().collect();
        Some(short_hash(&format!(
            "{}|{}",
            self.selector.as_deref().unwrap_or_default(),
            namespaces.join(",")
        )))
    }

    /// The separate lists that this comes to.
    #[must_use]
    pub fn lists(&self) -> Vec<Option<Arc<str>>> {
        if self.namespaces.is_empty() {
            return vec![None];
        }
        let namespaces: BTreeSet<&str> = self.namespaces.iter().map(String::as_str).collect();
        namespaces.into_iter().map(|namespace| Some(namespace.into())).collect()
    }
}
