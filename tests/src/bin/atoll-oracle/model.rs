//! The generator's knowledge of a scenario so far: which actors live or wait, and what each mailbox holds.
//!
//! With it, the generator gives most steps to actors that can perform them to some effect, and makes bursts only if their outcome
//! is determined. The model does not judge: Erlang decides what a step does.

use crate::scenario::{Group, label_number};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An event in a mailbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Mail {
    Message {
        tag: u32,
        from: usize,
        carried: Carried,
    },
    Exit,
    Down(usize),
    Timer(usize),
    Group(usize),
}

/// The content of a message beside its tag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carried {
    Nothing,
    Reference(usize),
    Request(usize),
}

/// The event that an actor waits for.
#[derive(Clone, Debug)]
pub enum Wait {
    Event(String),
    Call { id: usize, target: usize },
}

/// An actor. The model holds only those that have been spawned.
#[derive(Clone, Debug)]
pub struct Actor {
    pub is_alive: bool,
    pub traps: bool,
    pub links: BTreeSet<usize>,
    pub wait: Option<Wait>,
    pub suspended_by: Vec<usize>,
    pub mail: Vec<Mail>,
    pub name: Option<String>,
    pub requests: Vec<(usize, Carried)>,
    seen_mail: usize,
    is_dirty: bool,
    woke: bool,
}

/// The use of a reference.
#[derive(Clone, Debug, PartialEq)]
pub enum Use {
    Plain,
    Monitor(usize),
    Alias,
    Timer,
    Group(String),
    /// The use is over.
    Over,
}

#[derive(Clone, Debug)]
pub struct Reference {
    pub owner: usize,
    pub made_for: &'static str,
    pub used: Use,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub actors: BTreeMap<usize, Actor>,
    pub references: BTreeMap<usize, Reference>,
    pub groups: BTreeMap<String, Vec<usize>>,
    calls: usize,
}

impl Model {
    pub fn new(actors: usize) -> Model {
        let mut model = Model::default();
        for label in 0..actors {
            model.add_actor(label);
        }
        model
    }

    fn add_actor(&mut self, label: usize) {
        let actor = Actor {
            is_alive: true,
            traps: false,
            links: BTreeSet::new(),
            wait: None,
            suspended_by: Vec::new(),
            mail: Vec::new(),
            name: None,
            requests: Vec::new(),
            seen_mail: 0,
            is_dirty: false,
            woke: false,
        };
        self.actors.insert(label, actor);
    }

    fn actor(&mut self, label: usize) -> &mut Actor {
        self.actors.get_mut(&label).expect("it was spawned")
    }

    pub fn is_alive(&self, label: usize) -> bool {
        self.actors.get(&label).is_some_and(|actor| actor.is_alive)
    }

    /// Can this actor perform a step now?
    pub fn can_act(&self, label: usize) -> bool {
        self.actors.get(&label).is_some_and(|actor| {
            actor.is_alive && actor.wait.is_none() && actor.suspended_by.is_empty()
        })
    }

    /// The actor with this name.
    pub fn named(&self, name: &str) -> Option<usize> {
        let mut actors = self.actors.iter();
        let found = actors.find(|(_, actor)| actor.name.as_deref() == Some(name));
        found.map(|(label, _)| *label)
    }

    /// The actors that end if these end for a reason other than `normal`, including these.
    pub fn ends_with(&self, first: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut ended = BTreeSet::new();
        let mut rest = first.into_iter().collect::<Vec<_>>();
        while let Some(label) = rest.pop() {
            if ended.insert(label) {
                let links = self.actors[&label].links.iter();
                rest.extend(links.filter(|other| !self.actors[other].traps));
            }
        }
        ended
    }

