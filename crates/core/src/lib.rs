//! Everything that roomrobot-operator decides. Its `Cargo.toml` is the proof that it is pure: no client, no async runtime, no
//! HTTP, no clock. The time comes in with each input, and what is to be done goes out as values.
//!
//! - [`crd`]: the two resources, their schema and limits
//! - [`codes`]: what the room engine's ErrorCodes mean: one table
//! - [`call`], [`usersig`], [`endpoint`]: a call as values: who calls, where to, and how it ended
//! - [`explain`]: what each reason of a condition means and what a person can type: one table
//! - [`plan`]: the next step for one robot
//! - [`status`]: conditions and their reasons
//! - [`robot`], [`application`]: what is kept of the stored objects; the circuit breaker; [`sparse`]: lists of others' elements
//! - [`rate_limiter`], [`backoff`]: when a call may start; [`min_rtt`]: how long the way takes
//! - [`index`], [`engine`]: all robots, what is under way, and what follows from an input
//! - [`election`]: who holds the Lease, and what follows from an answer; [`right`]: what that means for the engine
//! - [`api_server`]: patches, and what the API server's answers to them mean
//! - [`write_trouble`]: writes to one object that failed, and when they are tried again
//! - [`printable`], [`quoted`]: text of objects and servers, made safe to print, and to read back

pub mod api_server;
pub mod application;
pub mod backoff;
pub mod call;
pub mod codes;
pub mod crd;
pub mod election;
pub mod endpoint;
pub mod engine;
pub mod explain;
pub mod index;
pub mod min_rtt;
pub mod plan;
pub mod printable;
pub mod quoted;
pub mod rate_limiter;
pub mod right;
pub mod robot;
pub mod sparse;
pub mod status;
pub mod usersig;
pub mod write_trouble;
