//! What an answer of the room engine teaches about the application: the circuit breaker.

use super::{Application, CircuitBreaker, Credentials, Effect, MOST_IN_FLIGHT, PROBE, Refusal};
use crate::{
    call::Outcome,
    codes::{self, Class, Code, Operation, Stops},
    plan::Hold,
    status,
};
use std::time::Duration;

impl Application {
    /// Learns from the answer to a call that started at `started`, signed with signature `number`.
    pub fn answered(
        &mut self,
        operation: Operation,
        outcome: &Outcome,
        number: u64,
        started: Duration,
        now: Duration,
        wall: i64,
    ) -> Effect {
        let current = self.ended(operation, number);
        let class = outcome.class(operation);
        if class.rule().signs_anew && matches!(self.credentials, Credentials::Key(_)) {
            let anew = !current
                || self.signature.as_ref().is_some_and(|signature| !signature.after_expiry)
                    && self.sign(wall, true).is_some();
            if anew {
                // A probe is to be sent again with the new signature.
                self.next_probe(operation, now);
                return Effect::SignedAnew;
            }
        }
        if !current {
            // An answer about credentials that are not in use any more proves nothing about those that are.
            return Effect::None;
        }
        if class.stops_application() {
            return self.refuse(operation, outcome, class, now);
        }
        // The gateway's own trouble, or none of the room engine's answers: nobody looked at the signature for certain.
        let verdict = match outcome {
            Outcome::Trouble(_) => false,
            Outcome::Reply(reply) => codes::look_up(reply.code).is_none_or(Code::proves_the_signature),
        };
        if !verdict {
            // No verdict, no proof: a few more may try, so that a dead endpoint shows on every robot in time.
            if let CircuitBreaker::HalfOpen { at_once } = &mut self.breaker {
                *at_once = (*at_once * 2).min(MOST_IN_FLIGHT);
            }
            return Effect::None;
        }
        if class.rule().slows_down {
            return Effect::None;
        }
        let mut effect = Effect::None;
        let proven = match &self.breaker {
            CircuitBreaker::Closed => false,
            CircuitBreaker::HalfOpen { .. } => true,
            CircuitBreaker::Open(refusal) => started > refusal.since,
        };
        if proven {
            self.breaker = CircuitBreaker::Closed;
            self.verified = true;
            effect = Effect::Changed;
        }
        if let Some(refused) = self.refused.get_mut(operation as usize)
            && refused.take_if(|refusal| started > refusal.since).is_some()
        {
            self.verified = true;
            effect = Effect::Changed;
        }
        effect
    }

    /// The room engine refuses the application: its credentials, or this command.
    fn refuse(&mut self, operation: Operation, outcome: &Outcome, class: Class, now: Duration) -> Effect {
        let code = outcome.code();
        let [reason, _] = class.rule().reasons;
        let credentials = class.rule().stops == Stops::Application;
        if code.and_then(codes::look_up).is_some_and(|row| row.holds_off) {
            self.hold_off = now + PROBE;
        }
        if credentials {
            self.verified = false;
        }
        let text = format!(
            "The room engine refuses RtcApplication {}; {}; {}",
            self.spec.name,
            outcome.sentence(operation),
            status::remedy(outcome),
        );
        let latest = status::with_reference(&text, &outcome.reference());
        // The same refusal again is no news: waiting robots keep what they say.
        let before = self.said.get_mut(if credentials { 2 } else { operation as usize });
        let hold = match before {
            Some(Some((known, hold))) if *known == code => hold.clone(),
            place => {
                let hold = Hold { reason, message: latest.clone(), refusal: true, person: true };
                if let Some(place) = place {
                    *place = Some((code, hold.clone()));
                }
                hold
            }
        };
        let known = match &self.breaker {
            CircuitBreaker::Open(refusal) if credentials => Some(refusal),
            _ if credentials => None,
            _ => self.refused.get(operation as usize).and_then(Option::as_ref),
        };
        // Calls that were under way together are refused together: the first of them is news.
        let news = known.is_none_or(|known| known.code != code);
        let probe_at = known.map_or(now + PROBE, |known| known.probe_at);
        let latest = known.filter(|_| !news).map_or(latest, |known| known.latest.clone());
        let refusal = Refusal { hold, latest, code, since: now, probe_at };
        if credentials {
            self.breaker = CircuitBreaker::Open(refusal);
        } else if let Some(refused) = self.refused.get_mut(operation as usize) {
            *refused = Some(refusal);
        }
        if news { Effect::Changed } else { Effect::None }
    }
}
