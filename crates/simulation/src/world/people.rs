//! What people, machines and networks do, what makes everything well again, and what is looked at every second.

use super::*;

/// What a second without any trouble is, in seconds since the last one.
const CALM: Duration = Duration::from_secs(3);

impl World {
    #[expect(clippy::too_many_lines, reason = "a few lines for each of them")]
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Wait => {}
            Action::Create { ns, name, of, app, create, retain, born, suspend } => {
                let member = match of {
                    Of::Its => format!("own-{}-{}", ns % 3, name % 8),
                    Of::Shared(n) => format!("shared-{}", n % 3),
                };
                let spec = json!({
                    "roomId": "room", "memberAccount": member,
                    "applicationRef": {"name": story::application(app)},
                    "creationPolicy": if create { "Create" } else { "Adopt" },
                    "deletionPolicy": if retain { "Retain" } else { "Delete" },
                    "suspend": suspend,
                });
                self.create(ns, &format!("r{}", name % 8), spec, born, name % 2);
            }
            Action::Crowd { ns, tens, app, create, shared } => {
                self.crowds += 1;
                for n in 0..u32::from(tens.clamp(1, 40)) * 10 {
                    let name = format!("crowd-{}-{n}", self.crowds);
                    let member = if shared { "crowd".to_owned() } else { name.clone() };
                    let spec = json!({
                        "roomId": "room", "memberAccount": member,
                        "applicationRef": {"name": story::application(app)},
                        "creationPolicy": if create { "Create" } else { "Adopt" },
                    });
                    self.create(ns, &name, spec, true, u8::try_from(n % 2).unwrap_or_default());
                }
            }
            Action::Delete { ns, name } => self.cluster.delete(&story::key(ns, name)),
            Action::DeleteAll { ns } => {
                for key in self.cluster.keys_in(story::namespace(ns)) {
                    self.cluster.delete(&key);
                }
            }
            Action::Rename { ns, from, to } => {
                let found =
                    self.cluster.robots.get(&story::key(ns, from)).map(|object| object.json["spec"].clone());
                if let Some(spec) = found {
                    self.create(ns, &format!("r{}", to % 8), spec, false, to % 2);
                    self.cluster.delete(&story::key(ns, from));
                }
            }
            Action::Retain { ns, name, on } => {
                let policy = if on { "Retain" } else { "Delete" };
                self.edit(ns, name, |object| object["spec"]["deletionPolicy"] = policy.into());
            }
            Action::Suspend { ns, name, on } => {
                self.edit(ns, name, |object| object["spec"]["suspend"] = on.into());
            }
            Action::Creation { ns, name, create } => {
                let policy = if create { "Create" } else { "Adopt" };
                if let Some(object) =
                    self.cluster.robots.get(&story::key(ns, name)).filter(|object| !object.robot.accepted())
                {
                    // Whoever says so before anybody has looked says that nobody else brings the robot in.
                    let who = identity(object, self.setup.twin);
                    if create && self.checks.members.get(&who).is_some_and(|uid| uid == object.uid()) {
                        self.checks.members.remove(&who);
                    }
                }
                self.edit(ns, name, |object| object["spec"]["creationPolicy"] = policy.into());
            }
            Action::Restore { ns, name, app } => {
                let spec = json!({
                    "roomId": "room", "memberAccount": format!("own-{}-{}", ns % 3, name % 8),
                    "applicationRef": {"name": story::application(app)}, "creationPolicy": "Adopt",
                });
                self.create(ns, &format!("r{}", name % 8), spec, true, name % 2);
            }
            Action::Move { ns, name } => {
                self.edit(ns, name, |object| {
                    let other = if object["metadata"]["labels"][cluster::SHARD] == "1" { "0" } else { "1" };
                    object["metadata"]["labels"][cluster::SHARD] = other.into();
                });
            }
            Action::Strip { ns, name } => self.edit(ns, name, |object| {
                if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
                    list.retain(|name| name != ROBOT_FINALIZER);
                }
                tidy(object);
            }),
            Action::OtherFinalizer { ns, name, on } => self.edit(ns, name, |object| {
                let deleting = object["metadata"].get("deletionTimestamp").is_some();
                let meta = &mut object["metadata"];
                if on && !deleting {
                    let others = json!([OTHER]);
                    match meta["finalizers"].as_array_mut() {
                        Some(list) if list.iter().any(|name| name == OTHER) => {}
                        Some(list) => list.insert(0, OTHER.into()),
                        None => meta["finalizers"] = others,
                    }
                } else if !on && let Some(list) = meta["finalizers"].as_array_mut() {
                    list.retain(|name| name != OTHER);
                }
                tidy(object);
            }),
            Action::OtherCondition { ns, name } => self.edit(ns, name, |object| {
                let other = json!({
                    "type": "Audited", "status": "True", "reason": "Audited", "message": "by another writer",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                });
                match object["status"]["conditions"].as_array_mut() {
                    Some(list) if list.iter().any(|one| one["type"] == "Audited") => list.rotate_left(1),
                    Some(list) => list.insert(0, other),
                    None => object["status"]["conditions"] = json!([other]),
                }
            }),
            Action::WipeStatus { ns, name } => self.edit(ns, name, |object| {
                if let Some(object) = object.as_object_mut() {
                    object.remove("status");
                }
            }),
            Action::DeleteNamespace { ns } => self.delete_namespace(story::namespace(ns)),
            Action::ForceNamespace { ns, back } => {
                let name = story::namespace(ns);
                self.delete_namespace(name);
                for key in self.cluster.keys_in(name) {
                    self.cluster.delete(&key);
                }
                self.cluster.set_namespace(name, None);
                self.trouble(Some(name), SECOND * u32::from(back) + 35 * SECOND);
                self.later(SECOND * u32::from(back), Event::NamespaceBack(name));
            }
            Action::Label { ns, on } => {
                let name = story::namespace(ns);
                if let Some(namespace) = self.cluster.namespaces.get(name) {
                    let next = Namespace { terminating: namespace.terminating, ..labelled(on) };
                    self.cluster.set_namespace(name, Some(next));
                }
            }
            Action::Brake { app, on } => self.configure(app, |spec| spec["suspend"] = on.into()),
            Action::Rate { app, rate } => {
                self.most_rate = self.most_rate.max(u32::from(rate.max(1)));
                self.least_rate = self.least_rate.min(u32::from(rate.max(1)));
                self.configure(app, |spec| spec["requestsPerSecond"] = rate.max(1).into());
            }
            // A RoomRobot that moves to a shard which does not hold its application yet may find it gone.
            Action::DeleteApplication { .. } if self.setup.sharded => {}
            Action::DeleteApplication { app } => {
                self.checks.applications_change = true;
                self.cluster.delete_application(story::application(app));
            }
            Action::CreateApplication { app } => {
                self.checks.applications_change = true;
                self.create_application(app);
            }
            Action::StripApplication { app } => {
                self.checks.applications_change = true;
                self.cluster.edit_application(story::application(app), |object| {
                    if let Some(meta) = object["metadata"].as_object_mut() {
                        meta.remove("finalizers");
                    }
                });
            }
            Action::Change { app, secret } => self.change_secret(app, secret),
            Action::Kill { replica, down } => self.kill(self.which(replica), down),
            Action::End { replica, down } => {
                let n = self.which(replica);
                let Some(replica) = self.replicas.get_mut(n) else { return };
                if replica.phase == Phase::Running {
                    replica.phase = Phase::Ending(self.now);
                    replica.down = down;
                    self.tell(n, Some(Input::Stop));
                }
            }
            Action::Pause { replica, time } => self.pause(replica, time, false),
            Action::Sleep { replica, time } => self.pause(replica, time, true),
            Action::Clock { replica, by } => {
                let n = self.which(replica);
                if let Some(replica) = self.replicas.get_mut(n) {
                    replica.skew += i64::from(by);
                    // It signs anew; what is answered to calls with the signature before is not what counts then.
                    self.afresh.insert(replica.process(), self.now);
                }
            }
            Action::DeleteLease => {
                self.lease_deleted = Some(self.now);
                let shards: Vec<u8> = self.leases.keys().copied().collect();
                for shard in shards {
                    self.leases.remove(&shard);
                    self.show_lease(shard, &election::Shown::Deleted);
                }
            }
            Action::Cut { replica, hangs, time } => {
                let until = self.now + MS * u32::from(time);
                let all = replica == 3;
                let one = self.which(replica);
                for n in 0..self.replicas.len() {
                    if all || n == one {
                        if let Some(replica) = self.replicas.get_mut(n) {
                            replica.cut = (until, hangs);
                        }
                        self.fail_watches(
                            n,
                            if hangs { MS * u32::from(time) } else { Duration::ZERO },
                            false,
                        );
                    }
                }
                self.trouble(None, MS * u32::from(time) + 35 * SECOND);
            }
            Action::Watches { replica, gone, mute } => {
                let n = self.which(replica);
                self.fail_watches(n, MS * u32::from(mute), gone);
                self.trouble(None, MS * u32::from(mute) + 15 * SECOND);
            }
            Action::SlowLists { takes, time } => {
                self.slow_lists = (self.now + MS * u32::from(time), MS * u32::from(takes));
                self.trouble(None, MS * (u32::from(time) + 4 * u32::from(takes)) + 15 * SECOND);
            }
            Action::Writes { ns, which, how, times, time } => {
                let until = self.now + MS * u32::from(time);
                self.writes.push(WriteFault { ns, which, how, times, until });
                let within = (ns != 3 && which != Which::Applications).then(|| story::namespace(ns));
                self.trouble(within, MS * u32::from(time) + 50 * SECOND);
            }
            Action::SlowWrites { takes, time } => {
                self.slow_writes = (self.now + MS * u32::from(time), MS * u32::from(takes));
                self.trouble(None, MS * (u32::from(time) + u32::from(takes)) + 40 * SECOND);
            }
            Action::Room { app, add, how, times, time } => {
                let until = self.now + MS * time;
                let app = story::application(app).to_owned();
                self.rooms.push(RoomFault { app, add, how, times, until });
            }
            Action::Stall { time } => {
                self.stalled = self.stalled.max(self.now + MS * u32::from(time));
                for app in story::APPLICATIONS {
                    self.room_trouble(app, None, MS * u32::from(time) + 3 * MINUTE);
                }
            }
            Action::SlowCalls { takes, time } => {
                self.slow_calls = (self.now + MS * u32::from(time), MS * u32::from(takes));
                for app in story::APPLICATIONS {
                    self.room_trouble(app, None, MS * u32::from(time) + 3 * MINUTE);
                }
            }
            Action::Leave { ns, name } => {
                let found = self.cluster.robots.get(&story::key(ns, name));
                if let Some(who) = found.map(|object| identity(object, self.setup.twin)) {
                    self.checks.members.remove(&who);
                }
            }
        }
    }

    fn which(&self, replica: u8) -> usize {
        usize::from(replica) % self.replicas.len().max(1)
    }

    fn create(&mut self, ns: u8, name: &str, spec: Value, born: bool, shard: u8) {
        let namespace = story::namespace(ns);
        if !self.cluster.namespaces.contains_key(namespace) {
            self.cluster.set_namespace(namespace, Some(labelled(true)));
        }
        let finalizers: &[&str] = if born { &[ROBOT_FINALIZER] } else { &[] };
        let adopted = spec["creationPolicy"] != "Create";
        if self.cluster.create(namespace, name, spec, finalizers, shard) && adopted {
            let key = format!("{namespace}/{name}");
            if let Some(object) = self.cluster.robots.get(&key) {
                self.checks.members.insert(identity(object, self.setup.twin), object.uid().to_owned());
            }
        }
    }

    fn edit(&mut self, ns: u8, name: u8, change: impl FnOnce(&mut Value)) {
        self.cluster.edit(&story::key(ns, name), change);
    }

    fn configure(&mut self, app: u8, change: impl FnOnce(&mut Value)) {
        let name = story::application(app);
        self.room_trouble(name, None, 5 * SECOND);
        self.cluster.edit_application(name, |object| change(&mut object["spec"]));
    }

    pub(super) fn create_application(&mut self, app: u8) {
        let name = story::application(app);
        let mut spec = json!({
            "sdkAppId": sdk_app_id(name, self.setup.twin),
            "credentials": {"secretRef": {"name": secret_of(app)}},
            "requestsPerSecond": self.setup.rate.max(1),
        });
        if self.setup.selective && app % 2 == 1 {
            spec["allowedNamespaces"] = json!({"selector": {"matchLabels": {cluster::TEAM: "yes"}}});
        }
        self.cluster.create_application(name, spec);
    }

    fn change_secret(&mut self, app: u8, secret: Secret) {
        let name = secret_of(app % 2);
        let before = self.secrets.insert(name.clone(), secret);
        // A list that hangs is given up after a while.
        let hung = before == Some(Secret::Hanging);
        self.room_trouble(story::application(app), None, SECOND * if hung { 45 } else { 12 });
        // What cannot be listed is not shown by a watch either.
        let listed =
            |secret| matches!(secret, Secret::Right | Secret::Wrong | Secret::Empty | Secret::Missing);
        if listed(secret) && before != Some(secret) {
            self.cluster.changed(Changed::Secret { name });
        }
    }

    fn delete_namespace(&mut self, name: &'static str) {
        if let Some(namespace) = self.cluster.namespaces.get(name).filter(|namespace| !namespace.terminating)
        {
            let next = Namespace { terminating: true, ..namespace.clone() };
            self.cluster.set_namespace(name, Some(next));
            self.later(30 * MS, Event::Controller(name));
        }
    }

    fn pause(&mut self, replica: u8, time: u16, asleep: bool) {
        let (n, now) = (self.which(replica), self.now);
        let Some(replica) =
            self.replicas.get_mut(n).filter(|replica| replica.alive() && replica.paused <= now)
        else {
            return;
        };
        replica.paused = now + MS * u32::from(time);
        replica.asleep = asleep;
        if asleep {
            replica.slept += MS * u32::from(time);
        }
        self.trouble(None, MS * u32::from(time) + 35 * SECOND);
    }

    fn fail_watches(&mut self, n: usize, mute: Duration, gone: bool) {
        let until = self.now + mute;
        let Some(replica) = self.replicas.get_mut(n).filter(|replica| replica.alive()) else { return };
        let process = replica.process;
        let mut failing = Vec::new();
        for (at, stream) in replica.streams.iter_mut().enumerate() {
            stream.mute = stream.mute.max(until);
            failing.push((at, stream.generation));
        }
        for (stream, generation) in failing {
            let what = if gone { Do::Begin } else { Do::Fail };
            self.at(until, Event::Stream(n, process, stream, generation, what));
        }
    }

    /// Something is wrong with the API server, for so long at least.
    fn trouble(&mut self, namespace: Option<&'static str>, time: Duration) {
        let until = self.now + time;
        let place = match namespace {
            Some(name) => self.api_trouble.entry(name).or_default(),
            None => &mut self.all_api_trouble,
        };
        *place = (*place).max(until);
    }

    /// Everything is well again, and stays so.
    pub(super) fn heal(&mut self) {
        self.say(|_| "* everything is well from now on".to_owned());
        let now = self.now;
        self.writes.clear();
        self.rooms.clear();
        (self.slow_calls, self.slow_writes, self.slow_lists) = Default::default();
        for replica in &mut self.replicas {
            replica.cut.0 = replica.cut.0.min(now);
            for stream in &mut replica.streams {
                stream.mute = now;
            }
            if replica.paused > now {
                // What it still had to sleep, it does not.
                if replica.asleep {
                    replica.slept = replica.slept.saturating_sub(replica.paused - now);
                }
                replica.paused = now;
            }
        }
        for app in 0..2 {
            self.change_secret(app, Secret::Right);
            self.create_application(app);
            let name = story::application(app);
            self.cluster.edit_application(name, |object| object["spec"]["suspend"] = false.into());
        }
        for name in story::NAMESPACES {
            if !self.cluster.namespaces.contains_key(name) {
                self.cluster.set_namespace(name, Some(labelled(true)));
            }
        }
        for key in self.cluster.robots.keys().cloned().collect::<Vec<_>>() {
            self.cluster.edit(&key, |object| {
                object["spec"]["suspend"] = false.into();
                if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
                    list.retain(|name| name != OTHER);
                }
                tidy(object);
            });
        }
        self.trouble(None, 60 * SECOND);
        self.stored();
    }

    /// Looks at everything that waits.
    pub(super) fn sample(&mut self) {
        let now = self.now;
        let calm = self.all_api_trouble < now;
        self.look_for_a_leader(calm);
        let shards = self.setup.shards();
        let stable: Vec<bool> = (0..shards)
            .map(|shard| {
                let mut all = self.replicas.iter().filter(|replica| replica.shard == shard);
                all.any(|replica| {
                    replica.acts_since(now.saturating_sub(20 * SECOND)) && replica.paused <= now
                })
            })
            .collect();
        let uids: Vec<String> = self.checks.unfinished.iter().cloned().collect();
        let waiting = u32::try_from(uids.len()).unwrap_or(u32::MAX);
        let (api, room, lag) =
            (u32::from(self.setup.api), u32::from(self.setup.room), u32::from(self.setup.lag));
        let alone = 5 + (10 * api + 4 * room + 3 * lag) / 1000;
        let writes = waiting * (12 * api + 10) / (1000 * u32::from(self.setup.concurrency.clamp(1, 4)));
        // Of two applications that share a quota, each has its part of it without an answer.
        let part = (self.least_rate / 2).max(1) * 1000;
        let calls =
            3 * waiting / self.least_rate + if self.setup.twin { 4 * room * waiting / part } else { 0 };
        let limit = alone + writes + calls;
        let mut broken = None;
        for uid in uids {
            let Some(life) = self.checks.lives.get_mut(&uid) else { continue };
            let object = Rc::clone(&life.last);
            let robot = &object.robot;
            let namespace = story::NAMESPACES.iter().find(|name| **name == &*robot.key.namespace);
            let local = namespace.and_then(|name| self.api_trouble.get(name)).copied().unwrap_or_default();
            let well = calm
                && local < now
                && stable.get(usize::from(object.shard) % stable.len().max(1)) == Some(&true);
            if !well || robot.finalizers.ours.is_none() && robot.deleting_since.is_some() {
                continue;
            }
            let app = self.cluster.applications.get(&*robot.application);
            let deleting = robot.deleting_since.is_some();
            let sdk = sdk_app_id(&robot.application, self.setup.twin);
            let called = self.last_call.get(&sdk).copied().unwrap_or_default();
            match promises::told(&object.json) {
                Ok(()) => life.untold = 0,
                Err(why) if called + 30 * SECOND < now => {
                    life.untold += 1;
                    if life.untold > 75 {
                        broken = Some(why);
                    }
                }
                Err(_) => {}
            }
            let trouble = self
                .app_trouble
                .get(&(robot.application.to_string(), !deleting))
                .copied()
                .unwrap_or_default();
            let secret = app.and_then(|app| self.secrets.get(&*app.spec.secret));
            let able = app.is_some_and(|app| !app.spec.suspend) && secret == Some(&Secret::Right);
            let clear = deleting && life.tainted < now && !robot.suspend && able && trouble < now;
            if clear {
                life.waited += 1;
                life.limit = life.limit.max(limit);
                if life.waited > life.limit {
                    let status = object.json["status"].to_string();
                    broken = Some(format!(
                        "{} waits for {} s, and nothing stands in its way: {status}",
                        life.key, life.waited
                    ));
                }
            }
        }
        if let Some(broken) = broken {
            self.checks.broken(broken);
        }
        self.look_at_applications(calm && stable.iter().all(|stable| *stable));
        if !self.checks.unfinished.is_empty() && !self.sampling {
            self.sampling = true;
            self.later(SECOND, Event::Sample);
        }
    }

    /// Where nothing stands in the way, some replica leads.
    fn look_for_a_leader(&mut self, calm: bool) {
        let now = self.now;
        let up = self
            .replicas
            .iter()
            .all(|replica| replica.phase == Phase::Running && replica.started + CALM < now);
        let led = (0..self.setup.shards()).all(|shard| {
            self.replicas.iter().any(|replica| replica.shard == shard && replica.engine.elected())
        });
        self.leaderless = if calm && up && !led { self.leaderless + 1 } else { 0 };
        if self.leaderless > 40 {
            self.checks
                .broken(format!("nobody leads for {} s, and nothing stands in the way", self.leaderless));
        }
    }

    /// What an application lacks is told.
    fn look_at_applications(&mut self, calm: bool) {
        for name in story::APPLICATIONS {
            let untold = self.cluster.applications.get(name).is_some_and(|app: &Rc<App>| {
                promises::condition(&app.json, "Ready").is_none()
                    && !self.setup.sharded
                    && !self.setup.by_namespace
            });
            let count = self.app_untold.entry(name.to_owned()).or_default();
            *count = if untold && calm { *count + 1 } else { 0 };
            if *count > 45 {
                let count = *count;
                self.checks.broken(format!("RtcApplication {name} has no Ready condition after {count} s"));
            }
        }
    }
}

/// A finalizer of somebody else.
const OTHER: &str = "example.org/other";

/// An object without finalizers has no empty list of them.
fn tidy(object: &mut Value) {
    let meta = &mut object["metadata"];
    if meta["finalizers"].as_array().is_none_or(Vec::is_empty)
        && let Some(meta) = meta.as_object_mut()
    {
        meta.remove("finalizers");
    }
}
