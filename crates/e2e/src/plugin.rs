//! `kubectl roomrobot` as a person runs it beside the cluster: what only a real Pod shows, its metrics through the API
//! server.

use super::{PATIENCE, ROBOTS, SYSTEM, cluster::Cluster, jobs};
use testbed::{Result, observe::all_ready, report::ensure, tool::Tool};

/// `why` finds the leader's Pod by its Lease, and reads the quota and the line there.
///
/// # Errors
/// If the plugin cannot be built or run, or does not tell the quota.
pub async fn quota(cluster: &Cluster) -> Result<Vec<String>> {
    let name = "asked-about".to_owned();
    jobs::create(cluster, ROBOTS, &[(name.clone(), "asked-lobby".to_owned(), "asked-robot".to_owned())])?;
    all_ready(&cluster.client, ROBOTS, 1, PATIENCE).await?;
    let cargo = Tool::new("cargo", "put Rust's cargo into the PATH");
    let run = ["run", "--quiet", "--locked", "-p", "kubectl-roomrobot", "--"];
    let why = ["why", &name, "-n", ROBOTS, "--operator-namespace", SYSTEM];
    let screen = cargo.run(&[&run[..], &why].concat())?;
    let line = |about: &str| screen.lines().find(|line| line.trim_start().starts_with(about));
    let quota = line("quota").unwrap_or_default().trim().to_owned();
    ensure(quota.contains("in line for a call, at"), || format!("`why` tells no quota:\n{screen}"))?;
    ensure(line("operator").is_some_and(|line| line.contains(" acts")), || screen.clone())?;
    cluster.kubectl.run(&["delete", "roomrobot", &name, "-n", ROBOTS])?;
    Ok(vec![quota])
}
