//! One Secret, as the credentials that stand in it.

use super::{Complaint, SECRETS, Silence, Told, Views, Waits};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use roomrobot_client::errors::explain;
use roomrobot_core::{application::Credentials, engine::Input};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a Secret that was never read may fail to be listed before that is told: what passes by itself in a moment is
/// no news for thousands of robots.
const UNREAD: Duration = Duration::from_secs(3);

/// The same for a list that is neither refused nor answered: its own deadline is for much larger ones.
const UNANSWERED: Duration = Duration::from_secs(6);

/// Follows one Secret; ends when nobody takes its inputs.
pub async fn secret(client: Client, namespace: String, name: Arc<str>, told: Told) {
    /// A view of a Secret that nobody looks at any more is not cut.
    struct Forget<'a>(&'a Views, &'a str);
    impl Drop for Forget<'_> {
        fn drop(&mut self) {
            self.0.forget(SECRETS, self.1);
        }
    }
    let _forget = Forget(&told.views, &name);
    let api = Api::<Secret>::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let begin = || watcher(api.clone(), config.clone()).backoff(Waits::default()).boxed();
    let mut stream = begin();
    let mut found = false;
    let mut read = false;
    let mut failing: Option<Instant> = None;
    let mut silent = Complaint::default();
    let mut silence = Silence::default();
    let unanswered = tokio::time::sleep(UNANSWERED);
    tokio::pin!(unanswered);
    loop {
        let event = tokio::select! {
            biased;
            event = stream.next() => event,
            () = silence.lasts() => {
                (stream, silence) = (begin(), Silence::default());
                continue;
            }
            () = &mut unanswered, if !read => {
                read = true;
                let why = format!("the API server has not answered for {} s", UNANSWERED.as_secs());
                let input = Input::Secret(Arc::clone(&name), Credentials::Unreadable(why));
                if told.inputs.send(input).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(event) = event else { return };
        silence.after(&event);
        let credentials = match event {
            Ok(Event::Init) => {
                found = false;
                continue;
            }
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => {
                found = true;
                let data: Option<BTreeMap<_, _>> =
                    secret.data.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect());
                Credentials::read(data.as_ref())
            }
            Ok(Event::InitDone) if found => continue,
            Ok(Event::InitDone | Event::Delete(_)) => Credentials::Missing,
            Err(error) => {
                silent.about::<Secret>(&error);
                told.views.cut(SECRETS, &name);
                let since = failing.get_or_insert_with(Instant::now).elapsed();
                match &error {
                    watcher::Error::InitialListFailed(cause) if forbidden(cause) || since >= UNREAD => {
                        Credentials::Unreadable(explain(cause))
                    }
                    _ => continue,
                }
            }
        };
        read = true;
        if !matches!(credentials, Credentials::Unreadable(_)) {
            failing = None;
            silent.over::<Secret>();
            told.views.whole(SECRETS, &name);
        }
        let input = Input::Secret(Arc::clone(&name), credentials);
        if told.inputs.send(input).await.is_err() {
            return;
        }
    }
}

fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
