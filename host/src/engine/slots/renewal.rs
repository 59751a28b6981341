//! Memories that are made as new where they lie.
//!
//! In two steps. What is written is written as soon as the process has ended, while its memory is in the cache. The pages
//! that go back do so for several memories at once, because half of that is the asking; until then nobody gets at these
//! memories ([`Renewed`]).

use super::departures::give_back;
use super::{Home, Region};
use smallvec::SmallVec;
use std::ops::Range;

/// Zeros between data that are copied with it.
const GAP_BYTES_MAX: usize = 256;

/// What the warm part of a memory holds at first.
pub(in crate::engine) struct Image {
    bytes: Box<[u8]>,
    /// Outside of these parts it is zero.
    data: Box<[Range<usize>]>,
}

impl Image {
    pub(in crate::engine) fn new(bytes: Box<[u8]>) -> Image {
        let mut data: Vec<Range<usize>> = Vec::new();
        for at in (0..bytes.len()).filter(|at| bytes[*at] != 0) {
            match data.last_mut() {
                Some(last) if at - last.end <= GAP_BYTES_MAX => last.end = at + 1,
                _ => data.push(at..at + 1),
            }
        }
        Image {
            bytes,
            data: data.into(),
        }
    }

    #[cfg(any(test, debug_assertions))]
    pub(in crate::engine) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn write(&self, room: &mut [u8]) {
        let mut zero_from = 0;
        for data in &self.data {
            room[zero_from..data.start].fill(0);
            room[data.clone()].copy_from_slice(&self.bytes[data.clone()]);
            zero_from = data.end;
        }
        room[zero_from..].fill(0);
    }
}

/// Something whose memory is as new, but for pages that go back yet; it can't be reached until they have.
pub(in crate::engine) struct Renewed<T> {
    owner: T,
    cold: [Option<Region>; 2],
}

impl<T> Renewed<T> {
    /// Writes the image into the warm part of the memory that `owner` has, if it has one, in its home.
    pub(in crate::engine) fn new(
        mut owner: T,
        memory: impl FnOnce(&mut T) -> Option<(&Home, &mut [u8])>,
        image: &Image,
    ) -> Renewed<T> {
        let mut cold = [None; 2];
        if let Some((home, memory)) = memory(&mut owner) {
            assert!(home.holds(memory));
            home.forget_memory(false);
            let warm = home.warm().within(memory.len());
            image.write(&mut memory[warm.clone()]);
            cold = [0..warm.start, warm.end..memory.len()]
                .map(|part| (!part.is_empty()).then(|| home.memory().part(part)));
        }
        Renewed { owner, cold }
    }

    /// Gives back the pages of all of them, which can be reached again then.
    pub(in crate::engine) fn finish(renewed: Vec<Renewed<T>>) -> impl Iterator<Item = T> {
        let cold = renewed.iter().flat_map(|renewed| renewed.cold);
        let cold: SmallVec<[Region; 16]> = cold.flatten().collect();
        // SAFETY: the ranges are within memories that their owners had for themselves, and nobody has reached an owner
        // since; both ends of each are pages', because memories' are. That they read as zero afterwards is what is wanted.
        unsafe { give_back(&cold) };
        renewed.into_iter().map(|renewed| renewed.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_written_over_whatever_is_there() {
        let far = 3 * GAP_BYTES_MAX;
        for data in [&[][..], &[0], &[0, far], &[5, 10, far, 2 * far - 1]] {
            let mut bytes = vec![0; 2 * far];
            data.iter().for_each(|at| bytes[*at] = 7);
            let image = Image::new(bytes.clone().into());
            let parts = data
                .windows(2)
                .filter(|two| two[1] - two[0] > GAP_BYTES_MAX);
            assert_eq!(
                image.data.len(),
                parts.count() + usize::from(!data.is_empty())
            );
            let mut room = vec![0xaa; 2 * far];
            image.write(&mut room);
            assert!(room == bytes);
        }
    }
}
