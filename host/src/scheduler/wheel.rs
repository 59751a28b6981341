//! The hierarchical timer wheel: a million deadlines, each armed and cancelled in constant time.
//!
//! ```text
//!              level 0: 64 slots    level 1: 64 slots         level 7: 64 slots
//!              of 65 µs             of 4.2 ms                 of 9.1 years
//!              ┌─┬─┬─┬─┬─┬─┐        ┌─┬─┬─┬─┬─┬─┐             ┌─┬─┬─┬─┬─┬─┐
//!  imminent ◄─ └─┴─┴─┴─┴─┴─┘ ◄───── └─┴─┴─┴─┴─┴─┘ ◄── … ◄──── └─┴─┴─┴─┴─┴─┘
//!  (a heap, to              a slot's timers move on when time enters the slot
//!  the nanosecond)
//! ```
//!
//! Time is cut into ticks. A timer waits at the level where its tick first differs from the current one (compared in
//! groups of six bits, from the top). So all timers on a level are due before all timers on the level above. The 48
//! bits of a tick make eight levels, so no deadline is too far. When time enters a slot, the slot's timers move to
//! lower levels, and those of the current tick move into a small heap that orders them to the nanosecond. A timer
//! never fires early. Timers fire in the order of their deadlines, and timers with equal deadlines in the order in
//! which they were armed, so that a replay fires them in the same order.
//!
//! A wheel has no clock and no lock: its caller passes the time. One call does a bounded amount of work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU64;

use super::slab::{NO_NODE, NodeIndex, Slab};

/// The deadline of an empty wheel. As an argument of a sleep: until woken.
pub(super) const NEVER: u64 = u64::MAX;

/// A tick is 2^16 ns, 65.5 µs. This is so fine that few timers share a tick, and so coarse that a 1 ms timer is on
/// level 0 and moves once.
const TICK_BITS: u32 = 16;
const LEVEL_BITS: u32 = 6;
const LEVEL_COUNT: usize = 8;
const SLOT_COUNT: usize = 1 << LEVEL_BITS;

// Every tick of a 64-bit deadline has a level.
const _: () = assert!(TICK_BITS as usize + LEVEL_BITS as usize * LEVEL_COUNT == 64);

/// The heap is not swept while it holds fewer cancelled entries than this: a sweep would not be worth its cost.
const STALE_COUNT_MIN: usize = 64;

/// Names one armed timer of one wheel. A key is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct WheelKey {
    index: NodeIndex,
    serial: NonZeroU64,
}

/// The list or heap in which a timer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WheelPosition {
    /// The list of a slot.
    Slot { level: u8, slot: u8 },
    /// The list of the slot that time has entered. Its timers are to be moved on.
    Entered,
    /// The heap, which is sorted by deadline.
    Imminent,
}

/// A timer and its neighbours in its list.
struct Node<T> {
    deadline_ns: u64,
    serial: NonZeroU64,
    previous: NodeIndex,
    next: NodeIndex,
    position: WheelPosition,
    timer: T,
}

/// A list of timers, and a time before which none of them is due. Cancelling may leave this time too early: that
/// costs a needless look, and never makes a timer late.
#[derive(Clone, Copy)]
struct Slot {
    head: NodeIndex,
    earliest_ns: u64,
}

const EMPTY_SLOT: Slot = Slot {
    head: NO_NODE,
    earliest_ns: NEVER,
};

/// An entry of the heap: the sort key, then the timer's index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Imminent {
    deadline_ns: u64,
    serial: NonZeroU64,
    index: NodeIndex,
}

