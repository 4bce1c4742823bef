//! Which operator acts, as Leases and Pods tell it.

use super::{Acting, OPERATOR};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use std::fmt::Debug;

/// Who acts, or acted: the holder of a Lease, or a Pod that needs none.
#[derive(Clone, Debug)]
pub struct Leader {
    /// The Lease's name; `None` without leader election.
    pub lease: Option<String>,
    /// The Pod; `None` where the Lease was given back.
    pub pod: Option<String>,
    /// Whether it acts: its Lease has not run out, or the Pod is ready.
    pub acts: bool,
    /// The seconds by which the operator's clock is ahead of the API server's, where its Lease tells.
    pub ahead: Option<i64>,
}

impl Leader {
    /// How it stands, in words.
    #[must_use]
    pub fn tell(&self) -> String {
        let pod = self.pod.as_deref().unwrap_or_default();
        match (&self.pod, &self.lease, self.acts) {
            (None, ..) => "nobody holds its Lease: no operator acts".to_owned(),
            (_, Some(_), true) => format!("{pod} acts"),
            (_, Some(_), false) => format!("{pod} held its Lease last; it has run out"),
            (_, None, true) => format!("{pod} acts, without leader election"),
            (_, None, false) => format!("{pod} is not ready, and there is no Lease"),
        }
    }
}

/// Whether it is certain that nobody acts.
#[must_use]
pub fn nobody(acting: Acting<'_>) -> bool {
    acting.is_ok_and(|leaders| !leaders.iter().any(|leader| leader.acts))
}

/// The holder of a Lease of the operator. When it was written is the API server's time, `renewTime` the operator's.
pub(super) fn leader(lease: &Lease, now: Timestamp) -> Option<Leader> {
    let name = lease.name_any();
    // A shard's ends with the hash of its selector.
    let rest = name.strip_prefix(OPERATOR)?;
    let shard = |hash: &str| hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit());
    if !(rest.is_empty() || rest.strip_prefix('-').is_some_and(shard)) {
        return None;
    }
    let spec = lease.spec.as_ref()?;
    let renewed = spec.renew_time.as_ref().map(|time| time.0.as_second());
    let fields = lease.metadata.managed_fields.iter().flatten();
    let written = fields.filter_map(|entry| entry.time.as_ref()).map(|time| time.0.as_second()).max();
    let age = written.or(renewed).map(|written| now.as_second() - written);
    let holder = spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
    // The identity is the Pod's name and eight digits that tell one start from another.
    let pod = holder.map(|holder| holder.rsplit_once('-').map_or(holder, |(pod, _)| pod).to_owned());
    let lasts = i64::from(spec.lease_duration_seconds.unwrap_or(15)) + 5;
    let acts = pod.is_some() && age.is_some_and(|age| age <= lasts);
    let ahead = pod.as_ref().and(renewed).zip(written).map(|(renewed, written)| renewed - written);
    Some(Leader { lease: Some(name), pod, acts, ahead })
}

/// A Pod of an operator that has no Lease.
pub(super) fn without_lease(pod: &Pod) -> Leader {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let acts =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Leader { lease: None, pod: Some(pod.name_any()), acts, ahead: None }
}
