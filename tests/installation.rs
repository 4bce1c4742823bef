//! The installation as users have it: the chart under a real Helm, the manifests and documents made from it, Argo CD and
//! Flux. Pods do not run here: their containers run as processes, with the arguments, the environment and the
//! ServiceAccount that the API server has stored.

mod generated;
mod gitops;
mod helm;
mod release;
mod rights;
mod values;
