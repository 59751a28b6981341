//! An actor performs one step after another. Messages of other actors stay in its mailbox until a step takes them.

use std::time::Duration;

use atoll_guest::inspect::{self, ProcessInfo};
use atoll_guest::{
    CallError, Envelope, Event, Pid, Priority, Reference, RegisterError, Selector, Spawn,
    SpawnError, debug, groups,
};

use crate::tags;
use crate::words::{
    content_words, destination, event_words, events_words, number, pid, pid_word, reason,
    reason_word, reference, reference_word, selector, set_words, timeout,
};

/// The delay of a timer that is cancelled in time.
const SOON: Duration = Duration::from_millis(10);
/// How long to wait between two polls for changes that send no message.
const LOOKS_APART: Duration = Duration::from_millis(1);

/// The state of an actor.
struct Actor {
    conductor: Pid,
    /// The requests that the actor has taken and not answered, the oldest first.
    requests: Vec<(Pid, Reference)>,
}

/// How a step ended.
enum Done {
    /// The step has this result.
    Said(String),
    /// The step has this result, and the actor gave something a label.
    Made(String, Vec<(String, String)>),
    /// The actor's function returns.
    Return,
}

/// The function of an actor.
pub fn run((node, id): (u64, u64)) {
    let mut actor = Actor {
        conductor: Pid { node, id },
        requests: Vec::new(),
    };
    let commands = Selector::Tags(vec![tags::COMMAND, tags::PING]);
    loop {
        let Some(Event::Message(message)) = atoll_guest::receive_event(&commands, None) else {
            continue;
        };
        if message.tag == tags::PING {
            actor.tell(tags::PONG, &message.payload);
            continue;
        }
        let command = String::from_utf8_lossy(&message.payload).into_owned();
        let words = command.split(' ').collect::<Vec<_>>();
        let mut answer = match actor.perform(words[0], &words[1..]) {
            Done::Return => return,
            Done::Said(result) => result,
            Done::Made(result, bindings) => bindings.iter().fold(result, |text, (label, word)| {
                format!("{text}\n{label} {word}")
            }),
        };
        if answer.is_empty() {
            answer.push_str("ok");
        }
        actor.tell(tags::ACK, answer.as_bytes());
    }
}

/// The result of a step that returns nothing.
fn ok() -> Done {
    Done::Said("ok".to_owned())
}

fn said(value: impl ToString) -> Done {
    Done::Said(value.to_string())
}

fn some_or_none(word: Option<String>) -> Done {
    Done::Said(word.unwrap_or_else(|| "none".to_owned()))
}

fn made(new: &str, word: String) -> Done {
    Done::Made("ok".to_owned(), vec![(label(new), word)])
}

/// The label in a word like `=r3`.
fn label(new: &str) -> String {
    new.trim_start_matches('=').to_owned()
}

fn process(word: &str) -> Pid {
    pid(word).unwrap_or_else(|| panic!("`{word}` is no process"))
}

fn refer(word: &str) -> Reference {
    reference(word).unwrap_or_else(|| panic!("`{word}` is no reference"))
}

fn activity(time_left: Option<Duration>) -> Done {
    Done::Said(
        if time_left.is_some() {
            "active"
        } else {
            "gone"
        }
        .to_owned(),
    )
}

fn priority(word: &str) -> Priority {
    match word {
        "low" => Priority::Low,
        "high" => Priority::High,
        _ => Priority::Normal,
    }
}

impl Actor {
    fn tell(&self, tag: u32, text: &[u8]) {
        atoll_guest::send_bytes(self.conductor, Envelope::tagged(tag), text);
    }

    fn perform(&mut self, operation: &str, operands: &[&str]) -> Done {
        perform_sending(operation, operands)
            .or_else(|| self.perform_receiving(operation, operands))
            .or_else(|| self.perform_asking(operation, operands))
            .or_else(|| self.perform_on_process(operation, operands))
            .or_else(|| perform_on_registries(operation, operands))
            .or_else(|| perform_on_timers(operation, operands))
            .unwrap_or_else(|| panic!("there is no step `{operation}`"))
    }

    /// Performs the steps that receive.
    fn perform_receiving(&mut self, operation: &str, operands: &[&str]) -> Option<Done> {
        Some(match (operation, operands) {
            ("recv", [wanted]) => {
                let event = self.take(&selector(wanted), Some(Duration::ZERO));
                some_or_none(event.as_ref().map(event_words))
            }
            ("drain", []) => {
                let take_next = || self.take(&Selector::Any, Some(Duration::ZERO));
                Done::Said(events_words(
                    &std::iter::from_fn(take_next).collect::<Vec<_>>(),
                ))
            }
            ("await", [wanted, time]) => {
                self.tell(tags::BEGUN, &[]);
                let event = self.take(&selector(wanted), timeout(time));
                Done::Said(event.map_or("timeout".to_owned(), |event| event_words(&event)))
            }
            _ => return None,
        })
    }