    /// Performs the steps of a group.
    pub fn perform(&mut self, group: &Group) {
        let can_act = |step: &&String| {
            let actor = step
                .split(' ')
                .next()
                .and_then(|word| label_number(word, 'a'));
            actor.is_some_and(|actor| self.can_act(actor))
        };
        let steps = group
            .steps()
            .iter()
            .filter(can_act)
            .cloned()
            .collect::<Vec<_>>();
        for step in steps {
            let words = step.split(' ').collect::<Vec<_>>();
            let actor = label_number(words[0], 'a').expect("it begins with an actor");
            self.step(actor, words[1], &words[2..]);
        }
        let is_ordered = matches!(group, Group::One(step) if step.contains(" send-many "));
        for label in self.actors.keys().copied().collect::<Vec<_>>() {
            self.look(label, is_ordered);
        }
    }

    /// Drains an actor's mailbox if the conductors would.
    fn look(&mut self, label: usize, is_ordered: bool) {
        let can_act = self.can_act(label);
        let actor = self.actor(label);
        let grown = actor.mail.len().saturating_sub(actor.seen_mail);
        let is_ambiguous = !is_ordered && (grown >= 2 || (actor.woke && grown >= 1));
        let is_dirty = actor.is_dirty || is_ambiguous;
        actor.woke = false;
        actor.is_dirty = is_dirty && !can_act;
        if can_act && is_dirty {
            while self.take(label, "any").is_some() {}
        }
        let actor = self.actor(label);
        actor.seen_mail = actor.mail.len();
    }

    fn step(&mut self, me: usize, operation: &str, words: &[&str]) {
        let target = self.target(words);
        let reference = words.first().and_then(|word| label_number(word, 'r'));
        let new = words
            .iter()
            .find_map(|word| label_number(word.strip_prefix('=')?, 'r'));
        match (operation, target, reference) {
            ("send", Some(to), _) => {
                let carried = words.get(3).and_then(|word| label_number(word, 'r'));
                let carried = carried.map_or(Carried::Nothing, Carried::Reference);
                self.send(me, to, number(words[1]), carried);
            }
            ("send-many", Some(to), _) => {
                for _ in 0..number(words[3]) {
                    self.send(me, to, number(words[1]), Carried::Nothing);
                }
            }
            ("send-name", ..) => {
                if let Some(to) = self.named(words[0]) {
                    self.send(me, to, number(words[1]), Carried::Nothing);
                }
            }
            ("recv", ..) => drop(self.take(me, words[0])),
            ("drain", ..) => while self.take(me, "any").is_some() {},
            ("await", ..) => {
                if self.take(me, words[0]).is_none() && words[1] != "short" {
                    self.actor(me).wait = Some(Wait::Event(words[0].to_owned()));
                }
            }
            ("call", ..) => {
                let target = target.or_else(|| self.named(words[0]));
                self.call(me, target, number(words[1]), words[3]);
            }
            ("reply", Some(to), _) => self.reply(me, to, number(words[1])),
            ("answer", _, Some(alias)) => self.answer(me, alias, number(words[1])),
            ("make-ref", ..) => self.refer(me, new, "make-ref", Use::Plain),
            ("alias", ..) => self.refer(me, new, "alias", Use::Alias),
            ("unalias", _, Some(alias)) => drop(self.end_use(me, alias)),
            _ => self.step_on_processes(me, operation, words, new),
        }
    }

    /// The actor that the first operand names, if it was spawned.
    fn target(&self, words: &[&str]) -> Option<usize> {
        let target = words.first().and_then(|word| label_number(word, 'a'));
        target.filter(|label| self.actors.contains_key(label))
    }

