//! The queue that a receiver searches: the events that have arrived and were not yet received, in the order of
//! arrival.
//!
//! A process takes over all arrived events at once (one lock for many messages) and searches this queue alone. Taking
//! an event from the middle leaves a gap instead of moving the events behind it. Gaps at the front are removed at
//! once, and all gaps are removed when they are more than half of the queue. Positions are absolute numbers that
//! never repeat, so "everything before this position was searched already" stays true while the queue moves.

use super::{Event, Reference, Selector};
use crate::broken::{Rule, breaks};
use std::collections::VecDeque;

/// The number of references whose positions are remembered, so that the answers to this many concurrent requests are
/// found quickly in any order.
const MARKS: usize = 4;

/// An empty buffer with a larger capacity than this is freed, so that one flood of messages does not take memory
/// forever.
const CAPACITY_KEPT: usize = 16;

#[derive(Default)]
pub(crate) struct Queue {
    events: VecDeque<Option<Event>>,
    gaps: usize,
    /// The position of the first element of `events`.
    front: u64,
    /// The newest references that this process made, each with the first position at which an event can carry it.
    marks: [Option<(Reference, u64)>; MARKS],
    /// The index in `marks` that the next mark is written to.
    next_mark: usize,
    /// The number of events that searches have looked at since the last [`Queue::take_looks`].
    looks: u64,
}

impl Queue {
    /// Appends all events of `arrived`, and leaves it empty.
    #[inline]
    pub(crate) fn append(&mut self, arrived: &mut VecDeque<Option<Event>>) {
        if self.events.is_empty() {
            std::mem::swap(&mut self.events, arrived);
        } else {
            self.events.append(arrived);
        }
    }

    /// Hands the buffer to `give` if the queue is empty. The next events that arrive bring a buffer with them.
    #[inline]
    pub(crate) fn give_back_room(&mut self, give: impl FnOnce(VecDeque<Option<Event>>)) {
        if self.events.is_empty() && self.events.capacity() > 0 {
            give(std::mem::take(&mut self.events));
        }
    }

    /// Takes the first event at or after `from` that fits. If there is none, returns the position from which to
    /// search when more events have arrived.
    #[inline(always)]
    pub(crate) fn take(&mut self, selector: &Selector, from: u64) -> Result<Event, u64> {
        if self.events.is_empty() {
            return Err(self.front);
        }
        // The usual case: the first event fits.
        if self.first(selector, from).is_some() {
            return Ok(self.take_front());
        }
        let from = from.max(self.first_possible(selector));
        if breaks(Rule::SelectiveOrder) && *selector != Selector::Any {
            return self.take_last(selector);
        }
        self.take_if(from, |event| selector.fits(event))
    }

    /// The event at the front, if it is the first one at or after `from` that fits.
    #[inline(always)]
    pub(crate) fn first(&self, selector: &Selector, from: u64) -> Option<&Event> {
        let first = self.front()?;
        let is_it = from.max(self.first_possible(selector)) <= self.front && selector.fits(first);
        (is_it && !breaks(Rule::SelectiveOrder)).then_some(first)
    }

    /// The event at the front.
    #[inline(always)]
    pub(crate) fn front(&self) -> Option<&Event> {
        self.events.front()?.as_ref()
    }

    /// Takes the event at the front. The caller has checked that there is one.
    #[inline(always)]
    pub(crate) fn take_front(&mut self) -> Event {
        let first = self.events.pop_front().flatten();
        self.front += 1;
        if self.gaps > 0 {
            self.close_gap_at_front();
        } else if self.events.is_empty() && self.events.capacity() > CAPACITY_KEPT {
            self.events = VecDeque::new();
        }
        first.expect("the place was just seen to hold an event")
    }

