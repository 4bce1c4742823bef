//! What is read of a stored RtcApplication, and of its Secret.

use crate::{
    crd::{APPLICATION_FINALIZER, RtcApplication},
    endpoint::{Allowed, Endpoint},
    robot::Finalizers,
    status::Conditions,
    usersig::Sensitive,
};
use kube::core::Selector;
use std::{collections::BTreeMap, sync::Arc};

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// What decisions need of a stored `RtcApplication`.
#[derive(Clone, Debug)]
pub struct StoredApplication {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.uid`
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`
    pub resource_version: u64,
    /// `metadata.generation`
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// `metadata.finalizers`
    pub finalizer_names: Vec<String>,
    /// Where ours stands among them.
    pub finalizers: Finalizers,
    /// `spec.sdkAppId`
    pub sdk_app_id: u32,
    /// `spec.identifier`
    pub identifier: Arc<str>,
    /// `spec.endpoint`, or why it may not be called.
    pub endpoint: Result<Endpoint, String>,
    /// `spec.credentials.secretRef.name`
    pub secret: Arc<str>,
    /// `spec.requestsPerSecond`
    pub requests_per_second: u32,
    /// `spec.allowedNamespaces.selector`; an error if it cannot be read, which allows none.
    pub allowed_namespaces: Result<Option<Selector>, ()>,
    /// `spec.suspend`
    pub suspend: bool,
    /// `status.conditions`
    pub conditions: Conditions,
    /// Whether the stored `Ready` says of this very spec that a call was accepted.
    pub verified: bool,
    /// `status.robots` and `status.deleting`
    pub counts: (Option<i64>, Option<i64>),
}

impl StoredApplication {
    /// Reads a stored application.
    #[must_use]
    pub fn read(stored: RtcApplication, allowed: &Allowed) -> Self {
        let RtcApplication { metadata: meta, spec, status } = stored;
        let there = status.is_some();
        let status = status.unwrap_or_default();
        let endpoint = match spec.endpoint.parse::<Endpoint>() {
            Err(why) => Err(format!("spec.endpoint cannot be used: {why}")),
            Ok(endpoint) if !allowed.contains(&endpoint) => Err(format!(
                "spec.endpoint {endpoint} is not one of the vendor's https hosts; start the operator with --allow-endpoint {endpoint} to allow it"
            )),
            Ok(endpoint) => Ok(endpoint),
        };
        let finalizer_names = meta.finalizers.unwrap_or_default();
        Self {
            name: meta.name.unwrap_or_default().into(),
            uid: meta.uid.unwrap_or_default().into(),
            resource_version: meta
                .resource_version
                .and_then(|version| version.parse().ok())
                .unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: Finalizers::read(&finalizer_names, APPLICATION_FINALIZER),
            finalizer_names,
            sdk_app_id: u32::try_from(spec.sdk_app_id).unwrap_or_default(),
            identifier: spec.identifier.into(),
            endpoint,
            secret: spec.credentials.secret_ref.name.into(),
            requests_per_second: u32::try_from(spec.requests_per_second).unwrap_or(1).clamp(1, 200),
            allowed_namespaces: spec
                .allowed_namespaces
                .map(|allowed| Selector::try_from(allowed.selector))
                .transpose()
                .map_err(|_| ()),
            suspend: spec.suspend,
            verified: status.conditions.iter().any(|condition| {
                let of_this_spec = condition.observed_generation == meta.generation;
                condition.type_ == "Ready"
                    && condition.status == "True"
                    && condition.reason == "Verified"
                    && of_this_spec
            }),
            conditions: Conditions::read(there.then_some(status.conditions)),
            counts: (status.robots, status.deleting),
        }
    }
}

/// What an application signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// The Secret has not been looked at yet.
    Unknown,
    /// The Secret cannot be looked at, and why: the operator lacks the right.
    Unreadable(String),
    /// There is no such Secret.
    Missing,
    /// The Secret has no usable key, and why.
    Invalid(String),
    /// The operator signs.
    Key(Sensitive),
    /// Somebody else signed.
    UserSig(Sensitive),
}

impl Credentials {
    /// Reads the data of a Secret: `secretKey` or `userSig`, one of them.
    #[must_use]
    pub fn read(data: Option<&BTreeMap<String, Vec<u8>>>) -> Self {
        let text = |key: &str| {
            let bytes = data?.get(key)?;
            Some(std::str::from_utf8(bytes).map(|text| text.trim().to_owned()))
        };
        match (text("secretKey"), text("userSig")) {
            (None, None) => Self::Invalid("it has neither secretKey nor userSig".to_owned()),
            (Some(_), Some(_)) => Self::Invalid("it has both secretKey and userSig; keep one".to_owned()),
            (Some(Ok(key)), None) if !key.is_empty() => Self::Key(Sensitive::new(key)),
            (None, Some(Ok(sig))) if !sig.is_empty() => Self::UserSig(Sensitive::new(sig)),
            (Some(Ok(_)), None) => Self::Invalid("its secretKey is empty".to_owned()),
            (None, Some(Ok(_))) => Self::Invalid("its userSig is empty".to_owned()),
            (Some(Err(_)), None) => Self::Invalid("its secretKey is not text".to_owned()),
            (None, Some(Err(_))) => Self::Invalid("its userSig is not text".to_owned()),
        }
    }
}