    fn step_on_processes(
        &mut self,
        me: usize,
        operation: &str,
        words: &[&str],
        new: Option<usize>,
    ) {
        let target = self.target(words);
        let reference = words.first().and_then(|word| label_number(word, 'r'));
        match (operation, target, reference) {
            ("return" | "crash" | "exit", ..) => {
                self.die(
                    me,
                    words.first().copied().unwrap_or(if operation == "return" {
                        "normal"
                    } else {
                        "crash"
                    }),
                );
            }
            ("exit-process", Some(to), _) => self.exit_process(me, to, words[1]),
            ("trap-exit", ..) => self.actor(me).traps = words[0] == "on",
            ("link", Some(to), _) => self.link(me, to),
            ("unlink", Some(to), _) => self.unlink(me, to),
            ("monitor", ..) => {
                let target = target.or_else(|| self.named(words[0]));
                let Some(new) = new else { return };
                self.monitor(me, target, new);
            }
            ("demonitor", _, Some(monitor)) => {
                self.end_use(me, monitor);
                if words.len() > 1 {
                    self.actor(me)
                        .mail
                        .retain(|mail| *mail != Mail::Down(monitor));
                }
            }
            ("spawn", ..) => self.spawn(me, words),
            ("suspend", Some(to), _) if to != me && self.is_alive(to) => {
                self.actor(to).suspended_by.push(me);
            }
            ("resume", Some(to), _) => self.resume(me, to),
            _ => self.step_on_registries(me, operation, words, new),
        }
    }

    fn step_on_registries(
        &mut self,
        me: usize,
        operation: &str,
        words: &[&str],
        new: Option<usize>,
    ) {
        let process = words.get(1).and_then(|word| label_number(word, 'a'));
        let process = process.filter(|label| self.actors.contains_key(label));
        let reference = words.first().and_then(|word| label_number(word, 'r'));
        match (operation, process, reference) {
            ("register", Some(process), _) => {
                let is_free = self.named(words[0]).is_none();
                let actor = self.actor(process);
                if is_free && actor.is_alive && actor.name.is_none() {
                    actor.name = Some(words[0].to_owned());
                }
            }
            ("unregister", ..) => {
                if let Some(actor) = self.named(words[0]) {
                    self.actor(actor).name = None;
                }
            }
            ("join", Some(process), _) if self.is_alive(process) => {
                let members = self.groups.entry(words[0].to_owned()).or_default();
                members.push(process);
                self.tell_group(words[0]);
            }
            ("leave", Some(process), _) => self.leave(words[0], process),
            ("monitor-group", ..) => {
                self.refer(me, new, "monitor-group", Use::Group(words[0].to_owned()));
            }
            ("demonitor-group", _, Some(monitor)) => {
                self.end_use(me, monitor);
                self.actor(me)
                    .mail
                    .retain(|mail| *mail != Mail::Group(monitor));
            }
            ("start-timer" | "send-after", ..) => {
                let is_short = words[1] == "short";
                let used = if is_short { Use::Over } else { Use::Timer };
                self.refer(me, new, "timer", used);
                let to = label_number(words[0], 'a').or_else(|| self.named(words[0]));
                let (true, Some(to), Some(new)) = (is_short, to, new) else {
                    return;
                };
                if operation == "start-timer" {
                    self.deliver(to, Mail::Timer(new));
                } else {
                    self.send(me, to, number(words[2]), Carried::Nothing);
                }
            }
            ("cancel-early", ..) => self.refer(me, new, "timer", Use::Over),
            ("cancel", _, Some(timer)) => drop(self.end_use(me, timer)),
            _ => {}
        }
    }

    fn refer(&mut self, owner: usize, new: Option<usize>, made_for: &'static str, used: Use) {
        if let Some(new) = new {
            self.references.insert(
                new,
                Reference {
                    owner,
                    made_for,
                    used,
                },
            );
        }
    }

    /// Ends the use of a reference, if it belongs to the actor. Returns the previous use.
    fn end_use(&mut self, me: usize, reference: usize) -> Option<Use> {
        let reference = self.references.get_mut(&reference)?;
        if reference.owner != me {
            return None;
        }
        Some(std::mem::replace(&mut reference.used, Use::Over))
    }

    fn send(&mut self, from: usize, to: usize, tag: u32, carried: Carried) {
        self.deliver(to, Mail::Message { tag, from, carried });
    }

    fn deliver(&mut self, to: usize, mail: Mail) {
        if self.is_alive(to) {
            self.actor(to).mail.push(mail);
            self.wake(to);
        }
    }

    fn wake(&mut self, label: usize) {
        let actor = self.actor(label);
        if !actor.is_alive || !actor.suspended_by.is_empty() {
            return;
        }
        if let Some(Wait::Event(selector)) = actor.wait.clone()
            && self.take(label, &selector).is_some()
        {
            let actor = self.actor(label);
            actor.wait = None;
            actor.woke = true;
        }
    }

