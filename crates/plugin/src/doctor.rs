//! `doctor`: everything that a call needs, checked one after the other; each fault names its mend.
//!
//! Calls nobody's room engine but for the root of its endpoint, with nothing signed. It looks from where it runs: what
//! only the operator's Pod cannot reach stands in the operator's log, and in the reason `Unreachable`.

mod application;
mod installation;

use application::application;
use installation::{clocks, crds, operator, policy, rights};

use super::{
    Error, Finding, Result,
    cluster::{Choice, Cluster, Flags},
    output::{Out, Tone},
};
use clap::Args;
use kube::ResourceExt;
use roomrobot_core::{crd::RtcApplication, endpoint::Endpoint};
use serde::Serialize;
use std::collections::BTreeSet;

/// What is checked.
#[derive(Debug, Args)]
pub struct Target {
    /// Only this RtcApplication [default: all of them].
    application: Option<String>,
    /// An endpoint that the operator's --allow-endpoint names; repeatable.
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    allow_endpoint: Vec<Endpoint>,
    /// The operator's ServiceAccount, whose rights are checked [default: that of its Pod, else roomrobot-operator].
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Do not ask the endpoints: no DNS, no TLS, no clock of theirs.
    #[arg(long)]
    no_network: bool,
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<Endpoint>().map_err(|why| why.to_string())
}

/// The most seconds that two clocks may differ: a UserSig lives for a day, but the vendor refuses one of the future.
const CLOCKS: i64 = 60;

/// How a check ended.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Could not be looked at, or is a matter of taste.
    Note,
    /// Wrong.
    Fault,
}

/// One check.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Check {
    about: String,
    verdict: Verdict,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// The checks so far; printed as they come, where a person waits for them.
struct Report<'a> {
    flags: &'a Flags,
    out: &'a mut Out,
    checks: Vec<Check>,
}

impl Report<'_> {
    fn add(&mut self, about: &str, verdict: Verdict, text: impl Into<String>, mend: Option<String>) {
        let (text, mend) = (self.flags.put(&text.into()), mend.map(|mend| self.flags.put(&mend)));
        let check = Check { about: about.to_owned(), verdict, text, mend };
        if self.out.for_people() {
            let (word, tone) = match verdict {
                Verdict::Ok => ("ok   ", Tone::Good),
                Verdict::Note => ("note ", Tone::Waiting),
                Verdict::Fault => ("FAULT", Tone::Bad),
            };
            self.out.progress_over();
            self.out.toned(&format!("{word} {}: {}", check.about, check.text), tone);
            if let Some(mend) = &check.mend {
                self.out.line(&format!("      mend: {mend}"));
            }
        }
        self.checks.push(check);
    }

    fn ok(&mut self, about: &str, text: impl Into<String>) {
        self.add(about, Verdict::Ok, text, None);
    }

    fn note(&mut self, about: &str, text: impl Into<String>) {
        self.add(about, Verdict::Note, text, None);
    }

    fn fault(&mut self, about: &str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(about, Verdict::Fault, text, Some(mend.into()));
    }
}

/// Checks everything and prints.
///
/// # Errors
/// If the API server cannot be asked at all.
pub async fn run(cluster: &Cluster, target: &Target, out: &mut Out) -> Result<Finding> {
    let mut report = Report { flags: &cluster.flags, out, checks: Vec::new() };
    let server = cluster.client.apiserver_version().await?;
    report.ok("API server", format!("answers, Kubernetes {}", server.git_version));
    rights(cluster, target, &mut report).await;
    if crds(cluster, &mut report).await {
        policy(cluster, &mut report).await;
        operator(cluster, &mut report);
        let applications = cluster.readable_applications().await?;
        if applications.is_none() {
            report.note(
                "RtcApplications",
                "you may not read them, so neither Secrets nor endpoints are looked at; ask somebody who may to run this",
            );
        }
        let readable = applications.is_some();
        let applications = applications.unwrap_or_default();
        let chosen: Vec<&RtcApplication> = applications
            .iter()
            .filter(|found| target.application.as_ref().is_none_or(|name| found.name_any() == *name))
            .collect();
        if let Some(name) = target.application.as_ref().filter(|_| readable && chosen.is_empty()) {
            return Err(Error(format!("there is no RtcApplication {name}")));
        }
        if readable && chosen.is_empty() {
            report.fault(
                "RtcApplications",
                "there is none, so no robot can be taken in charge",
                "create one: docs/reference.md#rtcapplication",
            );
        }
        clocks(cluster, &mut report);
        let robots = if chosen.is_empty() {
            Vec::new()
        } else {
            let own = BTreeSet::from([cluster.default_namespace.clone()]);
            cluster.readable_robots(&own, Choice::default(), report.out).await?.0
        };
        for found in chosen {
            application(cluster, target, found, &robots, &mut report).await;
        }
    }
    let Report { out, checks, .. } = report;
    let faults = checks.iter().filter(|check| check.verdict == Verdict::Fault).count();
    if out.for_people() {
        out.line("");
        let tone = if faults == 0 { Tone::Good } else { Tone::Bad };
        out.toned(&format!("{} checks, {faults} faults.", checks.len()), tone);
    } else {
        out.value(&checks)?;
    }
    Ok(if faults == 0 { Finding::Fine } else { Finding::NeedsAPerson })
}
