//! roomrobot-operator: Kubernetes resources that make the removal of Tencent RTC room robots declarative and certain.
//!
//! This is the program: effects, without decisions. What decides is [`roomrobot_core`]; what the kubectl plugin reaches servers
//! with, too, is [`roomrobot_client`].
//!
//! - [`kubernetes`]: writes to the API server; [`lean`]: its answers without what nobody reads; [`deadline`]: how long
//!   they may take
//! - [`watch`]: what is stored, as inputs for the engine
//! - [`leader`]: which replica acts
//! - [`server`], [`metrics`]: `/livez`, `/readyz`, `/metrics`
//! - [`traces`]: spans of calls, writes and deletions, to a collector
//! - [`effects`]: carries out what the engine says
//! - [`operator`]: the task that ties them together
//!
//! The program: [`cli`], [`telemetry`]; what the Helm chart's hooks run: [`hooks`]; for test builds: [`crash`].

pub mod cli;
pub mod crash;
pub mod deadline;
pub mod effects;
pub mod hooks;
pub mod kubernetes;
pub mod leader;
pub mod lean;
pub mod metrics;
pub mod operator;
pub mod server;
pub mod telemetry;
pub mod traces;
pub mod watch;

#[cfg(test)]
mod docs;