    fn take(&mut self, label: usize, selector: &str) -> Option<Mail> {
        let actor = self.actor(label);
        let index = actor.mail.iter().position(|mail| fits(selector, mail))?;
        let mail = actor.mail.remove(index);
        if let Mail::Message { from, carried, .. } = mail
            && carried != Carried::Nothing
        {
            actor.requests.push((from, carried));
        }
        Some(mail)
    }

    fn call(&mut self, me: usize, target: Option<usize>, tag: u32, time: &str) {
        let Some(target) = target.filter(|target| self.is_alive(*target)) else {
            return;
        };
        self.calls += 1;
        let id = self.calls;
        if time != "short" {
            self.actor(me).wait = Some(Wait::Call { id, target });
        }
        self.send(me, target, tag, Carried::Request(id));
    }

    fn reply(&mut self, me: usize, to: usize, tag: u32) {
        let requests = &mut self.actor(me).requests;
        let Some(index) = requests.iter().position(|(from, _)| *from == to) else {
            return;
        };
        match requests.remove(index).1 {
            Carried::Request(request) => {
                let waits =
                    matches!(self.actor(to).wait, Some(Wait::Call { id, .. }) if id == request);
                if waits {
                    self.end_call(to);
                }
            }
            Carried::Reference(alias) => self.answer(me, alias, tag),
            Carried::Nothing => {}
        }
    }

    fn end_call(&mut self, caller: usize) {
        let actor = self.actor(caller);
        actor.wait = None;
        actor.woke = true;
    }

    fn answer(&mut self, me: usize, alias: usize, tag: u32) {
        let Some(reference) = self.references.get_mut(&alias) else {
            return;
        };
        if reference.used == Use::Alias {
            reference.used = Use::Over;
            let owner = reference.owner;
            self.send(me, owner, tag, Carried::Reference(alias));
        }
    }

    fn exit_process(&mut self, me: usize, to: usize, reason: &str) {
        let traps = self.actor(to).traps;
        match reason {
            "kill" => self.die(to, "killed"),
            _ if traps => self.deliver(to, Mail::Exit),
            "normal" if me != to => {}
            _ => self.die(to, reason),
        }
    }

    fn link(&mut self, me: usize, to: usize) {
        if !self.is_alive(to) {
            if self.actor(me).traps {
                self.deliver(me, Mail::Exit);
            } else {
                self.die(me, "noproc");
            }
        } else if me != to {
            self.actor(me).links.insert(to);
            self.actor(to).links.insert(me);
        }
    }

    fn unlink(&mut self, me: usize, to: usize) {
        self.actor(me).links.remove(&to);
        self.actor(to).links.remove(&me);
    }

    fn monitor(&mut self, me: usize, target: Option<usize>, new: usize) {
        match target {
            Some(target) if target == me => self.refer(me, Some(new), "monitor", Use::Over),
            Some(target) if self.is_alive(target) => {
                self.refer(me, Some(new), "monitor", Use::Monitor(target));
            }
            _ => {
                self.refer(me, Some(new), "monitor", Use::Over);
                self.deliver(me, Mail::Down(new));
            }
        }
    }

    fn resume(&mut self, me: usize, to: usize) {
        let suspended_by = &mut self.actor(to).suspended_by;
        if let Some(index) = suspended_by.iter().position(|by| *by == me) {
            suspended_by.remove(index);
            self.wake(to);
        }
    }

    fn spawn(&mut self, me: usize, words: &[&str]) {
        let Some(child) = words[0]
            .strip_prefix('=')
            .and_then(|word| label_number(word, 'a'))
        else {
            return;
        };
        let operand = |option| {
            let index = words.iter().position(|word| *word == option)?;
            Some(words[index + 1])
        };
        let name = operand("name");
        if self.actors.contains_key(&child) || name.is_some_and(|name| self.named(name).is_some()) {
            return;
        }
        self.add_actor(child);
        self.actor(child).name = name.map(str::to_owned);
        if words.contains(&"link") {
            self.link(me, child);
        }
        let monitor =
            operand("monitor").and_then(|word| label_number(word.strip_prefix('=')?, 'r'));
        self.refer(me, monitor, "monitor", Use::Monitor(child));
    }

