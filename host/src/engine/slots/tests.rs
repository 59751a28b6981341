//! The promises of every slot: it is zero when given out, keeps its contents through every move, and overlaps no other.

use super::home::at_home;
use super::*;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator};

const STACK: usize = 64 * KIB;
const WARM: Warm = Warm {
    first_page: 3,
    pages: 2,
};

fn memory(slots: &Arc<Slots>, home: &Arc<Home>, bytes: usize) -> Box<dyn LinearMemory> {
    let ty = MemoryType::new((bytes / (64 * KIB)) as u32, None);
    at_home(home, || {
        Memories(slots.clone())
            .new_memory(ty, bytes, None, None, 0)
            .expect("a slot is free")
    })
}

fn bytes(memory: &mut dyn LinearMemory) -> &mut [u8] {
    // SAFETY: the test holds the memory, and makes one slice at a time.
    unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
}

#[test]
fn requests_for_inaccessible_memory_are_refused() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let ty = || MemoryType::new(1, Some(1));
    // The guest could access the bytes beyond such a memory.
    for (reserved, guard) in [(Some(64 * KIB), 0), (None, 4 * KIB), (Some(0), 4 * KIB)] {
        let refused = Memories(slots.clone()).new_memory(ty(), 64 * KIB, None, reserved, guard);
        assert!(refused.is_err(), "{reserved:?} {guard}");
    }
    let made = Memories(slots.clone()).new_memory(ty(), 64 * KIB, None, Some(0), 0);
    assert!(made.is_ok());
}

#[test]
fn a_slot_is_zero_whenever_it_is_given_out() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let class = Slots::home_class(64 * KIB, Some(64 * KIB));
    for _ in 0..3 {
        let home = slots
            .home(class, WARM, &Written::default())
            .expect("a home is free");
        let mut memory = memory(&slots, &home, 64 * KIB);
        assert!(bytes(&mut *memory).iter().all(|byte| *byte == 0));
        bytes(&mut *memory).fill(0xaa);
    }
}

#[test]
fn a_memory_keeps_what_it_holds_through_every_move() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let home = slots
        .home(Slots::home_class(64 * KIB, None), WARM, &Written::default())
        .expect("a home is free");
    let mut memory = memory(&slots, &home, 64 * KIB);
    let mut size = 64 * KIB;
    // Through every class of large slots that is quick to write to; the last steps move by remapping.
    while size <= 128 * MIB {
        let held = bytes(&mut *memory);
        held[0] = 1;
        held[size - 1] = 2;
        held[size / 2] = 3;
        let old = size;
        size *= 2;
        memory.grow_to(size).expect("a slot is free");
        let held = bytes(&mut *memory);
        assert_eq!((held[0], held[old - 1], held[old / 2]), (1, 2, 3), "{old}");
        assert!(held[old..].iter().all(|byte| *byte == 0), "{old}");
        held[..old].fill(0);
    }
    drop(memory);
    // The slots that it left are clean as well: the same slots, from the smallest on.
    let mut again = self::memory(&slots, &home, 64 * KIB);
    for size in [4 * MIB, 16 * MIB, 64 * MIB] {
        again.grow_to(size).expect("a slot is free");
        assert!(bytes(&mut *again).iter().all(|byte| *byte == 0), "{size}");
    }
}

#[test]
fn homes_do_not_overlap_and_parts_are_given_once() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let class = Slots::home_class(128 * KIB, None);
    let homes: Vec<_> = (0..1000)
        .map(|_| {
            slots
                .home(class, WARM, &Written::default())
                .expect("a home is free")
        })
        .collect();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for home in &homes {
        let stack = at_home(home, || Stacks(slots.clone()).new_stack(STACK, false))
            .expect("a stack is free");
        assert_eq!(stack.range(), home.stack());
        let memory = home.memory();
        let start = memory.start.as_ptr() as usize;
        ranges.push(start..home.stack().end);
        // A second stack for the same process lies elsewhere.
        let second = at_home(home, || Stacks(slots.clone()).new_stack(STACK, false))
            .expect("a stack is free");
        assert_ne!(second.range(), stack.range());
    }
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