/// Timers by deadline; see the top of the file.
pub(super) struct Wheel<T> {
    /// The tick up to which the wheel has followed time.
    current_tick: u64,
    /// For each level, the slots that hold timers. Slots up to the current one are in the past, so they are empty.
    occupied: [u64; LEVEL_COUNT],
    slots: Box<[[Slot; SLOT_COUNT]; LEVEL_COUNT]>,
    /// The timers of the slot that time has entered. They are moved on before anything else.
    entered: Slot,
    /// The timers of the current tick and of past ticks.
    imminent: BinaryHeap<Reverse<Imminent>>,
    /// The number of entries in `imminent` whose timer was cancelled.
    stale_count: usize,
    nodes: Slab<Node<T>>,
    next_serial: NonZeroU64,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel at time zero.
    pub(super) fn new() -> Self {
        Wheel {
            current_tick: 0,
            occupied: [0; LEVEL_COUNT],
            slots: Box::new([[EMPTY_SLOT; SLOT_COUNT]; LEVEL_COUNT]),
            entered: EMPTY_SLOT,
            imminent: BinaryHeap::new(),
            stale_count: 0,
            nodes: Slab::new(),
            next_serial: NonZeroU64::MIN,
        }
    }

    /// Adds a timer. A timer with a deadline in the past is due at once.
    pub(super) fn arm(&mut self, deadline_ns: u64, timer: T) -> WheelKey {
        let serial = self.next_serial;
        self.next_serial = serial
            .checked_add(1)
            .expect("2^64 timers take centuries to arm");
        let index = self.nodes.insert(Node {
            deadline_ns,
            serial,
            previous: NO_NODE,
            next: NO_NODE,
            position: WheelPosition::Imminent,
            timer,
        });
        self.put(index);
        WheelKey { index, serial }
    }

    /// Removes a timer. Returns false if `expire` has handed it out, or if it was cancelled before.
    pub(super) fn cancel(&mut self, key: WheelKey) -> bool {
        let Some(node) = self
            .nodes
            .get(key.index)
            .filter(|node| node.serial == key.serial)
        else {
            return false;
        };
        if node.position == WheelPosition::Imminent {
            self.stale_count += 1;
        } else {
            self.unlink(key.index);
        }
        self.nodes.remove(key.index);
        self.sweep_stale();
        true
    }

    /// The number of armed timers: neither handed out nor cancelled.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Moves the timers that are due at `now_ns` to the end of `due`, in order. Looks at `steps_max` timers at most,
    /// so that the caller can run tasks in between. Returns true if there is more to do now.
    pub(super) fn expire(&mut self, now_ns: u64, steps_max: usize, due: &mut Vec<T>) -> bool {
        let now_tick = now_ns >> TICK_BITS;
        let mut steps_left = steps_max;
        loop {
            if !self.settle_entered(&mut steps_left) || !self.pop_due(now_ns, &mut steps_left, due)
            {
                return true;
            }
            // The timers that are left in the heap here are of the current tick and not due. So when time enters a
            // later slot, the heap is empty, and no timer of that slot overtakes an earlier one.
            let Some((level, slot)) = self.first_occupied() else {
                break;
            };
            let start_tick = self.start_tick(level, slot);
            if start_tick > now_tick {
                break;
            }
            self.enter(level, slot, start_tick);
        }
        // No occupied slot starts between the current tick and this one. So for each timer the first group of bits
        // that differs stays the same, and with it the timer's level.
        self.current_tick = self.current_tick.max(now_tick);
        false
    }

    /// A time before which no timer is due; `NEVER` if there is none. It is exact unless timers were cancelled.
    pub(super) fn next_deadline(&mut self) -> u64 {
        if self.entered.head != NO_NODE {
            return 0;
        }
        while let Some(&Reverse(first)) = self.imminent.peek() {
            if self.is_armed(first) {
                return first.deadline_ns;
            }
            self.imminent.pop();
            self.stale_count -= 1;
        }
        match self.first_occupied() {
            Some((level, slot)) => self.slots[level][slot].earliest_ns,
            None => NEVER,
        }
    }

    /// Moves the timers of the entered slot to their new lists or to the heap. Returns false if it ran out of steps.
    fn settle_entered(&mut self, steps_left: &mut usize) -> bool {
        while self.entered.head != NO_NODE {
            if *steps_left == 0 {
                return false;
            }
            *steps_left -= 1;
            let index = self.entered.head;
            self.unlink(index);
            self.put(index);
        }
        true
    }

