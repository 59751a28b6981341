//! Memories that are restored in place to their initial contents.
//!
//! This takes two steps. As soon as the process has ended, while its memory is in the cache, the image is written to
//! some of the pages. The other pages go back to the kernel, for several memories at once, because half of the cost is
//! the call. Until then nothing can reach these memories ([`Renewed`]). The first processes of a program show which
//! pages to write and which to give back ([`PageSurvey`]).

use super::releases::give_back;
use super::{Home, PAGE_BYTES, Region, WARM_BYTES_MAX};
use crate::broken::{Rule, breaks};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;

/// A gap of zeros between data is copied together with the data if it is no larger than this.
const GAP_BYTES_MAX: usize = 256;
/// The number of processes that a survey watches.
const WATCHED: u32 = 8;
/// The most pages that stay, and the most runs of them: each run splits the pages that go back into one part more.
const PAGES_MAX: usize = WARM_BYTES_MAX / PAGE_BYTES;
const RUNS_MAX: usize = 4;

/// The initial contents of a memory. It says which pages are written again for the next process, and which go back.
pub(in crate::engine) struct Image {
    parts: Box<[Part]>,
    /// The ranges that go back.
    cold: Box<[Range<usize>]>,
}

/// A run of pages that stay.
struct Part {
    start: usize,
    bytes: Box<[u8]>,
    /// Outside of these it is zero.
    data: Box<[Range<usize>]>,
}

impl Image {
    /// The image of a memory of so many bytes, whose initial contents `initial` returns for any range. `pages` stay;
    /// they are in ascending order, and outside of them the memory must be zero.
    pub(in crate::engine) fn new(
        memory_bytes: usize,
        pages: &[u32],
        initial: impl Fn(Range<usize>) -> Box<[u8]>,
    ) -> Image {
        let (mut parts, mut cold, mut cold_from) = (Vec::new(), Vec::new(), 0);
        for run in pages.chunk_by(|left, right| left + 1 == *right) {
            let start = (run[0] as usize * PAGE_BYTES).min(memory_bytes);
            let end = (start + run.len() * PAGE_BYTES).min(memory_bytes);
            parts.push(Part::new(start, initial(start..end)));
            cold.push(cold_from..start);
            cold_from = end;
        }
        cold.push(cold_from..memory_bytes);
        cold.retain(|range| !range.is_empty());
        Image {
            parts: parts.into(),
            cold: cold.into(),
        }
    }

    fn write(&self, memory: &mut [u8]) {
        self.parts.iter().for_each(|part| part.write(memory));
    }

    /// Whether a memory holds its initial contents.
    #[cfg(any(test, debug_assertions))]
    pub(in crate::engine) fn matches(&self, memory: &[u8]) -> bool {
        let mut fresh = vec![0; memory.len()];
        self.write(&mut fresh);
        fresh == memory
    }
}

impl Part {
    fn new(start: usize, bytes: Box<[u8]>) -> Part {
        let mut data: Vec<Range<usize>> = Vec::new();
        for at in (0..bytes.len()).filter(|at| bytes[*at] != 0) {
            match data.last_mut() {
                Some(last) if at - last.end <= GAP_BYTES_MAX => last.end = at + 1,
                _ => data.push(at..at + 1),
            }
        }
        Part {
            start,
            bytes,
            data: data.into(),
        }
    }

    fn write(&self, memory: &mut [u8]) {
        let memory = &mut memory[self.start..self.start + self.bytes.len()];
        let mut zero_from = 0;
        for data in &self.data {
            memory[zero_from..data.start].fill(0);
            memory[data.clone()].copy_from_slice(&self.bytes[data.clone()]);
            zero_from = data.end;
        }
        if !breaks(Rule::ByteStays) {
            memory[zero_from..].fill(0);
        }
    }
}

/// The owner of a memory that is restored except for pages that have yet to go back. The owner can't be reached until
/// they have.
pub(in crate::engine) struct Renewed<T> {
    owner: T,
    cold: SmallVec<[Region; 3]>,
}

impl<T> Renewed<T> {
    /// Writes the image into the memory in the home of `owner`, if `owner` has one.
    pub(in crate::engine) fn new(
        mut owner: T,
        memory: impl FnOnce(&mut T) -> Option<(&Home, &mut [u8])>,
        image: &Image,
    ) -> Renewed<T> {
        let mut cold = SmallVec::new();
        if let Some((home, memory)) = memory(&mut owner) {
            assert!(home.holds(memory));
            home.forget_memory(false);
            image.write(memory);
            let regions = image
                .cold
                .iter()
                .map(|part| home.memory().part(part.clone()));
            cold.extend(regions);
        }
        Renewed { owner, cold }
    }

