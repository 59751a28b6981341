//! A crowd of hibernated processes, and the process that spawns and wakes it. In between that process waits for the host,
//! which measures the memory.

use atoll_guest::{Envelope, Event, Pid, Selector, Spawn, receive_event, self_pid, send_bytes};

use crate::{Argument, Outcome, numbers, report, timed};

/// The tag of the message that wakes a member of the crowd. The member sends it back.
const WAKE: u32 = 4;

pub fn crowd(argument: Argument) -> Outcome {
    let [members, woken_at_once] = numbers(&argument);
    let Ok(program) = String::from_utf8(from_host()) else {
        panic!("a program's name is text");
    };
    // Allocated at the start, so that it does not count as memory of the crowd.
    let mut crowd = vec![self_pid(); members as usize];
    report(&argument, 0, &[]);

    from_host();
    let spawn = Spawn::new().program(program);
    let spawned_ns = timed(|| {
        for member in &mut crowd {
            *member = spawn.named_bytes("echo", &[])?;
        }
        Ok(())
    })?;
    report(&argument, spawned_ns, &[]);

    from_host();
    let woken_ns = timed(|| {
        for (chunk, first) in crowd
            .chunks(woken_at_once as usize)
            .zip((0..).step_by(woken_at_once as usize))
        {
            wake(chunk, first);
        }
        Ok(())
    })?;
    report(&argument, woken_ns, &[]);
    Ok(())
}

/// Sends each member its number, receives all answers, and checks that they are those numbers.
fn wake(members: &[Pid], first: u32) {
    for (member, number) in members.iter().zip(first..) {
        send_bytes(*member, Envelope::tagged(WAKE), &number.to_le_bytes());
    }
    let mut has_answered = vec![false; members.len()];
    for _ in members {
        let Some(Event::Message(answer)) = receive_event(&Selector::Tag(WAKE), None) else {
            panic!("a member's answer is no message");
        };
        let number = answer.payload.as_slice().try_into().map(u32::from_le_bytes);
        let Ok(number) = number else {
            panic!("a member sends back the number that it was sent");
        };
        let index = number.wrapping_sub(first) as usize;
        assert!(members.get(index) == Some(&answer.sender), "{number}");
        assert!(
            !std::mem::replace(&mut has_answered[index], true),
            "{number}"
        );
    }
}

/// Waits for the host.
fn from_host() -> Vec<u8> {
    match receive_event(&Selector::Any, None) {
        Some(Event::Message(message)) => message.payload,
        _ => panic!("expected the host's message"),
    }
}
