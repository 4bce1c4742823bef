//! An `RtcApplication` as the operator keeps it: its spec, its credentials, and whether it is trusted to call.
//!
//! Pure. The breaker is here: a refusal that is about the application stops all of its calls, one probe a minute
//! finds out whether that is still so.

mod answers;
mod breaker;
mod condition;
mod stored;

pub use breaker::Breaker;
pub use condition::Told;
pub use stored::{Credentials, Labels, StoredApplication};

use crate::{
    call::Caller,
    codes::{Operation, PerOperation},
    plan::Hold,
    status::Reason,
    usersig::{self, Sensitive},
};
use kube::core::SelectorExt as _;
use std::{sync::Arc, time::Duration};

/// Between two probes of a refused application. The vendor's 70050 asks for a minute.
const PROBE: Duration = Duration::from_secs(60);

/// The most calls of one application that wait for their answers; a hanging endpoint must not fill the memory.
const MOST_IN_FLIGHT: u32 = 256;

/// A signature in use.
#[derive(Clone, Debug)]
struct Signature {
    text: Arc<Sensitive>,
    /// Unix seconds.
    signed_at: i64,
    /// Tells calls with this signature from calls with an earlier one.
    number: u64,
    /// It was made because the room engine called the one before expired.
    after_expiry: bool,
}

/// Whether the credentials are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CircuitBreaker {
    /// Nothing was accepted yet with these credentials: few calls at a time, so that a wrong key costs few.
    HalfOpen {
        /// How many calls may wait for an answer at once.
        at_once: u32,
    },
    /// A call was accepted.
    Closed,
    /// They were refused.
    Open(Refusal),
}

/// What the room engine refuses: the credentials, or one command.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    /// What waiting robots say. The same for the same code, so that they need not say it again.
    hold: Hold,
    /// The message for the application's own condition: of the last refusal.
    latest: String,
    /// The code.
    code: Option<i64>,
    /// When it was last answered. Calls that were sent before prove nothing.
    since: Duration,
    /// When the next probe may go out.
    probe_at: Duration,
}

/// An application: what is stored, and what this process knows of it.
#[derive(Clone, Debug)]
pub struct Application {
    /// What is stored in Kubernetes.
    pub spec: StoredApplication,
    credentials: Credentials,
    breaker: CircuitBreaker,
    /// The commands that are refused for want of a permission or a package; the other goes on.
    refused: PerOperation<Option<Refusal>>,
    /// What was last said of the credentials, and of each command, with the code: said again where it is refused again.
    said: [Option<(Option<i64>, Hold)>; 3],
    /// A call was accepted with these credentials, by this process or, as the stored condition says, by another.
    verified: bool,
    signature: Option<Signature>,
    /// The number of the last signature.
    signatures: u64,
    /// Calls that wait for their answers.
    under_way: UnderWay,
    /// Of those, the ones with the signature in use.
    current: UnderWay,
    /// New credentials may not be tried before this time.
    hold_off: Duration,
}

/// Calls that wait for their answers, by command.
#[derive(Clone, Copy, Debug, Default)]
struct UnderWay {
    deletions: u32,
    additions: u32,
}

impl UnderWay {
    const fn of(&mut self, operation: Operation) -> &mut u32 {
        match operation {
            Operation::DeleteRobot => &mut self.deletions,
            Operation::AddRobot => &mut self.additions,
        }
    }

    const fn all(self) -> u32 {
        self.deletions + self.additions
    }

    fn sent(&mut self, operation: Operation) {
        *self.of(operation) += 1;
    }

    fn ended(&mut self, operation: Operation) {
        let calls = self.of(operation);
        *calls = calls.saturating_sub(1);
    }
}

/// What the answer to a call means for its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Its calls go on or have to stop, and its condition changes.
    Changed,
    /// The signature was too old; there is a new one, so the same robot may try again at once.
    SignedAnew,
}

impl Application {
    /// An application whose Secret has not been looked at yet.
    #[must_use]
    pub fn new(spec: StoredApplication) -> Self {
        let verified = spec.verified;
        Self {
            spec,
            credentials: Credentials::Unknown,
            breaker: CircuitBreaker::HalfOpen { at_once: 1 },
            refused: [None, None],
            said: [None, None, None],
            verified,
            signature: None,
            signatures: 0,
            under_way: UnderWay::default(),
            current: UnderWay::default(),
            hold_off: Duration::ZERO,
        }
    }