    /// Gives back the pages of all memories, and returns the owners.
    pub(in crate::engine) fn finish(renewed: Vec<Renewed<T>>) -> impl Iterator<Item = T> {
        let cold = renewed.iter().flat_map(|renewed| &renewed.cold);
        let cold: SmallVec<[Region; 32]> = cold.copied().collect();
        // SAFETY: the ranges are within memories that the owners had for themselves, and nothing has reached an owner
        // since. Their ends are page boundaries, because a memory is a whole number of pages. The pages read as zero
        // afterwards, as the image requires.
        unsafe { give_back(&cold) };
        renewed.into_iter().map(|renewed| renewed.owner)
    }
}

/// Finds out which pages processes touch, from the first that run in memories of their own.
pub(in crate::engine) struct PageSurvey {
    /// How many processes it has yet to see.
    left: u32,
    /// How many processes were seen to touch each page.
    seen: BTreeMap<u32, u32>,
}

impl PageSurvey {
    /// The pages in `data` stay, even if no process touches them.
    pub(in crate::engine) fn new(data: impl Iterator<Item = u32>) -> PageSurvey {
        PageSurvey {
            left: WATCHED,
            seen: data.map(|page| (page, WATCHED)).collect(),
        }
    }

    pub(in crate::engine) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Counts the pages that a process has touched. After the last process it returns the pages that most processes
    /// have touched, unless they are too many or too far apart.
    pub(in crate::engine) fn record(&mut self, touched: &[u32]) -> Option<Vec<u32>> {
        for page in touched {
            *self.seen.entry(*page).or_default() += 1;
        }
        self.left -= 1;
        let most = self.seen.iter().filter(|(_, times)| **times * 2 > WATCHED);
        let most: Vec<u32> = most.map(|(page, _)| *page).collect();
        let runs = most.chunk_by(|left, right| left + 1 == *right).count();
        let is_good = self.left == 0 && most.len() <= PAGES_MAX && runs <= RUNS_MAX;
        is_good.then_some(most)
    }

    /// Ends the survey without a result.
    pub(in crate::engine) fn give_up(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_overwrites_any_contents() {
        const MEMORY_BYTES: usize = 6 * PAGE_BYTES;
        let far = GAP_BYTES_MAX + 2;
        for data in [&[][..], &[0], &[0, far], &[5, 10, far + 10, PAGE_BYTES - 1]] {
            for pages in [&[1][..], &[1, 2], &[1, 4, 5], &[0, 1, 2, 3, 4, 5]] {
                let mut fresh = vec![0; MEMORY_BYTES];
                data.iter().for_each(|at| fresh[PAGE_BYTES + at] = 7);
                let image = Image::new(MEMORY_BYTES, pages, |part| fresh[part].into());
                let far_apart = data.windows(2).filter(|two| two[1] - two[0] > far - 2);
                let parts = far_apart.count() + usize::from(!data.is_empty());
                let of_page = image.parts.iter().find(|part| !part.data.is_empty());
                assert_eq!(of_page.map_or(0, |part| part.data.len()), parts);
                let mut memory = vec![0xaa; MEMORY_BYTES];
                image.write(&mut memory);
                let written: usize = image.parts.iter().map(|part| part.bytes.len()).sum();
                assert_eq!(written, pages.len() * PAGE_BYTES);
                for cold in &image.cold {
                    assert!(memory[cold.clone()].iter().all(|byte| *byte == 0xaa));
                    memory[cold.clone()].fill(0);
                }
                assert!(memory == fresh && image.matches(&fresh));
            }
        }
    }

    #[test]
    fn pages_that_most_processes_touch_are_found() {
        let find = |data: &[u32], touched: &dyn Fn(u32) -> Vec<u32>| {
            let mut survey = PageSurvey::new(data.iter().copied());
            for process in 1..WATCHED {
                assert!(!survey.is_over());
                assert_eq!(survey.record(&touched(process)), None);
            }
            let found = survey.record(&touched(WATCHED));
            assert!(survey.is_over());
            found
        };
        assert_eq!(find(&[], &|_| vec![]), Some(vec![]));
        assert_eq!(find(&[3], &|_| vec![7]), Some(vec![3, 7]));
        // Each process touches another page, then half of them touch the same one.
        assert_eq!(find(&[], &|process| vec![process]), Some(vec![]));
        assert_eq!(find(&[], &|process| vec![process % 2]), Some(vec![]));
        let all_but_one = |process| if process == 3 { vec![] } else { vec![5, 6] };
        assert_eq!(find(&[], &all_but_one), Some(vec![5, 6]));
        let many = PAGES_MAX as u32;
        assert!(find(&[], &|_| (0..many).collect()).is_some());
        assert_eq!(find(&[], &|_| (0..many + 1).collect()), None);
        assert_eq!(find(&[0, 2, 4], &|_| vec![6, 8]), None);
    }
}
