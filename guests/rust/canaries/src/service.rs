//! A service and its clients, which also start timers, and children that end in a known way.

use std::error::Error;
use std::time::Duration;

use atoll_guest::{
    Destination, Envelope, Event, ExitReason, Pid, Received, Selector, call, exit, receive_down,
    receive_event, receive_timer, send_bytes, sleep, spawn_link, spawn_monitor, start_timer,
};

use crate::work::{Chance, LONG, digest, work};

/// The tag of messages of a burst, and the question that ends it.
const BURST: u32 = 0x7301;
const SUM_UP: &[u8] = b"sum up, please";

/// Asks its service, over and over, and does some more between the questions.
pub fn ask(seed: u64) {
    let service = spawn_link(serve, ()).expect("there is room for the service");
    let mut chance = Chance::new(seed);
    work(|_| {
        let length = chance.below(2000) as usize;
        let question = (chance.next(), chance.bytes(length));
        let (number, sum): (u64, u64) =
            call(service, &question, LONG).expect("the service answers");
        assert_eq!(
            number, !question.0,
            "the answer is that of another question"
        );
        assert_eq!(sum, digest(&question.1), "the question has changed");
        match chance.below(8) {
            0 => time(&mut chance),
            1 => see_one_end(&mut chance),
            2 => send_burst(&mut chance, service),
            _ => {}
        }
    });
}

fn serve(_: ()) -> Result<(), Box<dyn Error>> {
    // The sum of the digests of messages that nobody waits for an answer to.
    let mut sum = 0_u64;
    while let Some(Event::Message(message)) = receive_event(&Selector::Any, None) {
        if message.tag == BURST {
            sum = sum.wrapping_add(digest(&message.payload));
            continue;
        }
        let question = Received::<(u64, Vec<u8>)>::from_message(message)?;
        if question.message.1 == SUM_UP {
            question.reply(&(std::mem::take(&mut sum), 0_u64));
            continue;
        }
        let (number, bytes) = &question.message;
        question.reply(&(!number, digest(bytes)));
    }
    Err("something else than a message has come".into())
}

/// Sends long messages from the same memory, one right after the other, and asks for the sum of their digests.
fn send_burst(chance: &mut Chance, service: Pid) {
    let length = 33_000 + chance.below(10_000) as usize;
    let mut bytes = vec![0; length];
    let mut expected = 0_u64;
    for _ in 0..3 {
        bytes.fill(chance.next() as u8);
        expected = expected.wrapping_add(digest(&bytes));
        send_bytes(service, Envelope::tagged(BURST), &bytes);
    }
    bytes.fill(0);
    let question = (0_u64, SUM_UP.to_vec());
    let (sum, _): (u64, u64) = call(service, &question, LONG).expect("the service sums up");
    assert_eq!(sum, expected, "a long message has changed or is lost");
}

fn time(chance: &mut Chance) {
    let tag = chance.next() as u32;
    let delay = Duration::from_millis(chance.below(3));
    let timer = start_timer(delay, atoll_guest::self_pid(), tag);
    let signal = receive_timer(timer, Some(LONG)).expect("the timer goes off");
    assert_eq!(signal.tag, tag, "the timer's tag has changed");
}

fn see_one_end(chance: &mut Chance) {
    let number = chance.next();
    // Attackers may take all processes that a system can have.
    let Ok((child, monitor)) = spawn_monitor(end, number) else {
        return sleep(Duration::from_millis(1));
    };
    let down = receive_down(monitor, Some(LONG)).expect("the child's end is told");
    assert!(
        down.target == Destination::Process(child),
        "another process's end is told"
    );
    let expected = ExitReason::Other(number.to_le_bytes().to_vec());
    assert!(
        down.reason == expected,
        "the child has ended: {}",
        down.reason
    );
}

fn end(number: u64) {
    exit(ExitReason::Other(number.to_le_bytes().to_vec()));
}