    /// Takes a newer version of the stored object; true if what was learnt from calls no longer counts.
    pub fn update(&mut self, spec: StoredApplication) -> bool {
        let changed = spec.generation != self.spec.generation;
        let caller_changed = spec.identifier != self.spec.identifier || spec.endpoint != self.spec.endpoint;
        let secret_changed = spec.secret != self.spec.secret;
        self.spec = spec;
        if secret_changed {
            self.credentials = Credentials::Unknown;
        }
        if caller_changed || secret_changed {
            self.verified = false;
        }
        if changed {
            self.start_afresh();
        }
        changed
    }

    /// Takes what its Secret holds now; true if that is something new.
    pub fn set_credentials(&mut self, credentials: Credentials) -> bool {
        if credentials == self.credentials {
            return false;
        }
        // The first look after a start is no change: the stored condition still speaks of the same credentials.
        if self.credentials != Credentials::Unknown {
            self.verified = false;
        }
        self.credentials = credentials;
        self.start_afresh();
        true
    }

    /// What was learnt from calls no longer counts.
    pub fn start_afresh(&mut self) {
        self.breaker = CircuitBreaker::HalfOpen { at_once: 1 };
        self.refused = [None, None];
        self.signature = None;
        self.current = UnderWay::default();
    }

    /// This process begins to act: whether a call was accepted is what the one before it stored.
    pub const fn take_over(&mut self) {
        self.verified = self.spec.verified;
    }

    /// Whether robots of a namespace with `labels` may be accepted.
    #[must_use]
    pub fn admits(&self, labels: Option<&Labels>) -> Option<bool> {
        match &self.spec.allowed_namespaces {
            Ok(None) => Some(true),
            Err(()) => Some(false),
            Ok(Some(selector)) => labels.map(|labels| selector.matches(labels)),
        }
    }

    /// Why it makes no call of this command, or `None` if it may.
    #[must_use]
    pub fn hold(&self, operation: Operation) -> Option<Hold> {
        self.unable().or_else(|| self.refusal(operation).map(|refusal| refusal.hold.clone()))
    }

    /// The reason that robots show which wait because the room engine refuses this command.
    #[must_use]
    pub fn refused_for(&self, operation: Operation) -> Option<Reason> {
        self.refusal(operation).filter(|_| self.able()).map(|refusal| refusal.hold.reason)
    }

    /// What stands in the way of this command, as far as the room engine refused something.
    fn refusal(&self, operation: Operation) -> Option<&Refusal> {
        match &self.breaker {
            CircuitBreaker::Open(refusal) => Some(refusal),
            CircuitBreaker::HalfOpen { .. } | CircuitBreaker::Closed => {
                self.refused.get(operation as usize).and_then(Option::as_ref)
            }
        }
    }

    /// Whether it could call if nothing had been refused.
    fn able(&self) -> bool {
        !self.spec.suspend
            && self.spec.endpoint.is_ok()
            && matches!(self.credentials, Credentials::Key(_) | Credentials::UserSig(_))
    }