    /// Hands out the timers in the heap that are due at `now_ns`. Returns false if it ran out of steps.
    fn pop_due(&mut self, now_ns: u64, steps_left: &mut usize, due: &mut Vec<T>) -> bool {
        while let Some(&Reverse(first)) = self.imminent.peek() {
            if first.deadline_ns > now_ns {
                break;
            }
            if *steps_left == 0 {
                return false;
            }
            *steps_left -= 1;
            self.imminent.pop();
            if self.is_armed(first) {
                due.push(self.nodes.remove(first.index).timer);
            } else {
                self.stale_count -= 1;
            }
        }
        true
    }

    /// Puts a node that is in no list into the list or heap for its deadline.
    fn put(&mut self, index: NodeIndex) {
        let node = self.nodes.get_mut(index);
        let (deadline_ns, serial) = (node.deadline_ns, node.serial);
        let tick = deadline_ns >> TICK_BITS;
        if tick <= self.current_tick {
            node.position = WheelPosition::Imminent;
            self.imminent.push(Reverse(Imminent {
                deadline_ns,
                serial,
                index,
            }));
            return;
        }
        let level = ((tick ^ self.current_tick).ilog2() / LEVEL_BITS) as usize;
        let slot = slot_of(tick, level);
        let list = &mut self.slots[level][slot];
        let next = std::mem::replace(&mut list.head, index);
        list.earliest_ns = list.earliest_ns.min(deadline_ns);
        node.position = WheelPosition::Slot {
            level: level as u8,
            slot: slot as u8,
        };
        node.previous = NO_NODE;
        node.next = next;
        if next != NO_NODE {
            self.nodes.get_mut(next).previous = index;
        }
        self.occupied[level] |= 1 << slot;
    }

    /// Removes a node from its list.
    fn unlink(&mut self, index: NodeIndex) {
        let node = self.nodes.get_mut(index);
        let (previous, next, position) = (node.previous, node.next, node.position);
        if next != NO_NODE {
            self.nodes.get_mut(next).previous = previous;
        }
        if previous != NO_NODE {
            self.nodes.get_mut(previous).next = next;
            return;
        }
        match position {
            WheelPosition::Slot { level, slot } => {
                let list = &mut self.slots[usize::from(level)][usize::from(slot)];
                list.head = next;
                if next == NO_NODE {
                    *list = EMPTY_SLOT;
                    self.occupied[usize::from(level)] &= !(1 << slot);
                }
            }
            WheelPosition::Entered => {
                self.entered.head = next;
                if next != NO_NODE {
                    // A list's head alone says which list it heads; see `enter`.
                    self.nodes.get_mut(next).position = WheelPosition::Entered;
                }
            }
            WheelPosition::Imminent => unreachable!("the heap is no list"),
        }
    }

    /// Lets time enter a slot: the slot's list becomes the entered one. This takes constant time, because the nodes
    /// behind the head still name the slot as their position. Their position is only used once they are the head.
    fn enter(&mut self, level: usize, slot: usize, start_tick: u64) {
        assert!(
            self.entered.head == NO_NODE,
            "the slot entered before is settled"
        );
        self.entered = std::mem::replace(&mut self.slots[level][slot], EMPTY_SLOT);
        self.occupied[level] &= !(1 << slot);
        self.nodes.get_mut(self.entered.head).position = WheelPosition::Entered;
        self.current_tick = start_tick;
    }