    fn tell_group(&mut self, group: &str) {
        let told = self
            .references
            .iter()
            .filter(|(_, it)| it.used == Use::Group(group.to_owned()));
        let told = told
            .map(|(label, it)| (*label, it.owner))
            .collect::<Vec<_>>();
        for (monitor, owner) in told {
            self.deliver(owner, Mail::Group(monitor));
        }
    }

    fn leave(&mut self, group: &str, process: usize) {
        let Some(members) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(index) = members.iter().position(|member| *member == process) {
            members.remove(index);
            if members.is_empty() {
                self.groups.remove(group);
            }
            self.tell_group(group);
        }
    }

    /// Ends a process, and all those that end with it.
    fn die(&mut self, first: usize, reason: &str) {
        let mut rest = VecDeque::from([first]);
        while let Some(label) = rest.pop_front() {
            let actor = self.actor(label);
            if !actor.is_alive {
                continue;
            }
            actor.is_alive = false;
            actor.mail.clear();
            actor.name = None;
            for other in std::mem::take(&mut actor.links) {
                let partner = self.actor(other);
                partner.links.remove(&label);
                if partner.traps {
                    self.deliver(other, Mail::Exit);
                } else if reason != "normal" {
                    rest.push_back(other);
                }
            }
            self.tell_of_death(label);
        }
    }

    fn tell_of_death(&mut self, label: usize) {
        for reference in self.references.values_mut() {
            if reference.owner == label {
                reference.used = Use::Over;
            }
        }
        let watching = |(monitor, reference): (&usize, &mut Reference)| {
            let is_told = reference.used == Use::Monitor(label);
            if is_told {
                reference.used = Use::Over;
            }
            is_told.then_some((*monitor, reference.owner))
        };
        let told = self
            .references
            .iter_mut()
            .filter_map(watching)
            .collect::<Vec<_>>();
        for (monitor, owner) in told {
            self.deliver(owner, Mail::Down(monitor));
        }
        for group in self.groups.keys().cloned().collect::<Vec<_>>() {
            while self
                .groups
                .get(&group)
                .is_some_and(|members| members.contains(&label))
            {
                self.leave(&group, label);
            }
        }
        for other in self.actors.keys().copied().collect::<Vec<_>>() {
            let actor = self.actor(other);
            if matches!(actor.wait, Some(Wait::Call { target, .. }) if target == label) {
                self.end_call(other);
            }
            let actor = self.actor(other);
            if actor.suspended_by.contains(&label) {
                actor.suspended_by.retain(|by| *by != label);
                self.wake(other);
            }
        }
    }
}

fn number(word: &str) -> u32 {
    word.parse().unwrap_or_default()
}

/// Does the selector match the event?
pub fn fits(selector: &str, mail: &Mail) -> bool {
    let (kind, operand) = selector.split_once(':').unwrap_or((selector, ""));
    let kind_of_mail = match mail {
        Mail::Message { .. } => "message",
        Mail::Exit => "exit",
        Mail::Down(_) => "down",
        Mail::Timer(_) => "timer",
        Mail::Group(_) => "group",
    };
    match (kind, mail) {
        ("any", _) => true,
        ("tag" | "tags", Mail::Message { tag, .. }) => {
            operand.split(',').any(|word| word.parse() == Ok(*tag))
        }
        ("kinds", _) => operand.split(',').any(|word| word == kind_of_mail),
        (
            "ref",
            Mail::Message {
                carried: Carried::Reference(label),
                ..
            },
        )
        | ("ref", Mail::Down(label) | Mail::Timer(label) | Mail::Group(label)) => {
            label_number(operand, 'r') == Some(*label)
        }
        _ => false,
    }
}