    /// Takes the first event at or after `from` for which `fits` returns true.
    #[inline]
    pub(crate) fn take_if(
        &mut self,
        from: u64,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<Event, u64> {
        let first = from.saturating_sub(self.front) as usize;
        let mut index = first;
        while let Some(place) = self.events.get_mut(index) {
            if place.as_ref().is_some_and(&fits) {
                let event = place
                    .take()
                    .expect("the place was just seen to hold an event");
                self.gaps += 1;
                self.looks += (index - first) as u64;
                self.close_gaps(index);
                return Ok(event);
            }
            index += 1;
        }
        self.looks += (index - first) as u64;
        Err(self.end())
    }

    /// Removes all events for which `fits` returns true, in one pass, and hands each to `removed`.
    pub(crate) fn remove_all(
        &mut self,
        fits: impl Fn(&Event) -> bool,
        mut removed: impl FnMut(Event),
    ) {
        self.looks += self.events.len() as u64;
        for place in &mut self.events {
            if place.as_ref().is_some_and(&fits) {
                place.take().into_iter().for_each(&mut removed);
                self.gaps += 1;
            }
        }
        if self.gaps > self.events.len() / 2 {
            self.compact();
        }
        self.close_gap_at_front();
    }

    /// Takes the last event that fits: for builds that break the rule of order.
    #[cold]
    fn take_last(&mut self, selector: &Selector) -> Result<Event, u64> {
        let fits = |place: &Option<Event>| place.as_ref().is_some_and(|event| selector.fits(event));
        match self.events.iter().rposition(fits) {
            Some(index) => self.take_if(self.front + index as u64, |_| true),
            None => Err(self.end()),
        }
    }

    /// Returns and resets the number of events that searches have passed over: the cost of the searches.
    #[inline]
    pub(crate) fn take_looks(&mut self) -> u64 {
        std::mem::take(&mut self.looks)
    }

    /// Notes that no event in the queue can carry `reference`, because the process has only just made it.
    pub(crate) fn mark(&mut self, reference: Reference) {
        self.marks[self.next_mark] = Some((reference, self.end()));
        self.next_mark = (self.next_mark + 1) % MARKS;
    }

    fn end(&self) -> u64 {
        self.front + self.events.len() as u64
    }

    #[inline]
    fn first_possible(&self, selector: &Selector) -> u64 {
        match selector {
            Selector::Reference(wanted) | Selector::Answer(wanted) => self.marked(wanted),
            _ => 0,
        }
    }

    fn marked(&self, wanted: &Reference) -> u64 {
        let marked = self
            .marks
            .iter()
            .flatten()
            .find(|(marked, _)| marked == wanted);
        marked.map_or(0, |(_, position)| *position)
    }

    /// Removes the gaps at the front, so that the first element is an event.
    fn close_gap_at_front(&mut self) {
        while matches!(self.events.front(), Some(None)) {
            self.events.pop_front();
            self.gaps -= 1;
            self.front += 1;
        }
        if self.events.is_empty() && self.events.capacity() > CAPACITY_KEPT {
            self.events = VecDeque::new();
        }
    }

    fn close_gaps(&mut self, taken_index: usize) {
        if taken_index == 0 {
            self.close_gap_at_front();
        } else if self.gaps > self.events.len() / 2 {
            self.compact();
        }
    }

    /// Removes all gaps. A mark stays between the same two events; a search from another position may look at events
    /// again.
    fn compact(&mut self) {
        let end = self.end();
        for (_, position) in self.marks.iter_mut().flatten() {
            let index = position.saturating_sub(self.front) as usize;
            let gaps_after = self
                .events
                .range(index.min(self.events.len())..)
                .filter(|place| place.is_none())
                .count();
            *position += gaps_after as u64;
        }
        self.events.retain(Option::is_some);
        self.gaps = 0;
        // The end keeps its position, so a search that is to continue from there finds the new events.
        self.front = end - self.events.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Format, Message, Payload, Pid};

    fn message(tag: u32, reference: Option<u64>) -> Option<Event> {
        Some(Event::Message(Message {
            sender: Pid { node: 1, id: 1 },
            tag,
            reference: reference.map(|id| Reference { node: 1, id }),
            format: Format::Raw,
            payload: Payload::new(),
            is_reply: false,
        }))
    }

    fn tag(event: Result<Event, u64>) -> Option<u32> {
        match event {
            Ok(Event::Message(message)) => Some(message.tag),
            _ => None,
        }
    }

    fn filled(tags: impl IntoIterator<Item = u32>) -> Queue {
        let mut queue = Queue::default();
        queue.append(&mut tags.into_iter().map(|tag| message(tag, None)).collect());
        queue
    }

    #[test]
    fn all_of_a_kind_are_removed_at_once() {
        for rest in [0, 1, 3] {
            let mut queue =
                filled((0..9).flat_map(|tag| [7].into_iter().chain((0..rest).map(move |_| tag))));
            let mut removed = 0;
            queue.remove_all(
                |event| matches!(event, Event::Message(message) if message.tag == 7),
                |_| removed += 1,
            );
            assert_eq!(removed, 9 + rest);
            for expected in (0..9)
                .filter(|tag| *tag != 7)
                .flat_map(|tag| (0..rest).map(move |_| tag))
            {
                assert_eq!(tag(queue.take(&Selector::Any, 0)), Some(expected));
            }
            assert_eq!(tag(queue.take(&Selector::Any, 0)), None);
        }
    }

    #[test]
    fn any_takes_in_the_order_of_arrival() {
        let mut queue = filled([3, 1, 2]);
        let taken: Vec<_> = (0..4).map(|_| tag(queue.take(&Selector::Any, 0))).collect();
        assert_eq!(taken, [Some(3), Some(1), Some(2), None]);
    }

    #[test]
    fn selection_leaves_the_others_in_order() {
        let mut queue = filled([1, 2, 1, 3, 2]);
        assert_eq!(tag(queue.take(&Selector::Tag(3), 0)), Some(3));
        assert_eq!(tag(queue.take(&Selector::Tag(2), 0)), Some(2));
        let rest: Vec<_> = (0..3).map(|_| tag(queue.take(&Selector::Any, 0))).collect();
        assert_eq!(rest, [Some(1), Some(1), Some(2)]);
    }

    #[test]
    fn a_search_goes_on_where_it_ended() {
        let mut queue = filled([1, 1, 1]);
        let position = queue.take(&Selector::Tag(2), 0).unwrap_err();
        queue.append(&mut [message(2, None)].into());
        assert_eq!(tag(queue.take(&Selector::Tag(2), position)), Some(2));
        // The events that the search passed over are still there for another selector.
        assert_eq!(tag(queue.take(&Selector::Any, 0)), Some(1));
    }

    #[test]
    fn behaves_like_a_list_under_random_use() {
        // A small deterministic generator: this test needs variety, not good randomness.
        let mut state = 1u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut queue = Queue::default();
        let mut model: Vec<(u32, Option<u64>)> = Vec::new();
        let mut next_reference = 0;
        for _ in 0..200_000 {
            match random(10) {
                0..5 => {
                    let carried = (next_reference > 0 && random(3) == 0)
                        .then(|| next_reference - random(2).min(next_reference - 1));
                    let new = (random(8) as u32, carried);
                    model.push(new);
                    queue.append(&mut [message(new.0, new.1)].into());
                }
                5 => {
                    next_reference += 1;
                    queue.mark(Reference {
                        node: 1,
                        id: next_reference,
                    });
                }
                6 if next_reference > 0 => {
                    let wanted = next_reference - random(2).min(next_reference - 1);
                    let found = model
                        .iter()
                        .position(|(_, carried)| *carried == Some(wanted));
                    let expected = found.map(|index| model.remove(index).0);
                    let selector = Selector::Reference(Reference {
                        node: 1,
                        id: wanted,
                    });
                    assert_eq!(tag(queue.take(&selector, 0)), expected);
                }
                7 => {
                    let expected = (!model.is_empty()).then(|| model.remove(0).0);
                    assert_eq!(tag(queue.take(&Selector::Any, 0)), expected);
                }
                _ => {
                    let wanted = random(8) as u32;
                    let found = model.iter().position(|(tag, _)| *tag == wanted);
                    let expected = found.map(|index| model.remove(index).0);
                    assert_eq!(tag(queue.take(&Selector::Tag(wanted), 0)), expected);
                }
            }
        }
    }
}
