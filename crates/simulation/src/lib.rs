//! Searches the orders of what can happen to roomrobot-operator; for development only.
//!
//! - [`story`]: what happens, as data
//! - [`world`]: where it happens: replicas with the real engine and election, an API server, a room engine, one clock
//! - [`search`]: stories that nobody thought of, and the shortest one of those that break a promise
//! - [`orders`]: every order of a small world
//!
//! What a promise is stands in the crate `promises`, which the tests on a real control plane ask, too.
//! `docs/verification.md` says what is modelled and what is not.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers of a small world"
)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a world that is wrong is to end"
)]
#![allow(clippy::result_large_err, reason = "a refusal is as large as the API server makes it")]
#![allow(clippy::similar_names, reason = "a life and its limit, a stream and its streams")]
#![allow(clippy::needless_pass_by_value, reason = "what is made on the spot")]
#![allow(clippy::wildcard_imports, reason = "parts of one world")]
#![allow(missing_docs, reason = "inside of one program")]

mod checks;
mod cluster;
pub mod orders;
mod replica;
pub mod search;
pub mod story;
pub mod world;