    /// Whether its calls go out: open as soon as one of the commands is refused.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        match self.breaker {
            _ if !self.able() => Breaker::Off,
            CircuitBreaker::Open(_) => Breaker::Open,
            _ if self.refused.iter().any(Option::is_some) => Breaker::Open,
            CircuitBreaker::Closed => Breaker::Closed,
            CircuitBreaker::HalfOpen { .. } => Breaker::Trial,
        }
    }

    /// Whether calls of this command go out.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> bool {
        self.able() && self.refusal(operation).is_none()
    }

    /// Whether a queued call may go out now, as far as the application is concerned. Additions that wait for their
    /// answers take no deletion's place; calls with an earlier signature take no place of those that try a new one.
    #[must_use]
    pub fn may_call(&self, operation: Operation, now: Duration) -> bool {
        let (most, calls) = match self.breaker {
            CircuitBreaker::HalfOpen { at_once } => (at_once, self.current),
            CircuitBreaker::Closed => (MOST_IN_FLIGHT, self.under_way),
            CircuitBreaker::Open(_) => return false,
        };
        let counted = match operation {
            Operation::DeleteRobot => calls.deletions,
            Operation::AddRobot => calls.all(),
        };
        self.calls(operation) && counted < most && now >= self.hold_off
    }

    /// Calls of this command that wait for their answers.
    #[must_use]
    pub const fn unanswered(&self, operation: Operation) -> u32 {
        match operation {
            Operation::DeleteRobot => self.under_way.deletions,
            Operation::AddRobot => self.under_way.additions,
        }
    }

    /// A call goes out, with the signature in use. Where it is a probe, the next one has its time.
    pub fn sent(&mut self, operation: Operation, now: Duration) {
        self.under_way.sent(operation);
        self.current.sent(operation);
        self.postpone_probe(operation, now);
    }

    /// A call that was signed with signature `number` is not under way any more; whether that is the one in use.
    pub fn ended(&mut self, operation: Operation, number: u64) -> bool {
        let current = self.signature.as_ref().is_some_and(|signature| signature.number == number);
        self.under_way.ended(operation);
        if current {
            self.current.ended(operation);
        }
        current
    }

    /// When a probe with this command may go out, where something is refused that stands in its way.
    #[must_use]
    pub fn probe_at(&self, operation: Operation) -> Option<Duration> {
        let own = self.refused.get(operation as usize).and_then(Option::as_ref);
        let all = match &self.breaker {
            CircuitBreaker::Open(refusal) => Some(refusal),
            CircuitBreaker::HalfOpen { .. } | CircuitBreaker::Closed => None,
        };
        let at = all.into_iter().chain(own).map(|refusal| refusal.probe_at).max()?;
        self.able().then_some(at.max(self.hold_off))
    }

    /// A probe has gone out: the next one in a while.
    pub fn postpone_probe(&mut self, operation: Operation, now: Duration) {
        self.next_probe(operation, now + PROBE);
    }

    fn next_probe(&mut self, operation: Operation, at: Duration) {
        let own = self.refused.get_mut(operation as usize).and_then(Option::as_mut);
        let all = match &mut self.breaker {
            CircuitBreaker::Open(refusal) => Some(refusal),
            CircuitBreaker::HalfOpen { .. } | CircuitBreaker::Closed => None,
        };
        for refusal in all.into_iter().chain(own) {
            refusal.probe_at = at;
        }
    }

    /// When calls may go out again, if they are held off for a time.
    #[must_use]
    pub fn held_off_until(&self, now: Duration) -> Option<Duration> {
        (self.able() && now < self.hold_off).then_some(self.hold_off)
    }

    /// Who calls, with a signature that is fresh at `wall` (Unix seconds), and the signature's number.
    pub fn caller(&mut self, wall: i64) -> Option<(Caller, u64)> {
        let endpoint = self.spec.endpoint.clone().ok()?;
        let half_life = i64::try_from(usersig::LIFETIME.as_secs() / 2).unwrap_or(i64::MAX);
        // Before its time as well: the clock was set back, and the signature lies in the future.
        let fresh = self
            .signature
            .as_ref()
            .is_some_and(|signature| (0..half_life).contains(&(wall - signature.signed_at)));
        if !fresh {
            self.sign(wall, false)?;
        }
        let signature = self.signature.as_ref()?;
        let caller = Caller {
            endpoint,
            sdk_app_id: self.spec.sdk_app_id,
            identifier: Arc::clone(&self.spec.identifier),
            user_sig: Arc::clone(&signature.text),
        };
        Some((caller, signature.number))
    }

    fn sign(&mut self, wall: i64, after_expiry: bool) -> Option<()> {
        let text = match &self.credentials {
            Credentials::Key(key) => {
                usersig::sign(key, self.spec.sdk_app_id, &self.spec.identifier, wall, usersig::LIFETIME)
            }
            Credentials::UserSig(given) => given.clone(),
            Credentials::Unknown
            | Credentials::Unreadable(_)
            | Credentials::Missing
            | Credentials::Invalid(_) => return None,
        };
        self.signatures += 1;
        let number = self.signatures;
        self.signature = Some(Signature { text: Arc::new(text), signed_at: wall, number, after_expiry });
        self.current = UnderWay::default();
        Some(())
    }

    /// Whether the Secret has been looked at, so that a condition can be told.
    #[must_use]
    pub fn known(&self) -> bool {
        self.credentials != Credentials::Unknown || self.spec.suspend || self.spec.endpoint.is_err()
    }
}

#[cfg(test)]
mod tests;
