//! Writes to the API server, and what becomes of them.

use super::*;

impl World {
    pub(super) fn send(&mut self, request: Request) {
        let (until, takes) = self.slow_writes;
        let way = if until > self.now { takes } else { MS * u32::from(self.setup.api) };
        self.later(api_server::WRITE_TIMEOUT, Event::GiveUp(request.replica, request.process, request.id));
        self.later(way, Event::Request(Box::new(request)));
    }

    pub(super) fn request(&mut self, request: Request) {
        let (n, process, id) = (request.replica, request.process, request.id);
        let back = MS * u32::from(self.setup.api);
        let cut = self.can_reach(n);
        let fault = match cut {
            Err(true) => Some(Refusal::Hangs),
            Err(false) => Some(Refusal::Unreachable),
            Ok(()) => self.fault(&request.write),
        };
        let unreachable = |why: &str| WriteError::Unreachable(why.to_owned());
        let reply = |input: Input| Event::Reply(n, process, id, Box::new(input));
        let refused = fault.and_then(cluster::refusal);
        match fault {
            Some(Refusal::Hangs) => {}
            Some(Refusal::Overtaken) => {
                let key = request.write.key();
                self.say(|_| format!("  a write to {key} is held up on its way"));
                self.overtaken.push((key, request));
            }
            Some(Refusal::Unreachable) => {
                let input = failed(&request.write, unreachable("connection refused"));
                self.later(back, reply(input));
            }
            Some(Refusal::ReplyLost) => {
                self.store(&request);
                let input = failed(&request.write, unreachable("the connection broke"));
                self.later(back, reply(input));
            }
            Some(Refusal::ReplyLate) => {
                let input = self.store(&request);
                self.later(back + 4 * SECOND, reply(input));
            }
            _ => {
                let input = match refused {
                    Some(status) => failed(&request.write, api_server::classify(&status)),
                    None => self.store(&request),
                };
                self.later(back, reply(input));
            }
        }
    }

    /// What goes wrong with this write.
    pub(super) fn fault(&mut self, write: &Write) -> Option<Refusal> {
        let now = self.now;
        self.writes.retain(|fault| fault.until > now && fault.times > 0);
        let fault = self.writes.iter_mut().find(|fault| {
            let Some(namespace) = &write.namespace else { return fault.which == Which::Applications };
            let within = fault.ns == 3 || story::namespace(fault.ns) == &**namespace;
            let of_status = matches!(write.change, Change::Status(_));
            within
                && match fault.which {
                    Which::Robots => true,
                    Which::Finalizers => !of_status,
                    Which::Statuses => of_status,
                    Which::Applications => false,
                }
        })?;
        if fault.times < u8::MAX {
            fault.times -= 1;
        }
        Some(fault.how)
    }

    /// Stores it, if what is stored allows it, and whatever it has overtaken.
    pub(super) fn store(&mut self, request: &Request) -> Input {
        self.by = Some(request.knew);
        let shard = self.replicas.get(request.replica).map_or(0, |replica| replica.shard);
        let part = (self.setup.sharded || self.setup.by_namespace).then(|| format!("shard-{shard}"));
        let finalizer = application_finalizer(part.as_deref());
        let result = self.cluster.write(&request.write, &finalizer);
        let result = result.map_err(|status| api_server::classify(&status));
        let input = Input::Written(request.write.object.clone(), result);
        self.stored();
        let key = request.write.key();
        if let Some(place) = self.overtaken.iter().position(|(of, _)| *of == key) {
            let (_, late) = self.overtaken.remove(place);
            self.say(|_| format!("  the write to {key} that was held up arrives"));
            self.store(&late);
        }
        input
    }

    pub(super) fn reply(&mut self, n: usize, id: u64, input: Input) {
        let Some(open) = self.replicas.get_mut(n).and_then(|replica| replica.open.remove(&id)) else {
            return;
        };
        let failed = match &input {
            Input::Written(_, result) => result.as_ref().err(),
            _ => None,
        };
        if let (Open::Write(ObjectRef::Robot(_), uid), Some(_)) = (&open, failed) {
            self.checks.write_failed(uid, self.now);
        }
        if let Some(error) = failed {
            self.say(|_| format!("  replica {n}: a write failed: {error:?}"));
        }
        self.tell(n, Some(input));
    }

    pub(super) fn give_up(&mut self, n: usize, id: u64) {
        let open = self.replicas.get_mut(n).and_then(|replica| replica.open.remove(&id));
        if let Some(Open::Write(object, uid)) = open {
            if matches!(object, ObjectRef::Robot(_)) {
                self.checks.write_failed(&uid, self.now);
            }
            self.tell(n, Some(Input::Written(object, Err(WriteError::Late))));
        }
    }
}
