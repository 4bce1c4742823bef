//! Lists and watches, as the client library does them.

use super::*;

impl World {
    pub(super) fn with_stream<T>(
        &mut self,
        n: usize,
        stream: usize,
        with: impl FnOnce(&mut Stream) -> T,
    ) -> Option<T> {
        self.replicas.get_mut(n)?.streams.get_mut(stream).map(with)
    }

    /// A list begins.
    pub(super) fn begin(&mut self, n: usize, stream: usize) {
        let now = self.now;
        let shown = self.shown_by(n, stream);
        let Some((generation, shows)) = self.with_stream(n, stream, |stream| {
            stream.generation += 1;
            (stream.state, stream.silent, stream.ticking) = (State::Listing, None, false);
            stream.shown = shown;
            (stream.generation, stream.shows.clone())
        }) else {
            return;
        };
        let Some(replica) = self.replicas.get(n) else { return };
        let (process, round) = (replica.process, replica.round);
        let input = match &shows {
            Shows::Robots(scope) => Some(Input::RobotsListing(scope.clone(), round)),
            Shows::Applications => Some(Input::ApplicationsListing(round)),
            Shows::Namespaces => None,
            Shows::Secret(_) => {
                let read = self.with_stream(n, stream, |stream| stream.read) == Some(true);
                if !read {
                    self.later(UNANSWERED, Event::Stream(n, process, stream, generation, Do::Unanswered));
                }
                None
            }
        };
        let (until, takes) = self.slow_lists;
        let takes = if until > now { takes } else { MS * u32::from(self.setup.list) };
        self.later(takes, Event::Stream(n, process, stream, generation, Do::Snapshot));
        if let Some(input) = input {
            self.tell(n, Some(input));
        }
    }

    pub(super) fn stream(&mut self, n: usize, stream: usize, generation: u32, what: Do) {
        let now = self.now;
        let Some((current, state)) = self.with_stream(n, stream, |stream| (stream.generation, stream.state))
        else {
            return;
        };
        if current != generation || state == State::Over {
            return;
        }
        let Some(process) = self.replicas.get(n).map(|replica| replica.process) else { return };
        match what {
            Do::Begin => self.begin(n, stream),
            Do::Snapshot => self.snapshot(n, stream, generation),
            Do::Deliver => self.deliver(n, stream),
            Do::Tick => {
                self.with_stream(n, stream, |stream| stream.ticking = false);
                if state == State::Watching {
                    self.show(n, stream);
                    self.ring(n);
                }
            }
            Do::Fail if state == State::Watching || state == State::Cut => {
                let first = self.with_stream(n, stream, |stream| {
                    stream.state = State::Cut;
                    stream.failures += 1;
                    let first = stream.silent.is_none();
                    stream.silent.get_or_insert(now);
                    first
                });
                if first == Some(true) {
                    self.later(UNHEARD, Event::Stream(n, process, stream, generation, Do::Unheard));
                }
                self.later(300 * MS, Event::Stream(n, process, stream, generation, Do::Resume));
            }
            Do::Fail => {}
            Do::Resume => {
                if self.can_reach(n).is_err() {
                    return self.later(700 * MS, Event::Stream(n, process, stream, generation, Do::Fail));
                }
                self.with_stream(n, stream, |stream| stream.state = State::Watching);
                self.ring(n);
            }
            Do::Unheard => {
                // A new list tells.
                let silent = self.with_stream(n, stream, |stream| stream.silent.is_some());
                if silent == Some(true) {
                    self.begin(n, stream);
                }
            }
            Do::Unanswered => {
                let unread = self.with_stream(n, stream, |stream| !std::mem::replace(&mut stream.read, true));
                if unread == Some(true)
                    && let Some(Shows::Secret(name)) =
                        self.with_stream(n, stream, |stream| stream.shows.clone())
                {
                    let why = "the API server has not answered for 6 s".to_owned();
                    self.tell(n, Some(Input::Secret(name, Credentials::Unreadable(why))));
                }
            }
        }
    }

