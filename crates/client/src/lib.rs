//! How the operator and its kubectl plugin reach their servers: the room engine, and a cluster's API server.
//!
//! - [`room_engine`]: one call over HTTP
//! - [`proxy`]: which clusters are reached without the proxy of the environment
//! - [`errors`]: what went wrong with a request to the API server, in words
//! - [`clock`]: the clock that the right to act is measured by

pub mod clock;
pub mod errors;
pub mod proxy;
pub mod room_engine;
