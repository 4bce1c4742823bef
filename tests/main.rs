//! The promises of the operator, each in a module of its own, on a real control plane and over real HTTP.

// A panic is how a test reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;

mod alerts;
mod alerts_seen;
mod born_with_finalizer;
mod claims;
mod create;
mod election;
mod good_neighbours;
mod installation;
mod nothing_lost;
mod nothing_stuck;
mod one_call;
mod plugin;
mod program;
mod quiet;
mod quota;
mod refusals;
mod refused_writes;
mod reliability;
mod request_id;
mod resources;
mod secrets;
mod traces;
mod views;