    pub(super) fn snapshot(&mut self, n: usize, stream: usize, generation: u32) {
        let now = self.now;
        let Some(replica) = self.replicas.get(n) else { return };
        let process = replica.process;
        let begin = Event::Stream(n, process, stream, generation, Do::Begin);
        let Some(shows) = self.with_stream(n, stream, |stream| stream.shows.clone()) else { return };
        let secret = match &shows {
            Shows::Secret(name) => self.secrets.get(&**name).copied(),
            _ => None,
        };
        let failure = match (self.can_reach(n), secret) {
            (Err(false), _) | (Ok(()), Some(Secret::Failing)) => Some("it fails"),
            (Err(true), _) | (Ok(()), Some(Secret::Hanging)) => {
                return self.later(LIST_TIMEOUT, begin);
            }
            (Ok(()), Some(Secret::Forbidden)) => Some("forbidden"),
            (Ok(()), _) => None,
        };
        let Some(why) = failure else {
            let at = self.cluster.log.len();
            self.with_stream(n, stream, |stream| stream.at = at);
            let (until, takes) = self.slow_lists;
            let takes = if until > now { takes } else { MS * u32::from(self.setup.list) };
            return self.later(takes, Event::Stream(n, process, stream, generation, Do::Deliver));
        };
        let since = self.with_stream(n, stream, |stream| {
            stream.failures += 1;
            stream.begun
        });
        self.later(500 * MS, begin);
        if let Shows::Secret(name) = shows
            && (why == "forbidden" || since.is_some_and(|since| now >= since + UNREAD))
        {
            self.with_stream(n, stream, |stream| stream.read = true);
            self.tell(n, Some(Input::Secret(name, Credentials::Unreadable(why.to_owned()))));
        }
    }

    /// Everything that the snapshot shows, and that the list is complete.
    pub(super) fn deliver(&mut self, n: usize, stream: usize) {
        let Some((shows, at)) = self.with_stream(n, stream, |stream| (stream.shows.clone(), stream.at))
        else {
            return;
        };
        if self.can_reach(n).is_err() {
            let Some(replica) = self.replicas.get(n) else { return };
            let process = replica.process;
            let generation = replica.streams.get(stream).map_or(0, |stream| stream.generation);
            return self.later(500 * MS, Event::Stream(n, process, stream, generation, Do::Begin));
        }
        // Back from what is stored now to what was stored then.
        let mut inputs = Vec::new();
        match &shows {
            Shows::Robots(scope) => {
                let mut then: BTreeMap<String, Rc<Object>> = self.cluster.robots.clone();
                for (_, changed) in self.cluster.log.iter().skip(at).rev() {
                    if let Changed::Robot { before, after } = changed {
                        let Some(key) = before.as_ref().or(after.as_ref()).map(|object| object.key()) else {
                            continue;
                        };
                        match before {
                            Some(before) => drop(then.insert(key, Rc::clone(before))),
                            None => drop(then.remove(&key)),
                        }
                    }
                }
                for object in then.values().filter(|object| self.sees(n, scope.as_deref(), object)) {
                    inputs.push(Input::Robot(Box::new(object.robot.clone())));
                }
                inputs.push(Input::RobotsListed(scope.clone()));
            }
            Shows::Applications => {
                // They are few and change seldom: what came after is shown again by the watch.
                for app in self.cluster.applications.values() {
                    inputs.push(Input::Application(Box::new(app.spec.clone())));
                }
                let names = self.cluster.applications.keys().map(|name| Arc::from(name.as_str()));
                inputs.push(Input::ApplicationsListed(names.collect()));
            }
            Shows::Namespaces => {
                for (name, namespace) in &self.cluster.namespaces {
                    inputs.push(Input::Namespace(
                        name.as_str().into(),
                        namespace.labels.clone(),
                        namespace.terminating,
                    ));
                }
                let names = self.cluster.namespaces.keys().map(|name| Arc::from(name.as_str()));
                inputs.push(Input::NamespacesListed(names.collect()));
            }
            Shows::Secret(name) => inputs.push(Input::Secret(Arc::clone(name), self.credentials(name))),
        }
        let end = self.cluster.log.len();
        self.with_stream(n, stream, |stream| {
            (stream.state, stream.failures, stream.silent, stream.read) = (State::Watching, 0, None, true);
            if !matches!(stream.shows, Shows::Robots(_)) {
                stream.at = end;
            }
        });
        for input in inputs {
            self.tell(n, Some(input));
        }
        self.ring(n);
    }

    pub(super) fn sees(&self, n: usize, scope: Option<&str>, object: &Object) -> bool {
        let shard = self.replicas.get(n).map_or(0, |replica| replica.shard);
        scope.is_none_or(|namespace| &*object.robot.key.namespace == namespace)
            && (!self.setup.sharded || object.shard == shard)
    }

    pub(super) fn credentials(&self, secret: &str) -> Credentials {
        match self.secrets.get(secret).copied().unwrap_or(Secret::Missing) {
            Secret::Wrong => Credentials::UserSig(Sensitive::new("wrong".to_owned())),
            Secret::Empty => Credentials::Invalid("it has neither secretKey nor userSig".to_owned()),
            Secret::Missing => Credentials::Missing,
            // What cannot be listed may still be right.
            Secret::Right | Secret::Forbidden | Secret::Failing | Secret::Hanging => {
                Credentials::UserSig(Sensitive::new("right".to_owned()))
            }
        }
    }

