//! roomrobot-operator: Kubernetes resources that make the removal of Tencent RTC room robots declarative and certain.
//!
//! The map, from what decides to what acts:
//!
//! Pure, without client, clock or async; nearly every decision is tested here:
//! - [`crd`]: the two resources, their schema and limits
//! - [`codes`]: what the room engine's ErrorCodes mean: one table
//! - [`explain`]: what each reason of a condition means and what a person can type: one table
//! - [`plan`]: the next step for one robot
//! - [`status`]: conditions and their reasons
//! - [`robot`], [`application`]: what is kept of the stored objects; the breaker
//! - [`pace`], [`backoff`]: when a call may start
//! - [`usersig`], [`endpoint`]: who calls, and where calls may go
//! - [`printable`]: text of objects and servers, made safe to print
//! - [`index`], [`engine`]: all robots, what is under way, and what follows from an input
//! - [`election`]: who holds the Lease, and what follows from an answer; [`right`]: what that means for the engine
//!
//! Effects, without decisions:
//! - [`room_engine`]: one call over HTTP
//! - [`kubernetes`]: writes to the API server; [`lean`]: its answers without what nobody reads; [`deadline`]: how long
//!   they may take; [`proxy`]: whether by way of a proxy
//! - [`watch`]: what is stored, as inputs for the engine
//! - [`leader`]: which replica acts; [`clock`]: what that is measured by
//! - [`server`], [`metrics`]: `/livez`, `/readyz`, `/metrics`
//! - [`traces`]: spans of calls, writes and deletions, to a collector
//! - [`operator`]: the task that ties them together
//!
//! The kubectl plugin, which reads with the same types and asks the same decisions: `plugin`.
//!
//! The program: [`cli`], [`telemetry`]; what the Helm chart's hooks run: [`hooks`]; for test builds: [`crash`].

pub mod application;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod crash;
pub mod crd;
pub mod deadline;
pub mod election;
pub mod endpoint;
pub mod engine;
pub mod explain;
pub mod hooks;
pub mod index;
pub mod kubernetes;
pub mod leader;
pub mod lean;
pub mod metrics;
pub mod operator;
pub mod pace;
pub mod plan;
#[cfg(feature = "plugin")]
pub mod plugin;
pub mod printable;
pub mod proxy;
pub mod quickest;
pub mod right;
pub mod robot;
pub mod room_engine;
pub mod server;
pub mod status;
pub mod telemetry;
pub mod traces;
pub mod usersig;
pub mod watch;

#[cfg(test)]
mod docs;