#[test]
fn a_memory_larger_than_any_slot_is_refused() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let home = slots
        .home(Slots::home_class(64 * KIB, None), WARM, &Written::default())
        .expect("a home is free");
    let mut memory = memory(&slots, &home, 64 * KIB);
    assert!(memory.grow_to(5 * GIB).is_err());
    assert_eq!(memory.byte_size(), 64 * KIB);
}

#[test]
fn the_number_of_shelved_homes_is_bounded() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let class = Slots::home_class(64 * KIB, None);
    let homes: Vec<_> = (0..SHELVED_MAX + 1)
        .map(|_| {
            slots
                .home(class, WARM, &Written::default())
                .expect("a home is free")
        })
        .collect();
    let (last, others) = homes.split_last().expect("there are some");
    assert!(others.iter().all(|home| home.shelve()));
    assert!(!last.shelve());
    assert_eq!(slots.in_use(), 1);
    others[0].use_again();
    assert_eq!((slots.in_use(), slots.used_again()), (2, 1));
    assert!(last.shelve());
    assert_eq!(slots.in_use(), 1);
    drop(homes);
    assert_eq!(slots.in_use(), 0);
}

#[test]
fn memories_are_renewed_where_they_lie() {
    let slots = Slots::new(STACK, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let home = || {
        let home = slots.home(Slots::home_class(64 * KIB, None), WARM, &Written::default());
        home.expect("a home is free")
    };
    let homes: Vec<_> = (0..20).map(|_| home()).collect();
    let memory = |home| memory(&slots, home, 64 * KIB);
    let mut memories: Vec<_> = homes.iter().map(memory).collect();
    let image = Image::new(64 * KIB, &[3, 4], |part| vec![0x55; part.len()].into());
    for memory in &mut memories {
        bytes(&mut **memory).fill(0xaa);
    }
    let mut owners = homes.iter().zip(memories);
    let (_, mut used) = owners.next().expect("there are some");
    let renewed = owners.map(|owner| {
        Renewed::new(
            owner,
            |(home, memory)| Some((home, bytes(&mut **memory))),
            &image,
        )
    });
    for (_, mut memory) in Renewed::finish(renewed.collect()) {
        let held = bytes(&mut *memory);
        assert!(held[..12 * KIB].iter().all(|byte| *byte == 0));
        assert!(held[12 * KIB..20 * KIB].iter().all(|byte| *byte == 0x55));
        assert!(held[20 * KIB..].iter().all(|byte| *byte == 0));
    }
    assert!(bytes(&mut *used).iter().all(|byte| *byte == 0xaa));
    // A memory that has moved out.
    assert!(homes[0].holds(bytes(&mut *used)));
    used.grow_to(4 * MIB).expect("a slot is free");
    assert!(!homes[0].holds(bytes(&mut *used)));
}

#[test]
fn a_home_that_sleeps_takes_nothing_of_a_large_slot_with_it() {
    // With a stack like this a home alone is larger than what classes take at a time.
    let slots =
        Slots::new(64 * MIB, false, Arc::new(Seam::real())).expect("the mapping can be had");
    let home = slots
        .home(
            Slots::home_class(64 * KIB, Some(64 * KIB)),
            WARM,
            &Written::default(),
        )
        .expect("a home is free");
    let ty = MemoryType::new(64, None);
    let mut large = Memories(slots.clone())
        .new_memory(ty, 4 * MIB, None, None, 0)
        .expect("a slot is free");
    bytes(&mut *large).fill(7);
    let region = home.region();
    // SAFETY: nothing uses the home.
    unsafe { region.give_back(region.range()) };
    // SAFETY: its pages were given back, and this test touches none before `wakes`.
    unsafe { home.sleeps() };
    assert!(bytes(&mut *large).iter().all(|byte| *byte == 7));
    home.wakes();
}