    /// Whether such a watch shows this change.
    pub(super) fn is_shown(&self, n: usize, shows: &Shows, changed: &Changed) -> bool {
        match (shows, changed) {
            (Shows::Robots(scope), Changed::Robot { before, after }) => {
                let seen = |object: &Option<Rc<Object>>| {
                    object.as_ref().is_some_and(|object| self.sees(n, scope.as_deref(), object))
                };
                seen(before) || seen(after)
            }
            (Shows::Applications, Changed::Application { .. })
            | (Shows::Namespaces, Changed::Namespace { .. }) => true,
            (Shows::Secret(name), Changed::Secret { name: changed }) => **name == **changed,
            _ => false,
        }
    }

    /// What the next thing is that a watch has to show, and when.
    pub(super) fn next_shown(&self, n: usize, stream: usize) -> Option<(usize, Duration)> {
        let stream = self.replicas.get(n)?.streams.get(stream)?;
        let from = self.cluster.log.get(stream.at..)?;
        let place = from.iter().position(|(_, changed)| self.is_shown(n, &stream.shows, changed))?;
        let (at, _) = from.get(place)?;
        Some((stream.at + place, (*at + self.lag(n)).max(stream.mute)))
    }

    /// Sets an alarm for whatever watches have to show.
    pub(super) fn ring(&mut self, n: usize) {
        let Some(replica) = self.replicas.get(n).filter(|replica| replica.alive()) else { return };
        let process = replica.process;
        for stream in 0..replica.streams.len() {
            let Some((ready, generation)) = self.with_stream(n, stream, |stream| {
                (stream.state == State::Watching && !stream.ticking, stream.generation)
            }) else {
                continue;
            };
            if !ready {
                continue;
            }
            if let Some((_, at)) = self.next_shown(n, stream) {
                self.with_stream(n, stream, |stream| stream.ticking = true);
                self.at(at.max(self.now), Event::Stream(n, process, stream, generation, Do::Tick));
            } else {
                let end = self.cluster.log.len();
                self.with_stream(n, stream, |stream| stream.at = end);
            }
        }
    }

    /// Shows everything that is due.
    pub(super) fn show(&mut self, n: usize, stream: usize) {
        while let Some((place, at)) = self.next_shown(n, stream)
            && at <= self.now
        {
            let Some(shows) = self.with_stream(n, stream, |stream| {
                (stream.at, stream.silent, stream.failures) = (place + 1, None, 0);
                stream.shows.clone()
            }) else {
                return;
            };
            let Some((_, changed)) = self.cluster.log.get(place).cloned() else { return };
            let input = match (changed, shows) {
                (Changed::Robot { before, after }, Shows::Robots(scope)) => {
                    let seen = |object: &Option<Rc<Object>>| {
                        object.as_ref().filter(|object| self.sees(n, scope.as_deref(), object)).cloned()
                    };
                    match (seen(&before), seen(&after)) {
                        (_, Some(after)) => Input::Robot(Box::new(after.robot.clone())),
                        (Some(before), None) => {
                            Input::RobotGone(before.robot.key.clone(), Arc::clone(&before.robot.uid))
                        }
                        (None, None) => continue,
                    }
                }
                (Changed::Application { after: Some(app), .. }, _) => {
                    Input::Application(Box::new(app.spec.clone()))
                }
                (Changed::Application { name, after: None }, _) => Input::ApplicationGone(name.into()),
                (Changed::Namespace { name, after: Some(namespace) }, _) => {
                    Input::Namespace(name.into(), namespace.labels, namespace.terminating)
                }
                (Changed::Namespace { name, after: None }, _) => Input::NamespaceGone(name.into()),
                (Changed::Secret { name }, _) => {
                    let credentials = self.credentials(&name);
                    Input::Secret(name.into(), credentials)
                }
                _ => continue,
            };
            self.tell(n, Some(input));
        }
    }

    /// Until when everything that was stored has been shown to this replica.
    pub(super) fn shown(&self, n: usize) -> Duration {
        let Some(replica) = self.replicas.get(n) else { return Duration::ZERO };
        let robots =
            replica.streams.iter().enumerate().filter(|(_, stream)| matches!(stream.shows, Shows::Robots(_)));
        robots.map(|(at, _)| self.shown_by(n, at)).min().unwrap_or_default()
    }

    pub(super) fn shown_by(&self, n: usize, stream: usize) -> Duration {
        let Some(now) = self.replicas.get(n).and_then(|replica| replica.streams.get(stream)) else {
            return Duration::ZERO;
        };
        if now.state == State::Listing {
            return now.shown;
        }
        let next = self.next_shown(n, stream).and_then(|(place, _)| self.cluster.log.get(place));
        next.map_or(self.now, |(at, _)| at.saturating_sub(Duration::from_nanos(1)))
    }

    pub(super) fn knew(&self, n: usize) -> Knew {
        let shown = self.shown(n);
        self.replicas.get(n).map_or(Knew { process: (n, 0), until: shown }, |replica| replica.knew(shown))
    }
}