    /// Performs the steps that make requests and answer them.
    fn perform_asking(&mut self, operation: &str, operands: &[&str]) -> Option<Done> {
        Some(match (operation, operands) {
            ("make-ref", [new]) => made(new, reference_word(atoll_guest::make_reference())),
            ("call", [to, tag, n, time]) => {
                self.tell(tags::BEGUN, &[]);
                let to = destination(to);
                match atoll_guest::call_raw(to, number(tag), n.as_bytes(), timeout(time)) {
                    Ok(reply) => {
                        let sender = pid_word(reply.sender);
                        Done::Said(format!("reply {sender} {}", content_words(&reply)))
                    }
                    Err(CallError::Down(reason)) => said(format!("down {}", reason_word(&reason))),
                    Err(_) => said("timeout"),
                }
            }
            ("reply", [to, tag, n, twice @ ..]) => {
                let to = process(to);
                match self.requests.iter().position(|(sender, _)| *sender == to) {
                    None => said("none"),
                    Some(index) => {
                        let (_, request) = self.requests.remove(index);
                        for _ in 0..=twice.len() {
                            atoll_guest::reply_raw(to, request, number(tag), n.as_bytes());
                        }
                        ok()
                    }
                }
            }
            ("alias", [new]) => made(new, reference_word(atoll_guest::alias())),
            ("unalias", [alias]) => said(atoll_guest::unalias(refer(alias))),
            ("answer", [alias, tag, n, owner]) => {
                atoll_guest::reply_raw(process(owner), refer(alias), number(tag), n.as_bytes());
                ok()
            }
            _ => return None,
        })
    }

    /// Takes an event. If it is a message with a reference, the actor remembers it, because it may be a request.
    fn take(&mut self, wanted: &Selector, timeout: Option<Duration>) -> Option<Event> {
        let event = atoll_guest::receive_event(wanted, timeout)?;
        if let Event::Message(message) = &event
            && let Some(reference) = message.reference
        {
            self.requests.push((message.sender, reference));
        }
        Some(event)
    }

    /// Performs the steps that end, link and monitor.
    fn perform_on_process(&self, operation: &str, operands: &[&str]) -> Option<Done> {
        Some(match (operation, operands) {
            ("return", []) => Done::Return,
            ("crash", []) => core::arch::wasm32::unreachable(),
            ("exit", [why]) => atoll_guest::exit(reason(why)),
            ("exit-process", [target, why]) => {
                atoll_guest::exit_process(process(target), reason(why));
                ok()
            }
            ("trap-exit", [wanted]) => said(atoll_guest::trap_exit(*wanted == "on")),
            ("link", [target]) => {
                atoll_guest::link(process(target));
                ok()
            }
            ("unlink", [target]) => {
                atoll_guest::unlink(process(target));
                ok()
            }
            ("monitor", [target, new]) => made(
                new,
                reference_word(atoll_guest::monitor(destination(target))),
            ),
            ("demonitor", [monitor]) => said(atoll_guest::demonitor(refer(monitor))),
            ("demonitor", [monitor, "flush"]) => said(atoll_guest::demonitor_flush(refer(monitor))),
            ("spawn", [new, options @ ..]) => self.spawn(new, options),
            ("set-priority", [wanted]) => said(atoll_guest::set_priority(priority(wanted))),
            ("is-alive", [target]) => said(atoll_guest::is_alive(process(target))),
            ("info", [target, calls]) => {
                let info = inspect::info(process(target));
                some_or_none(info.map(|info| info_words(&info, *calls == "calls")))
            }
            ("suspend", [target]) => said(debug::suspend(process(target))),
            ("resume", [target]) => said(debug::resume(process(target))),
            ("yield", []) => {
                atoll_guest::yield_now();
                ok()
            }
            ("hibernate", []) => {
                atoll_guest::hibernate();
                ok()
            }
            _ => return None,
        })
    }

    fn spawn(&self, new: &str, options: &[&str]) -> Done {
        let mut spawn = Spawn::new();
        let mut bindings = Vec::new();
        let mut words = options.iter();
        while let Some(option) = words.next() {
            let mut operand = || *words.next().expect("the option has an operand");
            spawn = match *option {
                "link" => spawn.link(),
                "monitor" => {
                    let monitor = atoll_guest::make_reference();
                    bindings.push((label(operand()), reference_word(monitor)));
                    spawn.monitor(monitor)
                }
                "name" => spawn.name(operand()),
                "priority" => spawn.priority(priority(operand())),
                other => panic!("there is no option `{other}`"),
            };
        }
        let conductor = (self.conductor.node, self.conductor.id);
        match spawn.function(run, conductor) {
            Ok(child) => {
                bindings.push((label(new), pid_word(child)));
                Done::Made("ok".to_owned(), bindings)
            }
            Err(SpawnError::NameTaken) => said("name-taken"),
            Err(error) => said(error),
        }
    }
}

