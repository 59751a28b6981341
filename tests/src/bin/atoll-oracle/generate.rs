//! Random scenarios. The same seed makes the same scenario on every machine.
//!
//! A table says how often each kind of step is tried. A [`Model`] of the scenario so far finds an actor that can perform the
//! step, and operands for which the step has an effect. One step in ten ignores the model, so that skipped steps, dead targets
//! and vain attempts occur, too.

use crate::model::{Carried, Mail, Model, Use, Wait};
use crate::scenario::{Group, Scenario};

/// The number of steps of a scenario.
const STEPS: std::ops::RangeInclusive<u64> = 10..=40;
/// The number of actors at the start.
const ACTORS: std::ops::RangeInclusive<u64> = 3..=8;
/// The most actors, including spawned ones.
const ACTORS_MAX: usize = 12;
/// The numbers of tags, names and groups. They are small, so that steps interact.
const TAGS: u64 = 5;
const NAMES: u64 = 3;
const GROUPS: u64 = 2;

const PRIORITIES: [&str; 3] = ["low", "normal", "high"];
/// Every reason that an actor may give.
const REASONS: [&str; 11] = [
    "normal",
    "shutdown",
    "shutdown:done",
    "kill",
    "killed",
    "noproc",
    "noconnection",
    "crash",
    "exhausted:mailbox",
    "exit-code:3",
    "other:tired",
];

/// The kinds of steps, and how often each is tried. Words in capitals stand for operands; `*` marks a kind that chooses its actor
/// or operands by the model ([`Generator::special`]).
const KINDS: [(u64, &str); 51] = [
    (10, "*send"),
    (3, "send-many TARGET TAG N3 3"),
    (3, "send-name NAME TAG N"),
    (10, "*recv"),
    (3, "drain"),
    (6, "*await"),
    (5, "*wake"),
    (2, "make-ref NEW"),
    (5, "*call"),
    (5, "*serve"),
    (5, "*reply"),
    (2, "alias NEW"),
    (4, "*answer"),
    (2, "*own alias unalias"),
    (9, "link TARGET"),
    (3, "*unlink"),
    (5, "monitor TARGET NEW"),
    (2, "monitor NAME NEW"),
    (3, "*own monitor demonitor"),
    (2, "*demonitor-flush"),
    (8, "trap-exit on"),
    (1, "trap-exit off"),
    (3, "exit REASON"),
    (1, "crash"),
    (1, "return"),
    (6, "exit-process TARGET REASON"),
    (1, "exit-process SELF REASON"),
    (2, "*spawn"),
    (4, "*spawn link"),
    (4, "register NAME TARGET"),
    (1, "unregister NAME"),
    (2, "whereis NAME"),
    (1, "registered"),
    (4, "join GROUP TARGET"),
    (2, "*leave"),
    (1, "members GROUP"),
    (1, "which-groups"),
    (3, "monitor-group GROUP NEW"),
    (1, "*own monitor-group demonitor-group"),
    (2, "start-timer TO short TAG NEW"),
    (2, "start-timer TO long TAG NEW"),
    (2, "send-after TO short TAG N NEW"),
    (1, "send-after TO long TAG N NEW"),
    (2, "*own timer cancel"),
    (2, "*own timer read"),
    (1, "cancel-early TAG NEW"),
    (2, "is-alive TARGET"),
    (3, "info TARGET"),
    (1, "set-priority PRIORITY"),
    (2, "*suspend"),
    (2, "*resume"),
];
/// How often each other kind is tried.
const IDLE_WEIGHT: u64 = 1;
const BURST_WEIGHT: u64 = 10;

/// Generates the scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut random = Random(seed);
    let actors = random.within(ACTORS) as usize;
    let steps = random.within(STEPS);
    let mut generator = Generator {
        random,
        model: Model::new(actors),
        next_actor: actors,
        next_reference: 0,
        next_n: 1,
    };
    let mut groups = Vec::new();
    for _ in 0..steps {
        let group = generator.group();
        generator.model.perform(&group);
        groups.push(group);
    }
    Scenario {
        name: format!("seed-{seed}"),
        actors,
        groups,
    }
}

