//! Timers: the cost of setting one, and how late they fire.

use std::time::Duration;

use atoll_guest::{Selector, receive, receive_event, self_pid, send_after, time};

use crate::{Argument, Outcome, numbers, report, timed};

/// The shortest and the longest delay of a timer, in milliseconds.
const DELAYS_MS: std::ops::RangeInclusive<u64> = 100..=599;

/// Sets n timers as fast as it can. Then it receives their messages, each of which holds the time when its timer was due.
pub fn timers(argument: Argument) -> Outcome {
    let [n, _] = numbers(&argument);
    let delays_ms = delays_ms(n);
    let me = self_pid();
    let elapsed_ns = timed(|| {
        for &delay_ms in &delays_ms {
            let due_ns = time::now_ns() + delay_ms * 1_000_000;
            send_after(Duration::from_millis(delay_ms), me, &due_ns);
        }
        Ok(())
    })?;
    let mut late_ns = Vec::with_capacity(delays_ms.len());
    for _ in 0..n {
        let due_ns = receive::<u64>()?.message;
        // A timer that fires early is a defect. Then the subtraction wraps and shows a figure of many years.
        late_ns.push(time::now_ns().wrapping_sub(due_ns));
    }
    report(&argument, elapsed_ns, &late_ns);
    Ok(())
}

/// Makes the same delays in every run, in no order.
fn delays_ms(count: u32) -> Vec<u64> {
    let (first, span) = (*DELAYS_MS.start(), DELAYS_MS.end() - DELAYS_MS.start() + 1);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // Marsaglia's xorshift64: good enough to spread timers.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        first + state % span
    };
    (0..count).map(|_| next()).collect()
}

/// Waits n times for a message that never comes.
pub fn receive_after(argument: Argument) -> Outcome {
    let [n, m] = numbers(&argument);
    let timeout = Duration::from_millis(m.into());
    let mut took_ns = Vec::with_capacity(n as usize);
    let elapsed_ns = timed(|| {
        for _ in 0..n {
            let start_ns = time::now_ns();
            receive_event(&Selector::Any, Some(timeout));
            took_ns.push(time::now_ns() - start_ns);
        }
        Ok(())
    })?;
    report(&argument, elapsed_ns, &took_ns);
    Ok(())
}