/// Performs the steps that send.
fn perform_sending(operation: &str, operands: &[&str]) -> Option<Done> {
    Some(match (operation, operands) {
        ("send", [to, tag, n, rest @ ..]) => {
            let envelope = Envelope {
                reference: rest.first().map(|word| refer(word)),
                ..Envelope::tagged(number(tag))
            };
            atoll_guest::send_bytes(process(to), envelope, n.as_bytes());
            ok()
        }
        ("send-many", [to, tag, first, count]) => {
            for n in (number(first)..).take(number(count) as usize) {
                let envelope = Envelope::tagged(number(tag));
                atoll_guest::send_bytes(process(to), envelope, n.to_string().as_bytes());
            }
            ok()
        }
        ("send-name", [name, tag, n]) => {
            let envelope = Envelope::tagged(number(tag));
            said(atoll_guest::send_named_bytes(name, envelope, n.as_bytes()))
        }
        _ => return None,
    })
}

/// Performs the steps for names and groups.
fn perform_on_registries(operation: &str, operands: &[&str]) -> Option<Done> {
    Some(match (operation, operands) {
        ("register", [name, target]) => said(match atoll_guest::register(name, process(target)) {
            Ok(()) => "ok",
            Err(RegisterError::Taken) => "taken",
            Err(RegisterError::AlreadyNamed) => "already-named",
            Err(RegisterError::Noproc) => "noproc",
            Err(_) => "refused",
        }),
        ("unregister", [name]) => said(atoll_guest::unregister(name)),
        ("whereis", [name]) => some_or_none(atoll_guest::whereis(name).map(pid_word)),
        ("registered", []) => Done::Said(set_words(atoll_guest::registered())),
        ("join", [group, member]) => said(match groups::join(group, process(member)) {
            Ok(()) => "ok",
            Err(groups::JoinError::Noproc) => "noproc",
            Err(_) => "refused",
        }),
        ("leave", [group, member]) => said(groups::leave(group, process(member))),
        ("members", [group]) => {
            Done::Said(set_words(groups::members(group).into_iter().map(pid_word)))
        }
        ("which-groups", []) => Done::Said(set_words(groups::which_groups())),
        ("monitor-group", [group, new]) => {
            let monitored = groups::monitor(group);
            let members = set_words(monitored.members.into_iter().map(pid_word));
            Done::Made(
                members,
                vec![(label(new), reference_word(monitored.monitor))],
            )
        }
        ("demonitor-group", [monitor]) => said(groups::demonitor(refer(monitor))),
        _ => return None,
    })
}

fn perform_on_timers(operation: &str, operands: &[&str]) -> Option<Done> {
    Some(match (operation, operands) {
        ("start-timer", [to, delay, tag, new]) => {
            let time = timeout(delay).expect("a timer has a delay");
            let timer = atoll_guest::start_timer(time, destination(to), number(tag));
            started(timer, delay, new)
        }
        ("send-after", [to, delay, tag, n, new]) => {
            let time = timeout(delay).expect("a timer has a delay");
            let envelope = Envelope::tagged(number(tag));
            let timer =
                atoll_guest::send_after_bytes(time, destination(to), envelope, n.as_bytes());
            started(timer, delay, new)
        }
        ("cancel-early", [tag, new]) => made(new, reference_word(cancel_early(number(tag)))),
        ("cancel", [timer]) => activity(atoll_guest::cancel_timer(refer(timer))),
        ("read", [timer]) => activity(atoll_guest::read_timer(refer(timer))),
        _ => return None,
    })
}

/// Cancels a timer before it fires, and waits until its time is over. If the timer was faster than this process, the actor
/// receives its message.
fn cancel_early(tag: u32) -> Reference {
    loop {
        let timer = atoll_guest::start_timer(SOON, atoll_guest::self_pid(), tag);
        if atoll_guest::cancel_timer(timer).is_some() {
            atoll_guest::sleep(SOON + LOOKS_APART);
            return timer;
        }
        atoll_guest::receive_timer(timer, None);
    }
}

/// Waits for a short timer to fire. No signal tells when a timer has sent its message to another process.
fn started(timer: Reference, delay: &str, new: &str) -> Done {
    while delay == "short" && atoll_guest::read_timer(timer).is_some() {
        atoll_guest::sleep(LOOKS_APART);
    }
    made(new, reference_word(timer))
}

/// Inspects a process. While calls are under way, links and monitors are not compared.
fn info_words(info: &ProcessInfo, calls: bool) -> String {
    let pids = |pids: &[Pid]| set_words(pids.iter().copied().map(pid_word));
    let watching = if calls {
        String::new()
    } else {
        let targets = info.monitors.iter().map(|target| match target {
            atoll_guest::Destination::Process(pid) => pid_word(*pid),
            atoll_guest::Destination::Name(name) => name.clone(),
        });
        format!(
            " monitors {} monitored-by {}",
            set_words(targets),
            pids(&info.monitored_by)
        )
    };
    format!(
        "{} trap {} priority {} name {} queue {} links {}{watching}",
        info.status,
        info.trap_exit,
        info.priority,
        info.name.as_deref().unwrap_or("-"),
        info.mailbox_events,
        pids(&info.links),
    )
}