struct Generator {
    random: Random,
    model: Model,
    next_actor: usize,
    next_reference: usize,
    next_n: u32,
}

impl Generator {
    fn group(&mut self) -> Group {
        let kinds = KINDS.iter().map(|(weight, _)| weight).sum::<u64>();
        // If a kind finds no operands, try another kind.
        loop {
            let mut ticket = self.random.below(kinds + IDLE_WEIGHT + BURST_WEIGHT);
            let me = self.performer();
            let chosen = KINDS.iter().find(|(weight, _)| {
                let is_chosen = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                is_chosen
            });
            let step = match chosen {
                Some((_, kind)) => match kind.strip_prefix('*') {
                    Some(special) => self.special(me, special),
                    None => Some((me, self.filled_in(me, kind))),
                },
                None if ticket < IDLE_WEIGHT => {
                    Some((me, self.one_of(&["yield", "hibernate"]).to_owned()))
                }
                None => match self.burst() {
                    Some(steps) => return Group::Burst(steps),
                    None => None,
                },
            };
            if let Some((actor, step)) = step {
                return Group::One(format!("a{actor} {step}"));
            }
        }
    }

    /// Fills the operands into a step.
    fn filled_in(&mut self, me: usize, kind: &str) -> String {
        let words = kind.split(' ').map(|word| match word {
            "TARGET" => self.target(),
            "SELF" => format!("a{me}"),
            "TO" if self.random.below(5) == 0 => self.name(),
            "TO" => self.target(),
            "TAG" => self.tag().to_string(),
            "N" => self.n(1).to_string(),
            "N3" => self.n(3).to_string(),
            "NAME" => self.name(),
            "GROUP" => self.group_name(),
            "NEW" => self.new_reference(),
            "REASON" => self.one_of(&REASONS).to_owned(),
            "PRIORITY" => self.one_of(&PRIORITIES).to_owned(),
            word => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Makes a step whose kind chooses its actor or operands. Returns the actor and the step.
    fn special(&mut self, me: usize, kind: &str) -> Option<(usize, String)> {
        let words = kind.split(' ').collect::<Vec<_>>();
        match words.as_slice() {
            ["send"] => Some((me, self.send(me))),
            ["recv"] => Some((me, self.recv(me)?)),
            ["await"] => Some((me, self.await_event(me)?)),
            ["wake"] => Some((me, self.wake()?)),
            ["call"] => Some((me, self.call(me)?)),
            ["serve"] => self.serve(),
            ["reply"] => self.reply(me),
            ["answer"] => {
                let alias = self.reference("alias")?;
                Some((me, format!("answer r{alias} {} {}", self.tag(), self.n(1))))
            }
            ["own", made_for, operation] => self.own(me, made_for, operation),
            ["demonitor-flush"] => {
                let (owner, step) = self.own(me, "monitor", "demonitor")?;
                Some((owner, format!("{step} flush")))
            }
            ["unlink"] => Some((me, self.unlink(me)?)),
            ["spawn", options @ ..] => Some((me, self.spawn(options)?)),
            ["leave"] => Some((me, self.leave()?)),
            ["suspend"] => Some((me, self.suspend(me)?)),
            ["resume"] => self.resume(me),
            _ => unreachable!("the table has a kind `{kind}` that nobody makes"),
        }
    }

    fn actors(&self, holds: impl Fn(&Model, usize) -> bool) -> Vec<usize> {
        let labels = self.model.actors.keys().copied();
        labels.filter(|label| holds(&self.model, *label)).collect()
    }

    fn performer(&mut self) -> usize {
        let able = self.actors(Model::can_act);
        if able.is_empty() || self.random.below(20) == 0 {
            return self.random.below(self.next_actor as u64) as usize;
        }
        self.random.pick(&able)
    }

    /// An actor as a target; usually a living one.
    fn target(&mut self) -> String {
        let living = self.actors(Model::is_alive);
        if living.is_empty() || self.random.below(10) == 0 {
            return format!("a{}", self.random.below(self.next_actor as u64));
        }
        format!("a{}", self.random.pick(&living))
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.random.below(words.len() as u64) as usize]
    }

    fn tag(&mut self) -> u64 {
        1 + self.random.below(TAGS)
    }

    /// A name; usually one that an actor has.
    fn name(&mut self) -> String {
        let named = self
            .model
            .actors
            .values()
            .filter_map(|actor| actor.name.clone());
        let named = named.collect::<Vec<_>>();
        if !named.is_empty() && self.random.below(3) > 0 {
            return named[self.random.below(named.len() as u64) as usize].clone();
        }
        format!("n{}", self.random.below(NAMES))
    }

    fn group_name(&mut self) -> String {
        format!("g{}", self.random.below(GROUPS))
    }

    /// Reserves numbers for this many messages.
    fn n(&mut self, count: u32) -> u32 {
        self.next_n += count;
        self.next_n - count
    }

    fn new_reference(&mut self) -> String {
        self.next_reference += 1;
        format!("=r{}", self.next_reference)
    }

    /// A reference that was made for this use; usually one that is still in use.
    fn reference(&mut self, made_for: &str) -> Option<usize> {
        let careless = self.random.below(4) == 0;
        let references = self.model.references.iter();
        let fitting = references
            .filter(|(_, it)| it.made_for == made_for && (careless || it.used != Use::Over))
            .map(|(label, _)| *label)
            .collect::<Vec<_>>();
        (!fitting.is_empty()).then(|| self.random.pick(&fitting))
    }

    /// Makes a step on a reference that only its owner can use. Usually the owner performs it.
    fn own(&mut self, me: usize, made_for: &str, operation: &str) -> Option<(usize, String)> {
        let reference = self.reference(made_for)?;
        let owner = self.model.references[&reference].owner;
        let actor = if self.random.below(8) == 0 { me } else { owner };
        self.model
            .can_act(actor)
            .then(|| (actor, format!("{operation} r{reference}")))
    }

    fn send(&mut self, me: usize) -> String {
        let mut step = format!("send {} {} {}", self.target(), self.tag(), self.n(1));
        if self.random.below(5) == 0
            && let Some(own) = self.own_reference(me)
        {
            step += &format!(" r{own}");
        }
        step
    }

    /// Messages carry only references of their sender: a reply to a message with another actor's alias would go to the sender on
    /// Atoll.
    fn own_reference(&mut self, me: usize) -> Option<usize> {
        let own = self.model.references.iter();
        let own = own
            .filter(|(_, it)| it.owner == me)
            .map(|(label, _)| *label);
        let own = own.collect::<Vec<_>>();
        (!own.is_empty()).then(|| self.random.pick(&own))
    }

    fn selector(&mut self, me: usize) -> String {
        match self.random.below(8) {
            0 | 1 => "any".to_owned(),
            2 | 3 => format!("tag:{}", self.tag()),
            4 => format!("tags:{},{}", self.tag(), self.tag()),
            5 => {
                let kinds = ["message", "exit", "down", "timer", "group"];
                format!("kinds:{}", self.one_of(&kinds))
            }
            6 => "kinds:exit,down".to_owned(),
            _ => match self.own_reference(me) {
                Some(own) => format!("ref:r{own}"),
                None => "any".to_owned(),
            },
        }
    }

    /// Receives an event; usually one that is in the mailbox, and not always the first.
    fn recv(&mut self, me: usize) -> Option<String> {
        let mail = &self.model.actors.get(&me)?.mail;
        if mail.is_empty() {
            let try_anyway = self.random.below(8) == 0;
            return try_anyway.then(|| format!("recv {}", self.selector(me)));
        }
        if self.random.below(3) == 0 {
            return Some(format!("recv {}", self.selector(me)));
        }
        let mail = mail[self.random.below(mail.len() as u64) as usize].clone();
        Some(format!("recv {}", self.selector_of(&mail)))
    }

    fn selector_of(&mut self, mail: &Mail) -> String {
        match mail {
            Mail::Message {
                carried: Carried::Reference(label),
                ..
            } => format!("ref:r{label}"),
            Mail::Message { tag, .. } => format!("tag:{tag}"),
            Mail::Exit => "kinds:exit".to_owned(),
            Mail::Down(label) | Mail::Timer(label) | Mail::Group(label) => format!("ref:r{label}"),
        }
    }

    fn waiting(&self) -> Vec<usize> {
        self.actors(|model, label| model.is_alive(label) && model.actors[&label].wait.is_some())
    }

    /// May another actor start to wait? If all actors wait, nothing happens any more.
    fn may_wait(&self) -> bool {
        let living = self.actors(Model::is_alive).len();
        self.waiting().len() * 2 < living
    }

    fn await_event(&mut self, me: usize) -> Option<String> {
        let time = self.one_of(&["forever", "forever", "long", "short"]);
        if time != "short" && !self.may_wait() {
            return None;
        }
        Some(format!("await {} {time}", self.selector(me)))
    }

    /// Sends a message to a waiting actor; one that it waits for, if it waits for messages.
    fn wake(&mut self) -> Option<String> {
        let waiting = self.waiting();
        if waiting.is_empty() {
            return None;
        }
        let label = self.random.pick(&waiting);
        let tag = match &self.model.actors[&label].wait {
            Some(Wait::Event(selector)) => {
                let digits = selector.rsplit([':', ',']).next();
                digits.and_then(|word| word.parse().ok())
            }
            _ => None,
        };
        let tag = tag.unwrap_or_else(|| self.tag());
        Some(format!("send a{label} {tag} {}", self.n(1)))
    }

    fn call(&mut self, me: usize) -> Option<String> {
        let time = self.one_of(&["forever", "forever", "long", "short"]);
        if time != "short" && !self.may_wait() {
            return None;
        }
        let mut target = self.target();
        if self.random.below(5) == 0 {
            target = self.name();
        }
        // A process that calls itself waits for ever.
        let calls_itself = target == format!("a{me}") || self.model.named(&target) == Some(me);
        if calls_itself && time != "short" {
            return None;
        }
        Some(format!("call {target} {} {} {time}", self.tag(), self.n(1)))
    }

    /// Makes an actor receive a request.
    fn serve(&mut self) -> Option<(usize, String)> {
        let request = |mail: &Mail| match mail {
            Mail::Message {
                tag,
                carried: Carried::Request(_),
                ..
            } => Some(*tag),
            _ => None,
        };
        let servers = self.actors(|model, label| {
            model.can_act(label)
                && model.actors[&label]
                    .mail
                    .iter()
                    .any(|it| request(it).is_some())
        });
        let server = (!servers.is_empty()).then(|| self.random.pick(&servers))?;
        let tag = self.model.actors[&server].mail.iter().find_map(request)?;
        Some((server, format!("recv tag:{tag}")))
    }

    fn reply(&mut self, me: usize) -> Option<(usize, String)> {
        let servers = self.actors(|model, label| {
            model.can_act(label) && !model.actors[&label].requests.is_empty()
        });
        if servers.is_empty() || self.random.below(10) == 0 {
            let try_anyway = self.random.below(10) == 0;
            return try_anyway.then(|| {
                (
                    me,
                    format!("reply {} {} {}", self.target(), self.tag(), self.n(1)),
                )
            });
        }
        let server = self.random.pick(&servers);
        let client = self.model.actors[&server].requests[0].0;
        let twice = self.one_of(&["", "", " twice"]);
        let step = format!("reply a{client} {} {}{twice}", self.tag(), self.n(1));
        Some((server, step))
    }

    fn unlink(&mut self, me: usize) -> Option<String> {
        let links = self
            .model
            .actors
            .get(&me)?
            .links
            .iter()
            .copied()
            .collect::<Vec<_>>();
        if links.is_empty() {
            return Some(format!("unlink {}", self.target()));
        }
        Some(format!("unlink a{}", self.random.pick(&links)))
    }

    fn spawn(&mut self, options: &[&str]) -> Option<String> {
        if self.next_actor == ACTORS_MAX {
            return None;
        }
        let mut step = format!("spawn =a{}", self.next_actor);
        self.next_actor += 1;
        for option in options {
            step += &format!(" {option}");
        }
        if self.random.below(2) == 0 {
            step += &format!(" monitor {}", self.new_reference());
        }
        if self.random.below(4) == 0 {
            step += &format!(" name {}", self.name());
        }
        if self.random.below(4) == 0 {
            step += &format!(" priority {}", self.one_of(&PRIORITIES));
        }
        Some(step)
    }

    fn leave(&mut self) -> Option<String> {
        let group = self.group_name();
        let members = self.model.groups.get(&group).cloned().unwrap_or_default();
        if members.is_empty() {
            let try_anyway = self.random.below(8) == 0;
            return try_anyway.then(|| format!("leave {group} {}", self.target()));
        }
        Some(format!("leave {group} a{}", self.random.pick(&members)))
    }

    fn suspend(&mut self, me: usize) -> Option<String> {
        // Don't suspend an actor that waits in a call: it is not determined whether an answer counts as waiting in its mailbox.
        let calls =
            |model: &Model, label| matches!(model.actors[&label].wait, Some(Wait::Call { .. }));
        let targets = self.actors(|model, label| !calls(model, label));
        let others = self.actors(|model, label| model.can_act(label) && label != me);
        if targets.is_empty() || others.len() < 2 {
            return None;
        }
        Some(format!("suspend a{}", self.random.pick(&targets)))
    }

    fn resume(&mut self, me: usize) -> Option<(usize, String)> {
        let suspended = self.actors(|model, label| !model.actors[&label].suspended_by.is_empty());
        if suspended.is_empty() {
            let try_anyway = self.random.below(8) == 0;
            return try_anyway.then(|| (me, format!("resume {}", self.target())));
        }
        let suspended = self.random.pick(&suspended);
        let by = self.model.actors[&suspended].suspended_by[0];
        Some((by, format!("resume a{suspended}")))
    }

    /// A burst whose outcome is determined: sends, joins and timers; or ends for the same reason.
    fn burst(&mut self) -> Option<Vec<String>> {
        let mut able = self.actors(Model::can_act);
        self.random.shuffle(&mut able);
        let count = 2 + self.random.below(4) as usize;
        able.truncate(count);
        if able.len() < 2 {
            return None;
        }
        if self.random.below(4) == 0 {
            return self.deadly_burst(&able);
        }
        let steps = able.iter().map(|me| {
            let step = match self.random.below(10) {
                0..5 => format!("send {} {} {}", self.target(), self.tag(), self.n(1)),
                5..7 => format!("send-many {} {} {} 3", self.target(), self.tag(), self.n(3)),
                7 => format!("send-name {} {} {}", self.name(), self.tag(), self.n(1)),
                8 => format!("join {} a{me}", self.group_name()),
                _ => {
                    let (target, tag) = (self.target(), self.tag());
                    format!("start-timer {target} short {tag} {}", self.new_reference())
                }
            };
            format!("a{me} {step}")
        });
        Some(steps.collect())
    }

    /// A burst of ends. The sender of an exit signal must not be ended by the burst itself, because it might end before or after
    /// sending.
    fn deadly_burst(&mut self, able: &[usize]) -> Option<Vec<String>> {
        let kills = self.random.below(2) == 0;
        let reasons = REASONS
            .iter()
            .filter(|reason| !["normal", "kill"].contains(reason));
        let reasons = reasons.copied().collect::<Vec<_>>();
        let reason = if kills { "kill" } else { self.one_of(&reasons) };
        let mut steps = Vec::new();
        let mut ended = Vec::new();
        let mut senders = Vec::new();
        for me in able {
            if !kills && self.random.below(2) == 0 {
                ended.push(*me);
                steps.push(format!("a{me} exit {reason}"));
            } else {
                let living = self.actors(Model::is_alive);
                let target = self.random.pick(&living);
                ended.push(target);
                senders.push(*me);
                steps.push(format!("a{me} exit-process a{target} {reason}"));
            }
        }
        let ended = self.model.ends_with(ended);
        senders
            .iter()
            .all(|sender| !ended.contains(sender))
            .then_some(steps)
    }
}

/// A generator of random numbers: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a small bound.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn within(&mut self, range: std::ops::RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_valid_scenario() {
        for seed in 0..200 {
            let text = scenario(seed).to_string();
            assert_eq!(text, scenario(seed).to_string());
            let lines = text.lines().skip(1).filter(|line| *line != "end");
            let lines = lines.collect::<Vec<_>>().join("\n");
            assert_eq!(
                Scenario::parse(&format!("seed-{seed}"), &lines).unwrap(),
                scenario(seed)
            );
        }
    }
}
