//! Calls to the room engine, and how it meets them.

use super::*;
use roomrobot_core::codes::Class;

impl World {
    pub(super) fn call(&mut self, n: usize, call: Box<Call>, knew: Knew) {
        let now = self.now;
        let Some(replica) = self.replicas.get(n) else { return };
        let process = replica.process;
        if replica.right.until().passed_at(replica.boot_moment(now)) {
            return self.later(Duration::ZERO, Event::Told(n, process, Box::new(Input::Unsent(call))));
        }
        let shard = replica.shard;
        if let Some(other) = self.leads_beside(n, shard) {
            self.checks.broken(format!("replica {n} calls for {} while replica {other} leads", call.key));
        }
        self.called += 1;
        let add = call.operation == Operation::AddRobot;
        if let Some((since, last)) = self.refusals.get_mut(&((n, process), call.application.to_string(), add))
        {
            let gap = now - (*last).max(*since);
            *last = now;
            if gap < PROBE {
                let about = format!("{} for {}", call.operation, call.key);
                self.checks.broken(format!("{about}: the room engine refused its application {gap:?} ago"));
            }
        }
        self.say(|_| format!("  replica {n} calls {} for {}", call.operation, call.key));
        self.checks.calls(&call.uid, call.operation, knew, now);
        self.last_call.insert(call.caller.sdk_app_id, now);
        self.request_ids += 1;
        let id = self.request_ids;
        if let Some(replica) = self.replicas.get_mut(n) {
            replica.open.insert(id, Open::Call);
        }
        let (until, takes) = self.slow_calls;
        let way = if until > now { takes } else { MS * u32::from(self.setup.room) };
        let flight = InFlight { replica: n, process, id, call: Rc::from(call), way, sent: now };
        let unsent = self.rooms.iter().any(|fault| {
            fault.how == Meets::Refused
                && fault.until > now
                && fault.times > 0
                && fault.app == *flight.call.application
        });
        if unsent {
            self.room_trouble(&flight.call.application, None, MINUTE);
            return self.answered(&flight, Outcome::failed(TroubleKind::Refused), MS);
        }
        self.later(CALL_TIMEOUT, Event::CallGiveUp(Box::new(flight.clone())));
        let arrives = (now + way).max(self.stalled);
        self.at(arrives, Event::Arrive(Box::new(flight)));
    }

    /// No answer comes: all applications of one SDKAppID wait then.
    fn unreachable(&mut self, app: &str) {
        let sdk = sdk_app_id(app, self.setup.twin);
        for other in story::APPLICATIONS {
            if sdk_app_id(other, self.setup.twin) == sdk {
                self.room_trouble(other, None, 3 * MINUTE);
            }
        }
    }

    pub(super) fn room_trouble(&mut self, app: &str, add: Option<bool>, time: Duration) {
        for of in [false, true] {
            if add.is_none_or(|add| add == of) {
                let until = self.app_trouble.entry((app.to_owned(), of)).or_default();
                *until = (*until).max(self.now + time);
            }
        }
    }

    pub(super) fn arrive(&mut self, flight: &InFlight) {
        let now = self.now;
        let call = &flight.call;
        let sdk = call.caller.sdk_app_id;
        let limit = self.most_rate * u32::from(self.setup.shards());
        // Two may lead then, and neither can know of the other's calls.
        let held_up = now > flight.sent + flight.way || self.lease_was_deleted_unseen();
        let process = (flight.replica, flight.process);
        self.checks.arrives(sdk, call.operation, limit, Arrival { at: now, process, held_up });
        let add = call.operation == Operation::AddRobot;
        self.rooms.retain(|fault| fault.until > now && fault.times > 0);
        let fault = self.rooms.iter_mut().find(|fault| {
            fault.app == *call.application
                && fault.add.is_none_or(|of| of == add)
                && fault.how != Meets::Refused
        });
        let how = fault.map(|fault| {
            if fault.times < u8::MAX {
                fault.times -= 1;
            }
            fault.how
        });
        self.request_ids += 1;
        let request_id = format!("Id-{}", self.request_ids);
        let reply = |code: i64| {
            Outcome::Reply(Reply { code, info: String::new(), request_id: Some(request_id.clone()) })
        };
        let uid = call.uid.to_string();
        let code = match how {
            _ if call.caller.user_sig.expose() != "right" => Some(70009),
            Some(Meets::Code(code)) => Some(i64::from(code)),
            Some(Meets::Alternating) => {
                self.alternate = !self.alternate;
                Some(if self.alternate { 70009 } else { 70050 })
            }
            _ => None,
        };
        if let Some(code) = code {
            let class = roomrobot_core::codes::class(call.operation, code);
            self.slow_classes |= matches!(class, Class::Invalid | Class::RobotPermission);
            if class.is_final() {
                // The room is gone, or the robot is: whatever was there is there no more.
                self.checks.carried_out(&uid, Operation::DeleteRobot, true, None, "");
            }
            self.checks.carried_out(&uid, call.operation, false, Some(code), &request_id);
            let trouble = if class.stops_application() { 12 * MINUTE } else { 45 * SECOND };
            let whole = class == Class::Credentials || class == Class::Expired;
            if !class.is_final() && (class.stops_application() || class == Class::Throttled) {
                self.room_trouble(&call.application.clone(), if whole { None } else { Some(add) }, trouble);
            }
            return self.answered(flight, reply(code), flight.way);
        }
        match how {
            Some(Meets::Http(status)) => {
                let trouble =
                    Trouble { kind: TroubleKind::Http, http_status: Some(status), request_id: None };
                self.slow_classes |= status == 413;
                self.room_trouble(&call.application.clone(), None, 12 * MINUTE);
                return self.answered(flight, Outcome::Trouble(trouble), flight.way);
            }
            Some(Meets::Broken) => {
                return self.answered(flight, Outcome::failed(TroubleKind::Broken), flight.way);
            }
            Some(Meets::Lost) => {
                self.unreachable(&call.application);
                return;
            }
            _ => {}
        }
        let lost = matches!(how, Some(Meets::BrokenAfter | Meets::LostAfter));
        let (told, id) = if lost { (None, "") } else { (Some(0), request_id.as_str()) };
        let there = self.checks.carried_out(&uid, call.operation, true, None, "");
        let code = if there { 0 } else { 100_005 };
        self.checks.carried_out(&uid, call.operation, false, told.map(|_| code), id);
        self.say(|_| {
            format!("  the room engine carries {} out for {}: {code}", flight.call.operation, flight.call.key)
        });
        match how {
            Some(Meets::BrokenAfter) => {
                self.answered(flight, Outcome::failed(TroubleKind::Broken), flight.way);
            }
            Some(Meets::LostAfter) => self.unreachable(&flight.call.application),
            _ => self.answered(flight, reply(code), flight.way),
        }
    }

