//! Which RoomRobots a forecast is about.

use crate::{
    Error, Result,
    cluster::{Choice, Cluster, Seen, at},
    output::Out,
};
use clap::Args;
use roomrobot_core::robot::Key;
use serde_json::Value;
use std::{collections::BTreeSet, io::Read as _, path::PathBuf};

/// What would be deleted.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
#[command(
    after_help = "Examples:\n  kubectl roomrobot plan namespace event\n  kubectl roomrobot plan -n event -l stage=main\n  kubectl roomrobot plan -n event greeter\n  kubectl roomrobot plan -f robots.yaml"
)]
pub struct Target {
    /// `namespace NAME`, or names of RoomRobots.
    #[arg(value_name = "namespace NAME | ROOMROBOT")]
    what: Vec<String>,
    /// Labels that select RoomRobots, as for `kubectl delete roomrobots -l`.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// A manifest, as for `kubectl delete -f`; `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    filename: Option<PathBuf>,
}

/// What the arguments name.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Namespaces, with all that is in them.
    pub namespaces: BTreeSet<String>,
    /// RoomRobots, by namespace and name.
    pub names: BTreeSet<(String, String)>,
    /// What is to be said of the rest.
    pub notes: Vec<String>,
}

impl Chosen {
    /// The namespaces of all that is named.
    pub(super) fn places(&self) -> BTreeSet<String> {
        self.names.iter().map(|(namespace, _)| namespace).chain(&self.namespaces).cloned().collect()
    }

    pub(super) fn keys(&self, robots: &[Seen]) -> BTreeSet<Key> {
        let chosen = |key: &Key| {
            self.namespaces.contains(&*key.namespace)
                || self.names.contains(&(key.namespace.to_string(), key.name.to_string()))
        };
        robots.iter().map(|seen| &seen.robot.key).filter(|key| chosen(key)).cloned().collect()
    }

    pub(super) fn missing(&self, robots: &[Seen]) -> Vec<String> {
        let there: BTreeSet<(&str, &str)> =
            robots.iter().map(|seen| (&*seen.robot.key.namespace, &*seen.robot.key.name)).collect();
        let missing = self.names.iter().filter(|(namespace, name)| !there.contains(&(namespace, name)));
        missing.map(|(namespace, name)| format!("{namespace}/{name}")).collect()
    }
}

pub(super) async fn choose(cluster: &Cluster, target: &Target, out: &Out) -> Result<Chosen> {
    let mut chosen = Chosen::default();
    let namespace = || cluster.default_namespace.clone();
    match target.what.as_slice() {
        [kind, name] if matches!(kind.as_str(), "namespace" | "namespaces" | "ns") => {
            chosen.namespaces.insert(name.clone());
        }
        names => chosen.names.extend(names.iter().map(|name| {
            let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name);
            (namespace(), name.to_owned())
        })),
    }
    if let Some(labels) = &target.selector {
        let choice = Choice { labels: Some(labels), ..Choice::default() };
        let selected = cluster.robots(cluster.scope.as_deref(), choice, out).await?;
        let keys = selected.iter().map(|seen| &seen.robot.key);
        chosen.names.extend(keys.map(|key| (key.namespace.to_string(), key.name.to_string())));
    }
    if let Some(path) = &target.filename {
        let mut text = String::new();
        let read = if path.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text).map(drop)
        } else {
            std::fs::read_to_string(path).map(|read| text = read)
        };
        read.map_err(|error| Error(format!("{}: {error}", path.display())))?;
        choose_from(&text, &cluster.default_namespace, &mut chosen)?;
    }
    Ok(chosen)
}

/// Takes the objects of a manifest.
///
/// # Errors
/// If it is no YAML, with the place.
pub fn choose_from(text: &str, namespace: &str, chosen: &mut Chosen) -> Result<()> {
    // The limits of the library are for strangers' input; this is the user's own, and may hold thousands of objects. An
    // error is one line here, which names the line of the manifest.
    let options = serde_saphyr::options! { budget: None, with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Error(format!("the manifest cannot be read: {error}")))?;
    let objects = documents.into_iter().flat_map(|document| match at(&document, "/items").as_array() {
        Some(items) => items.clone(),
        None => vec![document],
    });
    for object in objects {
        let name = at(&object, "/metadata/name").as_str().unwrap_or_default().to_owned();
        match at(&object, "/kind").as_str() {
            Some("RoomRobot") => {
                let place = at(&object, "/metadata/namespace").as_str().unwrap_or(namespace);
                chosen.names.insert((place.to_owned(), name));
            }
            Some("Namespace") => {
                chosen.namespaces.insert(name);
            }
            Some("RtcApplication") => chosen.notes.push(format!(
                "RtcApplication {name} stays until no RoomRobot refers to it, and serves their deletions until then"
            )),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_may_hold_thousands_of_documents() {
        let one = |n| format!("kind: RoomRobot\nmetadata:\n  name: r-{n}\n");
        let text = (0..2000).map(one).collect::<Vec<_>>().join("---\n");
        let mut chosen = Chosen::default();
        choose_from(&text, "event", &mut chosen).unwrap();
        assert_eq!(chosen.names.len(), 2000);
        let error = choose_from("a: [", "event", &mut chosen).unwrap_err();
        assert!(
            error.0.starts_with("the manifest cannot be read: ") && error.0.contains("line 1"),
            "{error}"
        );
        assert_eq!(error.0.lines().count(), 1, "{error}");
    }
}
