//! Checks of one RtcApplication: its Secret, its endpoint, what the room engine says of it, and its RoomRobots.

use super::installation::side;
use super::{CLOCKS, Report, Target};
use crate::cluster::{Cluster, Seen, http_date};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{Api, ResourceExt};
use roomrobot_client::room_engine::RoomEngine;
use roomrobot_core::{
    application::Credentials,
    call::TroubleKind,
    crd::RtcApplication,
    endpoint::{Allowed, Endpoint},
    explain::{self, Step, Subject},
    right::Until,
    status::{Is, Kind, Reason},
    usersig,
};
use std::collections::{BTreeMap, BTreeSet};

/// What the operator says of an application.
struct Told {
    pub(super) status: String,
    pub(super) reason: Reason,
    pub(super) message: String,
    /// Whether it is about the stored spec.
    pub(super) current: bool,
}

pub(super) async fn application(
    cluster: &Cluster,
    target: &Target,
    found: &RtcApplication,
    robots: &[Seen],
    report: &mut Report<'_>,
) {
    let name = found.name_any();
    if found.spec.suspend {
        report.fault(
            &format!("{name}: suspend"),
            "is true, so nothing is called",
            format!(
                r#"kubectl patch rtcapplication {name} --type merge -p '{{"spec":{{"suspend":false}}}}'"#
            ),
        );
    }
    let credentials = secret(cluster, found, report).await;
    sign(found, credentials.as_ref(), report);
    if let Some(endpoint) = allowed(target, found, report)
        && !target.no_network
    {
        knock(&name, &endpoint, report).await;
    }
    verdict(found, report);
    of_robots(&name, robots, report);
}

async fn secret(cluster: &Cluster, found: &RtcApplication, report: &mut Report<'_>) -> Option<Credentials> {
    let (namespace, secret) = (&cluster.operator_namespace, &found.spec.credentials.secret_ref.name);
    let about = format!("{}: Secret", found.name_any());
    let mend = |step: Step| step.command().replace("{secret}", secret).replace("{operator}", namespace);
    let api = Api::<Secret>::namespaced(cluster.client.clone(), namespace);
    let stored = match api.get_opt(secret).await {
        Ok(Some(stored)) => stored,
        Ok(None) if cluster.acting.is_err() && !cluster.operator_named => {
            report.note(
                &about,
                format!("{secret} does not exist in {namespace}, and no operator is seen there: name its namespace with --operator-namespace"),
            );
            return None;
        }
        Ok(None) => {
            report.fault(&about, format!("{secret} does not exist in {namespace}"), mend(Step::CreateSecret));
            return None;
        }
        Err(error) => {
            let why = roomrobot_client::errors::explain(&error);
            report.note(&about, format!("{secret} cannot be read: {why}"));
            return None;
        }
    };
    let data: BTreeMap<String, Vec<u8>> =
        stored.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect();
    let credentials = Credentials::read(Some(&data));
    match &credentials {
        Credentials::Invalid(why) => {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            report.fault(
                &about,
                format!("{secret} cannot be used: {why} (its keys: {keys})"),
                mend(Step::ReplaceSecret),
            );
            None
        }
        Credentials::Key(_) => {
            report.ok(&about, format!("{secret} has a secretKey"));
            Some(credentials)
        }
        _ => {
            report.ok(&about, format!("{secret} has a userSig"));
            Some(credentials)
        }
    }
}

/// A signature is made; that it is genuine only the room engine can say.
fn sign(found: &RtcApplication, credentials: Option<&Credentials>, report: &mut Report<'_>) {
    let about = format!("{}: signature", found.name_any());
    let (identifier, id) = (&found.spec.identifier, found.spec.sdk_app_id);
    match credentials {
        Some(Credentials::Key(key)) => {
            let Ok(number) = u32::try_from(id) else {
                return report.fault(&about, "sdkAppId is out of range", "correct spec.sdkAppId");
            };
            let now = Timestamp::now().as_second();
            let made = usersig::sign(key, number, identifier, now, usersig::LIFETIME);
            report.ok(&about, format!("made for {identifier} of {id}, {} bytes", made.expose().len()));
        }
        Some(_) => report.note(&about, "was made elsewhere; the operator cannot renew it"),
        None => report.note(&about, "cannot be made without the Secret"),
    }
}

/// The endpoint, if a call may go there.
pub(super) fn allowed(target: &Target, found: &RtcApplication, report: &mut Report<'_>) -> Option<Endpoint> {
    let name = found.name_any();
    let about = format!("{name}: endpoint");
    let endpoint = match found.spec.endpoint.parse::<Endpoint>() {
        Ok(endpoint) => endpoint,
        Err(why) => {
            report.fault(
                &about,
                format!("cannot be used: {why}"),
                format!("kubectl edit rtcapplication {name}"),
            );
            return None;
        }
    };
    let known = Allowed::new(target.allow_endpoint.iter().cloned()).contains(&endpoint);
    let told = ready(found).filter(|ready| ready.current).map(|ready| ready.reason);
    match told {
        Some(Reason::EndpointNotAllowed) => report.fault(
            &about,
            format!("{endpoint} is none of the vendor's https hosts, and the operator does not allow it"),
            format!(
                "correct it: kubectl edit rtcapplication {name}; or start the operator with --allow-endpoint {endpoint}"
            ),
        ),
        // A brake comes before the endpoint in what the operator says.
        None | Some(Reason::Suspended) if !known => report.note(
            &about,
            format!("{endpoint} is none of the vendor's https hosts, and the operator has not said whether it allows it"),
        ),
        _ => report.ok(&about, format!("{endpoint} is allowed")),
    }
    Some(endpoint)
}

