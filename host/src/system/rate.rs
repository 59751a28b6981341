//! The rates of a domain: how much of a core its processes may use together, and the processes that wait for more; and
//! how fast they may write.
//!
//! A turn that is over is paid out of a credit, which grows with the time. A domain in debt gets no turn until it has
//! saved half of its largest credit: so its turns come in a row, and few alarms are needed. Processes that wait stand
//! in one queue, and one alarm serves all of them: a crowd of waiting processes costs the others nothing.

use crate::process::Pid;
use crate::scheduler::TimerKey;
use std::collections::VecDeque;

/// The time whose share of a core a domain can save up.
const PERIOD_NS: u64 = 10_000_000;

/// Parts of a nanosecond in which credit is counted: a rate is in thousandths of a core.
const PARTS: i64 = 1000;

/// See the top of the file.
pub(super) struct Rate {
    /// Thousandths of a core.
    thousandths: u32,
    /// Time that the domain may use, in thousandths of nanoseconds. Below zero it is in debt.
    credit: i64,
    /// When the credit was last brought up to date.
    as_of_ns: u64,
    /// The domain has been in debt, and waits until it has saved enough.
    is_saving: bool,
    waiting: VecDeque<Pid>,
    /// An alarm is armed that lets waiting processes go on.
    is_armed: bool,
    /// The last alarm that was armed.
    alarm: Option<TimerKey>,
}

/// The answer to a process that wants its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    Granted,
    /// The process stands in the queue. If there is a time, the caller arms an alarm for it.
    Queued(Option<u64>),
}

impl Rate {
    pub(super) fn new(thousandths: u32, now_ns: u64) -> Rate {
        let mut rate = Rate {
            thousandths: thousandths.max(1),
            credit: 0,
            as_of_ns: now_ns,
            is_saving: false,
            waiting: VecDeque::new(),
            is_armed: false,
            alarm: None,
        };
        rate.credit = rate.credit_max();
        rate
    }

    pub(super) fn thousandths(&self) -> u32 {
        self.thousandths
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn credit_max(&self) -> i64 {
        i64::try_from(PERIOD_NS).unwrap_or(i64::MAX) * i64::from(self.thousandths)
    }

    fn update(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.as_of_ns);
        self.as_of_ns = self.as_of_ns.max(now_ns);
        let earned = i64::try_from(passed_ns)
            .unwrap_or(i64::MAX)
            .saturating_mul(i64::from(self.thousandths));
        self.credit = self.credit.saturating_add(earned).min(self.credit_max());
        if self.credit >= self.credit_max() / 2 {
            self.is_saving = false;
        }
    }

    /// When the domain will have saved enough.
    fn saved_at(&self) -> u64 {
        let missing = (self.credit_max() / 2).saturating_sub(self.credit).max(0);
        let wait_ns = missing.unsigned_abs() / u64::from(self.thousandths) + 1;
        self.as_of_ns.saturating_add(wait_ns)
    }

    /// Grants a process its turn, or puts it into the queue.
    pub(super) fn ask(&mut self, process: Pid, now_ns: u64) -> Turn {
        self.update(now_ns);
        if !self.is_saving {
            return Turn::Granted;
        }
        self.waiting.push_back(process);
        Turn::Queued(self.arm())
    }

    /// Pays for a turn. Returns a process that waits, if one can go on now.
    pub(super) fn pay(&mut self, used_ns: u64, now_ns: u64) -> Option<Pid> {
        self.update(now_ns);
        let used = i64::try_from(used_ns)
            .unwrap_or(i64::MAX)
            .saturating_mul(PARTS);
        self.credit = self.credit.saturating_sub(used);
        if self.credit < 0 {
            self.is_saving = true;
        }
        self.next()
    }

    /// The next process that waits, if there is credit for it.
    pub(super) fn next(&mut self) -> Option<Pid> {
        match self.is_saving {
            true => None,
            false => self.waiting.pop_front(),
        }
    }

    /// The alarm has gone off. Returns whether processes can go on.
    pub(super) fn alarm(&mut self, now_ns: u64) -> bool {
        self.is_armed = false;
        self.update(now_ns);
        !self.is_saving
    }

    /// Notes the alarm that the caller has armed, under the lock that guards this.
    pub(super) fn has_armed(&mut self, alarm: TimerKey) {
        self.alarm = Some(alarm);
    }

