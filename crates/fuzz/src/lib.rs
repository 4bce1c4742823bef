//! Fuzzing of all that the operator and its plugin read of others: one function for each kind of bytes, which states what
//! has to hold of any of them. It panics where that does not hold.
//!
//! The same functions run in two ways. `make fuzz` builds them with coverage for libFuzzer and searches for new paths.
//! `cargo test` runs them over the committed corpus and over a fixed number of inputs near it, always the same ones.
//!
//! libFuzzer is used by its crate alone, without cargo-fuzz or bolero. The coverage that it follows is an option of every
//! rustc, and there is no unsafe code here for a sanitizer to watch: so the pinned toolchain and a C++ compiler are
//! enough, nothing has to be installed, and `cargo test` needs no crate that the operator has not.

// A panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(test)]
mod near;
mod targets;
#[cfg(test)]
mod tests;

/// What is to hold of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Panics where it does not hold.
    pub check: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident,)*) => {
        /// All of them.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), check: targets::$name::check },)*];
    };
}

targets! {
    api_error,
    application,
    audit,
    endpoint,
    event,
    kubeconfig,
    lean,
    manifest,
    plan,
    printable,
    proxy,
    reply,
    robot,
    secret,
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