/// DNS, connection, TLS and clock of the endpoint, from here.
async fn knock(name: &str, endpoint: &Endpoint, report: &mut Report<'_>) {
    let about = format!("{name}: way to the endpoint");
    report.out.progress(&format!("asking {endpoint}"));
    let engine = match RoomEngine::new(Until::default()) {
        Ok(engine) => engine,
        Err(error) => return report.note(&about, error.to_string()),
    };
    match engine.knock(endpoint).await {
        Ok(date) => {
            report.ok(&about, format!("{endpoint} answers here"));
            let about = format!("{name}: clock");
            let Some(theirs) = date.as_deref().and_then(http_date) else {
                return report.note(&about, format!("{endpoint} does not tell the time"));
            };
            let ahead = Timestamp::now().as_second() - theirs.as_second();
            if ahead.abs() > CLOCKS {
                report.fault(
                    &about,
                    format!("this machine is {} s {} {endpoint}; a UserSig is refused where the operator's is too", ahead.abs(), side(ahead)),
                    "set the clock (chrony, systemd-timesyncd), here and on the operator's node",
                );
            } else {
                report.ok(&about, format!("agrees with {endpoint}"));
            }
        }
        Err(kind) => {
            let mend = match kind {
                TroubleKind::Name => "correct spec.endpoint, or the cluster's DNS",
                TroubleKind::Certificate => {
                    "correct spec.endpoint, or find what stands between: a proxy with a certificate of its own"
                }
                TroubleKind::Refused | TroubleKind::Connect | TroubleKind::Timeout => {
                    "correct spec.endpoint, or open the way out: firewall, NetworkPolicy, proxy"
                }
                _ => "see what stands between",
            };
            report.fault(&about, format!("{endpoint}: {}", kind.meaning()), mend);
        }
    }
}

fn ready(found: &RtcApplication) -> Option<Told> {
    let conditions = found.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == Kind::Ready.as_str())?;
    Some(Told {
        status: ready.status.clone(),
        reason: Reason::parse(&ready.reason),
        message: ready.message.clone(),
        current: ready.observed_generation == found.metadata.generation,
    })
}

/// What the operator itself says of the application, where nothing above has said it.
pub(super) fn verdict(found: &RtcApplication, report: &mut Report<'_>) {
    let about = format!("{}: Ready", found.name_any());
    let Some(Told { status, reason, message, .. }) = ready(found) else {
        return report.note(&about, "the operator has not said anything of it yet");
    };
    let row = explain::look_up(Subject::RtcApplication, Kind::Ready, reason);
    let said_above = matches!(
        reason,
        Reason::Suspended | Reason::SecretNotFound | Reason::SecretInvalid | Reason::EndpointNotAllowed
    );
    if status == Is::True.as_str() {
        report.ok(&about, format!("{reason}: {message}"));
    } else if said_above {
        report.note(&about, format!("{reason}: {message}"));
    } else {
        let mend = row.map_or_else(|| "see the message".to_owned(), |row| row.remedy.replace('`', ""));
        report.fault(&about, format!("{reason}: {message}"), mend);
    }
}

/// RoomRobots of the application that were refused or are suspended.
fn of_robots(name: &str, robots: &[Seen], report: &mut Report<'_>) {
    let own = || robots.iter().filter(|seen| &*seen.robot.application == name);
    let refused: BTreeSet<&str> = own()
        .filter(|seen| seen.robot.conditions.reason(Kind::Accepted) == Some(Reason::NamespaceNotAllowed))
        .map(|seen| &*seen.robot.key.namespace)
        .collect();
    for namespace in refused {
        report.fault(
            &format!("{name}: namespace {namespace}"),
            "is not allowed: allowedNamespaces of the RtcApplication selects by labels that it does not have",
            format!("kubectl label namespace {namespace} KEY=VALUE, as `kubectl get rtcapplication {name} -o jsonpath='{{.spec.allowedNamespaces}}'` says"),
        );
    }
    let suspended: Vec<String> =
        own().filter(|seen| seen.robot.suspend).map(|seen| seen.robot.key.to_string()).collect();
    if let Some(first) = suspended.first() {
        let (namespace, robot) = first.split_once('/').unwrap_or_default();
        report.fault(
            &format!("{name}: RoomRobots"),
            format!("suspended, so nothing is called for them: {}, the first is {first}", suspended.len()),
            format!(r#"kubectl patch roomrobot {robot} -n {namespace} --type merge -p '{{"spec":{{"suspend":false}}}}'"#),
        );
    }
}