    /// The alarm that is still armed, if one is: nobody waits for it any more.
    pub(super) fn take_alarm(&mut self) -> Option<TimerKey> {
        self.alarm.take().filter(|_| self.is_armed)
    }

    /// The time of the alarm that has to be armed, if processes wait and none is armed. If they can go on already, it
    /// is that of the next look: a process that was to let the next one go on may have been killed.
    pub(super) fn arm(&mut self) -> Option<u64> {
        if self.waiting.is_empty() || self.is_armed {
            return None;
        }
        self.is_armed = true;
        Some(match self.is_saving {
            true => self.saved_at(),
            false => self.as_of_ns.saturating_add(PERIOD_NS),
        })
    }
}

/// The pace of output: so many bytes a second, with a second's worth at once.
pub(super) struct Pace {
    bytes_a_second: u64,
    /// When everything that was written so far would have been written at this pace.
    done_at_ns: u64,
}

/// The time whose output may be written at once.
const AHEAD_NS: u64 = 1_000_000_000;

impl Pace {
    pub(super) fn new(bytes_a_second: u64) -> Pace {
        Pace {
            bytes_a_second: bytes_a_second.max(1),
            done_at_ns: 0,
        }
    }

    /// Notes a write, and returns how long the writer has to wait before it.
    pub(super) fn delay_ns(&mut self, bytes: u64, now_ns: u64) -> u64 {
        let takes_ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_a_second);
        let takes_ns = u64::try_from(takes_ns).unwrap_or(u64::MAX);
        self.done_at_ns = self.done_at_ns.max(now_ns).saturating_add(takes_ns);
        self.done_at_ns
            .saturating_sub(now_ns.saturating_add(AHEAD_NS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(id: u64) -> Pid {
        Pid { node: 1, id }
    }

    #[test]
    fn a_domain_in_debt_waits_until_it_has_saved_half_of_its_credit() {
        // A tenth of a core: a credit of 1 ms at most.
        let mut rate = Rate::new(100, 0);
        assert_eq!(rate.ask(pid(1), 0), Turn::Granted);
        assert_eq!(rate.pay(900_000, 0), None);
        assert_eq!(rate.ask(pid(1), 0), Turn::Granted);
        assert_eq!(rate.pay(200_000, 0), None);
        // It lacks 0.1 ms, and 0.5 ms to go on: 6 ms of time.
        let Turn::Queued(Some(at_ns)) = rate.ask(pid(1), 0) else {
            panic!("it is in debt")
        };
        assert_eq!(at_ns / 1000, 6000);
        assert_eq!(rate.ask(pid(2), 0), Turn::Queued(None));
        assert!(!rate.alarm(at_ns / 2));
        assert!(
            rate.arm()
                .is_some_and(|again_ns| again_ns.abs_diff(at_ns) <= 1)
        );
        assert!(rate.alarm(at_ns));
        assert_eq!(rate.next(), Some(pid(1)));
        assert_eq!(rate.pay(10, at_ns), Some(pid(2)));
        assert_eq!(rate.pay(10, at_ns), None);
        assert_eq!(rate.arm(), None);
    }

    #[test]
    fn time_that_was_not_used_is_saved_for_one_period_only() {
        let mut rate = Rate::new(1000, 0);
        let hour_ns = 3600 * 1_000_000_000;
        assert_eq!(rate.pay(0, hour_ns), None);
        assert_eq!(rate.pay(PERIOD_NS, hour_ns), None);
        assert_eq!(rate.ask(pid(1), hour_ns), Turn::Granted);
        rate.pay(1, hour_ns);
        assert_ne!(rate.ask(pid(1), hour_ns), Turn::Granted);
    }

    #[test]
    fn no_number_is_too_large() {
        let mut rate = Rate::new(u32::MAX, 0);
        rate.pay(u64::MAX, 5);
        assert_ne!(rate.ask(pid(1), 6), Turn::Granted);
        rate.update(u64::MAX);
        rate.update(0);
        assert!(rate.saved_at() >= u64::MAX - 1);
    }

    #[test]
    fn output_beyond_a_second_ahead_waits() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.delay_ns(1000, 0), 0);
        assert_eq!(pace.delay_ns(500, 0), AHEAD_NS / 2);
        assert_eq!(pace.delay_ns(500, 3 * AHEAD_NS), 0);
        assert!(pace.delay_ns(u64::MAX, 0) > 1 << 60);
    }
}
