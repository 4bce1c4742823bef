//! What an RtcApplication's `Ready` condition says.

use super::{Application, Credentials};
use crate::{
    codes::Operation,
    plan::{self, Hold},
    status::{Is, Kind, Reason, Wanted},
};

/// What is to be told of an application besides its own readiness.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// Deletions that wait long or for a person.
    pub stalled: Option<&'a str>,
    /// The robots that hold an application which is being deleted.
    pub held_by: Option<&'a str>,
    /// The cluster refuses to put its finalizer on or to take it off, with these words.
    pub refused: Option<&'a str>,
}

impl Application {
    /// The `Ready` condition that this comes to.
    #[must_use]
    pub fn wanted(&self, told: &Told<'_>) -> Vec<Wanted> {
        let Told { held_by, .. } = *told;
        let (is, reason, mut message) = self.ready(told);
        if self.spec.deleting
            && let Some(held_by) = held_by
        {
            message = format!("{message}; it is being deleted and waits for {held_by}");
        }
        let mut wanted = vec![Wanted::new(Kind::Ready, is, reason, message.clone())];
        // A brake that a person put on is no fault for a person to mend.
        if is == Is::False && reason != Reason::Suspended {
            wanted.push(Wanted::new(Kind::Stalled, Is::True, reason, message));
        }
        wanted
    }

    fn ready(&self, told: &Told<'_>) -> (Is, Reason, String) {
        if let Some(hold) = self.unable() {
            let reason = match &self.credentials {
                _ if self.spec.suspend => Reason::Suspended,
                _ if self.spec.endpoint.is_err() => Reason::EndpointNotAllowed,
                Credentials::Missing => Reason::SecretNotFound,
                _ => Reason::SecretInvalid,
            };
            return (Is::False, reason, hold.message);
        }
        if let Some(refusal) = Operation::ALL.iter().find_map(|operation| self.refusal(*operation)) {
            let reason = match refusal.hold.reason {
                Reason::ApplicationNotReady => Reason::PlanExceeded,
                reason => reason,
            };
            return (Is::False, reason, refusal.latest.clone());
        }
        if let Some(words) = told.refused {
            let what = format!("The cluster refuses the finalizer on RtcApplication {}", self.spec.name);
            return (Is::False, Reason::WriteRefused, plan::write_refused(&what, words));
        }
        if let Some(stalled) = told.stalled {
            return (Is::False, Reason::DeletionsStalled, stalled.to_owned());
        }
        if self.verified {
            let message = "The room engine accepted a call with these credentials".to_owned();
            return (Is::True, Reason::Verified, message);
        }
        let message = format!(
            "The credentials of Secret {} are loaded; no call was made with them yet",
            self.spec.secret
        );
        (Is::True, Reason::CredentialsLoaded, message)
    }

    /// Why it can make no call at all, as far as the room engine need not be asked.
    #[must_use]
    pub fn unable(&self) -> Option<Hold> {
        let name = &self.spec.name;
        let hold = |reason, message| Some(Hold { reason, message, refusal: false, person: true });
        if self.spec.suspend {
            let message = format!(
                "RtcApplication {name} is suspended, so nothing is called; set its spec.suspend to false to go on"
            );
            return hold(Reason::Suspended, message);
        }
        if let Err(why) = &self.spec.endpoint {
            return hold(Reason::ApplicationNotReady, format!("RtcApplication {name} is not ready: {why}"));
        }
        let secret = &self.spec.secret;
        let not_ready = |why: String| {
            hold(
                Reason::ApplicationNotReady,
                format!("RtcApplication {name} is not ready: Secret {secret} {why}"),
            )
        };
        match &self.credentials {
            Credentials::Unreadable(why) => not_ready(format!(
                "cannot be read: {why}; the operator tries again by itself; give it the right to list and watch the Secret where it has none"
            )),
            Credentials::Missing => {
                not_ready("does not exist in the operator's namespace; create it to go on".to_owned())
            }
            Credentials::Invalid(why) => not_ready(format!("cannot be used, {why}; correct it to go on")),
            Credentials::Unknown | Credentials::Key(_) | Credentials::UserSig(_) => None,
        }
    }
}