    /// The slot that time enters next: the first one on the lowest level that has any.
    fn first_occupied(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// The first tick of a slot: the current tick's bits above the level, the slot's number on the level, zeros
    /// below.
    fn start_tick(&self, level: usize, slot: usize) -> u64 {
        let shift = LEVEL_BITS * level as u32;
        let above = (self.current_tick >> shift) & !(SLOT_COUNT as u64 - 1);
        (above | slot as u64) << shift
    }

    /// Whether a heap entry's timer is still armed. If it was cancelled, another timer may have its index by now.
    fn is_armed(&self, entry: Imminent) -> bool {
        self.nodes
            .get(entry.index)
            .is_some_and(|node| node.serial == entry.serial)
    }

    /// Sweeps the heap when most of its entries are cancelled, so that a loop that arms and cancels a timer within
    /// one tick holds no memory.
    fn sweep_stale(&mut self) {
        if self.stale_count < STALE_COUNT_MIN || self.stale_count * 2 < self.imminent.len() {
            return;
        }
        let nodes = &self.nodes;
        self.imminent.retain(|Reverse(entry)| {
            nodes
                .get(entry.index)
                .is_some_and(|node| node.serial == entry.serial)
        });
        self.stale_count = 0;
    }
}

/// The slot of a tick on a level.
fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (LEVEL_BITS * level as u32)) as usize % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Seam, VirtualWorld};
    use super::*;

    /// Hands out all due timers, in calls of at most `steps_max` steps.
    fn expire_all<T: Copy>(wheel: &mut Wheel<T>, now_ns: u64, steps_max: usize) -> Vec<T> {
        let mut due = Vec::new();
        while wheel.expire(now_ns, steps_max, &mut due) {}
        due
    }

    /// A wheel and its model: a map that is sorted by deadline and order of arming.
    struct Pair {
        random: Seam,
        now_ns: u64,
        wheel: Wheel<u64>,
        model: BTreeMap<(u64, u64), WheelKey>,
        keys: Vec<((u64, u64), WheelKey)>,
        armed_count: u64,
    }

    impl Pair {
        fn new(seed: u64, start_ns: u64) -> Self {
            let mut pair = Pair {
                random: Seam::new(VirtualWorld::new(seed)),
                now_ns: start_ns,
                wheel: Wheel::new(),
                model: BTreeMap::new(),
                keys: Vec::new(),
                armed_count: 0,
            };
            pair.advance(0);
            pair
        }

        fn below(&self, bound: u64) -> u64 {
            self.random.random_u64() % bound
        }

        /// A delay of random magnitude, up to `bits` bits.
        fn delay(&self, bits: u32) -> u64 {
            let magnitude = self.below(u64::from(bits)) as u32;
            self.random.random_u64() >> (63 - magnitude)
        }

        fn arm(&mut self, deadline_ns: u64) {
            let order = (deadline_ns, self.armed_count);
            self.armed_count += 1;
            let key = self.wheel.arm(deadline_ns, order.1);
            self.model.insert(order, key);
            self.keys.push((order, key));
        }

        fn cancel(&mut self) {
            if self.keys.is_empty() {
                return;
            }
            let choice = self.below(self.keys.len() as u64) as usize;
            let (order, key) = self.keys[choice];
            assert_eq!(self.wheel.cancel(key), self.model.remove(&order).is_some());
        }

        fn advance(&mut self, step_ns: u64) {
            self.now_ns = self.now_ns.saturating_add(step_ns);
            let later = self.model.split_off(&(self.now_ns, u64::MAX));
            let expected: Vec<u64> = self.model.keys().map(|order| order.1).collect();
            self.model = later;
            let steps_max = 1 + self.below(100) as usize;
            assert_eq!(
                expire_all(&mut self.wheel, self.now_ns, steps_max),
                expected
            );
            let next_ns = self.wheel.next_deadline();
            match self.model.first_key_value() {
                Some(((deadline_ns, _), _)) => {
                    assert!(self.now_ns < next_ns && next_ns <= *deadline_ns)
                }
                None => assert_eq!(next_ns, NEVER),
            }
            assert_eq!(self.wheel.len(), self.model.len());
        }

        fn run(&mut self, rounds: u32, bits: u32) {
            for _round in 0..rounds {
                match self.below(8) {
                    0..4 => self.arm(self.now_ns.saturating_add(self.delay(bits))),
                    4 => self.arm(self.now_ns.saturating_sub(self.delay(bits))),
                    5 | 6 => self.cancel(),
                    _ => self.advance(self.delay(bits)),
                }
            }
        }
    }

    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..60 {
            // From nanoseconds to days, and then to the end of time.
            for bits in [8, 17, 24, 33, 48] {
                let mut pair = Pair::new(seed, seed * 1_000_003);
                pair.run(1_500, bits);
                pair.advance(u64::MAX);
                assert!(pair.model.is_empty(), "seed {seed}, {bits} bits");
            }
        }
    }

    #[test]
    fn agrees_with_a_sorted_map_near_the_end_of_time() {
        for seed in 0..20 {
            let mut pair = Pair::new(seed, u64::MAX - (1 << 40));
            pair.run(2_000, 60);
        }
    }

    #[test]
    fn fires_to_the_nanosecond_and_never_early() {
        for deadline_ns in [
            1,
            65_535,
            65_536,
            65_537,
            1_000_000,
            4_194_304,
            268_435_457,
            1 << 45,
            NEVER,
        ] {
            let mut wheel = Wheel::new();
            wheel.arm(deadline_ns, 'a');
            assert_eq!(wheel.next_deadline(), deadline_ns);
            assert!(expire_all(&mut wheel, deadline_ns - 1, 64).is_empty());
            assert_eq!(wheel.next_deadline(), deadline_ns);
            assert_eq!(expire_all(&mut wheel, deadline_ns, 64), ['a']);
            assert_eq!(wheel.next_deadline(), NEVER);
        }
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_of_arming() {
        let mut wheel = Wheel::new();
        let deadline_ns = 5_000_000_000;
        for timer in 0..10 {
            wheel.arm(deadline_ns, timer);
            // The timers have the same deadline, but later ones are armed on lower levels, and the last ones in the
            // heap.
            expire_all(&mut wheel, deadline_ns * (timer + 1) / 10 - 1, 64);
        }
        assert_eq!(
            expire_all(&mut wheel, deadline_ns, 64),
            (0..10).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_million_timers_come_in_bounded_steps_and_leave_nothing() {
        let mut wheel = Wheel::new();
        for timer in 0..1_000_000_u64 {
            // All timers are in one slot of level 4, so they all move on at the same moment.
            wheel.arm(1_100_000_000_000 + timer % 1000, timer);
        }
        let mut due = Vec::new();
        let mut more = true;
        while more {
            let before_count = due.len();
            more = wheel.expire(1_200_000_000_000, 1000, &mut due);
            assert!(due.len() - before_count <= 1000);
        }
        assert_eq!(due.len(), 1_000_000);
        assert_eq!(wheel.next_deadline(), NEVER);
        assert_eq!(wheel.occupied, [0; LEVEL_COUNT]);
    }

    #[test]
    fn cancelled_timers_hold_no_memory() {
        let mut wheel = Wheel::new();
        for _round in 0..100_000 {
            let near = wheel.arm(10, 'n');
            let far = wheel.arm(1 << 50, 'f');
            assert!(wheel.cancel(near) && wheel.cancel(far));
        }
        assert!(wheel.imminent.len() <= STALE_COUNT_MIN);
        assert_eq!(wheel.next_deadline(), NEVER);
        assert!(wheel.imminent.is_empty());
    }

    #[test]
    fn a_key_serves_once() {
        let mut wheel = Wheel::new();
        let fired = wheel.arm(5, 'a');
        assert_eq!(expire_all(&mut wheel, 5, 64), ['a']);
        let reusing = wheel.arm(10, 'b');
        assert_eq!(fired.index, reusing.index, "the same place, another timer");
        assert!(!wheel.cancel(fired));
        assert!(wheel.cancel(reusing));
        assert!(!wheel.cancel(reusing));
    }
}