    /// The outcome is on its way to the process that called.
    pub(super) fn answered(&mut self, flight: &InFlight, outcome: Outcome, way: Duration) {
        self.later(way, Event::Heard(Box::new(flight.clone()), Box::new(outcome)));
    }

    /// The process that called hears how its call ended, unless it has given up.
    pub(super) fn hear(&mut self, flight: &InFlight, outcome: Outcome) {
        let now = self.now;
        let InFlight { replica: n, process, id, call, way, .. } = flight;
        let Some(replica) = self.replicas.get_mut(*n) else { return };
        if replica.open.remove(id).is_none() {
            return;
        }
        let class = outcome.class(call.operation);
        let app = call.application.to_string();
        if matches!(&outcome, Outcome::Trouble(Trouble { kind: TroubleKind::Timeout, .. })) {
            self.unreachable(&app);
        }
        self.say(|_| {
            let words = outcome.code().map_or_else(|| format!("{outcome:?}"), |code| code.to_string());
            format!("  {} for {} is answered: {words}", call.operation, call.key)
        });
        self.learn(flight, &outcome);
        self.checks.heard(&call.uid, call.operation, class, (*n, *process), now);
        let rate = self.most_rate;
        // Those of a namespace whose writes hang are not counted among those of the others.
        let most = 4 * (rate / 10).max(8) + 4;
        let on_the_way = (4.0 * way.max(&self.slow_calls.1).as_secs_f64() + 0.1) * f64::from(rate);
        let unrecorded = self.checks.unrecorded((*n, *process), &app);
        let held_up = self.stalled + 3 * SECOND > now;
        if !held_up && unrecorded as f64 > f64::from(most) + on_the_way {
            self.checks.broken(format!(
                "{unrecorded} final answers of {app} wait for their records: a kill would lose them"
            ));
        }
        let input = Input::Answered(call.answered(outcome));
        self.tell(*n, Some(input));
    }

    /// A refusal that concerns the whole application stops its calls until one that was sent afterwards is not refused.
    fn learn(&mut self, flight: &InFlight, outcome: &Outcome) {
        let call = &flight.call;
        let process = (flight.replica, flight.process);
        let app = call.application.to_string();
        let class = outcome.class(call.operation);
        if self.afresh.get(&process).is_some_and(|afresh| flight.sent <= *afresh) {
            return;
        }
        if class.stops_application() {
            for add in [false, true] {
                let whole = matches!(class, Class::Credentials | Class::Expired);
                if whole || add == (call.operation == Operation::AddRobot) {
                    let now = self.now;
                    self.refusals.entry((process, app.clone(), add)).or_insert((now, now));
                }
            }
        } else if matches!(outcome, Outcome::Reply(_)) {
            self.refusals
                .retain(|(of, name, _), (since, _)| *of != process || *name != app || flight.sent <= *since);
        }
    }
}

/// A probe goes out a minute after the one before, whose answer may have taken as long as a call may.
const PROBE: Duration = Duration::from_secs(60).saturating_sub(CALL_TIMEOUT).saturating_sub(SECOND);
