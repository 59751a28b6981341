//! The operands of host calls: values that make sense, and values at every edge.
//!
//! Every attacker that calls the host has the same things at the same addresses, so that a random operand often meets what a
//! function expects.

use super::functions::Function;
use crate::fuzz::dice::Dice;
use wasm_encoder::{MemArg, ValType};

/// An operand of a call.
#[derive(Clone, Copy)]
pub enum Operand {
    I32(i32),
    I64(i64),
    /// The number at this address.
    I32At(i32),
    I64At(i32),
}

/// An access at the address itself, aligned or not.
pub const AT: MemArg = MemArg {
    offset: 0,
    align: 0,
    memory_index: 0,
};

const STRINGS: i32 = 0x100;
/// The texts that names, paths and functions are taken from, one every 32 bytes.
const TEXTS: [&[u8]; 14] = [
    b"run",
    b"child0",
    b"child1",
    b"a",
    b"..",
    b"/",
    b"a/b",
    b"../x",
    b"attacker0",
    b"canaries",
    b"group",
    b"name",
    b"\xff\xfe",
    b"\xe2\x82",
];
/// So many of them are UTF-8.
const TEXTS_UTF8: u64 = 12;
const TEXT_BYTES: i32 = 32;
/// Where the own pid, the host's pid and the argument's list are kept.
pub const OWN_PID: i32 = 0x800;
pub const HOST_PID: i32 = 0x820;
pub const ARGUMENT: i32 = 0x840;
/// Results of calls: the pid in the result of a spawn lies 8 bytes behind.
const RESULTS: i32 = 0x900;
const RESULT_BYTES: i32 = 128;
const RESULTS_COUNT: u64 = 10;
/// Lists of structures: mostly zero.
const LISTS: i32 = 0x1000;
pub const HEAP_START: i32 = 0x4000;
const PAGE: i32 = 0x1_0000;
/// At the memory's first end, where counts are put together.
const COUNTS_BYTES: i32 = 0x800;

/// The memory of an attacker.
#[derive(Clone, Copy)]
pub struct Memory {
    pub pages: u64,
    pub pages_max: Option<u64>,
}

impl Memory {
    pub fn choose(dice: &mut Dice) -> Memory {
        let pages = *dice.pick(&[1, 1, 2, 2, 3, 17]);
        let pages_max = match dice.below(4) {
            0 => None,
            1 => Some(pages),
            _ => Some(pages + dice.below(100)),
        };
        Memory { pages, pages_max }
    }

    /// The first address that is not in the memory at the start.
    fn end(self) -> i32 {
        self.pages as i32 * PAGE
    }

    pub fn heap_end(self) -> i32 {
        self.counts_start()
    }

    pub fn counts_start(self) -> i32 {
        self.end() - COUNTS_BYTES
    }

    /// An address from which so many bytes are inside.
    pub fn inside(self, dice: &mut Dice, bytes: i32) -> i32 {
        dice.below((self.end() - bytes + 1) as u64) as i32
    }
}

/// The contents of the data segments: addresses and bytes.
pub fn data() -> impl Iterator<Item = (i32, &'static [u8])> {
    let addresses = (STRINGS..).step_by(TEXT_BYTES as usize);
    addresses.zip(TEXTS)
}

/// Chooses the operands of one call: any at all, or, in a call that is not wild, such as may well be right. A process whose
/// first call is wrong does not get far.
pub fn choose(
    dice: &mut Dice,
    function: &Function,
    memory: &Memory,
    is_wild: bool,
) -> Vec<Operand> {
    if (!is_wild || dice.percent(30))
        && let Some(operands) = sensible(dice, &function.label())
    {
        return operands;
    }
    match is_wild {
        true => wild(dice, function, memory),
        false => tame(dice, function),
    }
}

fn wild(dice: &mut Dice, function: &Function, memory: &Memory) -> Vec<Operand> {
    let mut operands = Vec::new();
    while let Some(param) = function.params.get(operands.len()) {
        let is_pair = function.params.get(operands.len() + 1) == Some(param);
        match param {
            // Two numbers of 64 bits in a row are a pid or a reference.
            ValType::I64 if is_pair && dice.percent(75) => operands.extend(id(dice)),
            ValType::I64 => operands.push(Operand::I64(i64_edge(dice))),
            // Two numbers of 32 bits in a row may be a list.
            _ if is_pair && dice.percent(30) => operands.extend(text(dice)),
            _ if dice.percent(10) => operands.push(Operand::I32At(memory.inside(dice, 4))),
            _ => operands.push(Operand::I32(i32_edge(dice, memory))),
        }
    }
    operands.truncate(function.params.len());
    operands
}

fn tame(dice: &mut Dice, function: &Function) -> Vec<Operand> {
    let is_wasi = function.is_wasi();
    let last = function.params.len().saturating_sub(1);
    let mut operands = Vec::new();
    while let Some(param) = function.params.get(operands.len()) {
        let at = operands.len();
        let is_pair = function.params.get(at + 1) == Some(param);
        match param {
            ValType::I64 if is_pair && !is_wasi => operands.extend(known_id(dice)),
            ValType::I64 => {
                let time = *dice.pick(&[0, 1, 1000, 5_000_000, 1_000_000_000]);
                operands.push(Operand::I64(time));
            }
            // A function of the contract without a result writes it to the last address.
            _ if at == last && (is_wasi || function.result.is_none()) => {
                operands.push(Operand::I32(result(dice)));
            }
            _ if is_pair && at + 1 < last && function.takes_text() => {
                let [address, length] = known_text(dice);
                operands.extend([address, length]);
            }
            _ if is_wasi && dice.percent(40) => operands.push(Operand::I32(result(dice))),
            _ => operands.push(Operand::I32(dice.below(2) as i32)),
        }
    }
    operands
}

/// The operands of a call that is right, for functions that random operands would never get anywhere with.
fn sensible(dice: &mut Dice, label: &str) -> Option<Vec<Operand>> {
    use Operand::I32;
    let result = I32(result(dice));
    let list = |dice: &mut Dice| {
        let bytes = *dice.pick(&[0, 1, 8, 16, 17, 24, 25, 1000, 9000]);
        [I32(LISTS), I32(bytes)]
    };
    let envelope = |dice: &mut Dice| {
        let format = I32(dice.below(2) as i32);
        let tag = I32(dice.below(3) as i32);
        [vec![tag, I32(0)], id(dice).to_vec(), vec![format]].concat()
    };
    Some(match label {
        "spawning/spawn" => {
            let function = [I32(STRINGS + TEXT_BYTES), I32(6)];
            let own = vec![I32(0), I32(0), I32(0)];
            let options = vec![I32(LISTS), I32(0), result];
            [own, function.to_vec(), list(dice).to_vec(), options].concat()
        }
        "lifecycle/exit" => vec![I32(dice.below(11) as i32), I32(LISTS), I32(4)],
        "lifecycle/set-priority" => vec![I32(dice.below(3) as i32)],
        "mailbox/send" => [known_id(dice).to_vec(), envelope(dice), list(dice).to_vec()].concat(),
        "mailbox/send-named" => [
            known_text(dice).to_vec(),
            envelope(dice),
            list(dice).to_vec(),
        ]
        .concat(),
        "mailbox/call" => {
            let request = [tag(dice), list(dice).to_vec()].concat();
            let timeout = vec![I32(1), Operand::I64(dice.below(3_000_000) as i64), result];
            [process(dice), request, timeout].concat()
        }
        "mailbox/reply" => {
            let to = [known_id(dice), known_id(dice)].concat();
            [to, tag(dice), list(dice).to_vec()].concat()
        }
        "timers/send-after" => {
            let message = [envelope(dice), list(dice).to_vec(), vec![result]].concat();
            [vec![delay(dice)], process(dice), message].concat()
        }
        "timers/start-timer" => [vec![delay(dice)], process(dice), vec![I32(1), result]].concat(),
        "mailbox/receive" => {
            let timeout = Operand::I64(*dice.pick(&[0, 1, 100_000, 10_000_000]));
            let any = vec![I32(0), Operand::I64(0), Operand::I64(0)];
            [any, vec![I32(1), timeout, result]].concat()
        }
        "names/register" | "groups/join" => [
            known_text(dice).to_vec(),
            known_id(dice).to_vec(),
            vec![result],
        ]
        .concat(),
        "names/whereis" | "groups/members" | "groups/monitor" => {
            [known_text(dice).to_vec(), vec![result]].concat()
        }
        "signals/monitor" => [vec![I32(0)], known_id(dice).to_vec(), vec![result]].concat(),
        "signals/exit-process" => {
            let reason = vec![I32(dice.below(11) as i32), I32(LISTS), I32(4)];
            [known_id(dice).to_vec(), reason].concat()
        }
        _ => return sensible_wasi(dice, label),
    })
}

fn sensible_wasi(dice: &mut Dice, label: &str) -> Option<Vec<Operand>> {
    use Operand::I32;
    let result = I32(result(dice));
    Some(match label {
        "wasi/fd_write" => {
            let pieces = I32(dice.below(4) as i32);
            vec![I32(1 + dice.below(2) as i32), I32(LISTS), pieces, result]
        }
        "wasi/path_open" => {
            let [path, length] = known_text(dice);
            let all = Operand::I64(-1);
            let flags = I32(dice.below(16) as i32);
            vec![
                I32(3),
                I32(1),
                path,
                length,
                flags,
                all,
                all,
                I32(0),
                result,
            ]
        }
        _ => return None,
    })
}

/// A process as a destination.
fn process(dice: &mut Dice) -> Vec<Operand> {
    [&[Operand::I32(0)][..], &known_id(dice)].concat()
}

/// A tag and a format.
fn tag(dice: &mut Dice) -> Vec<Operand> {
    let small = |number: u64| Operand::I32(number as i32);
    vec![small(dice.below(3)), small(dice.below(2))]
}

fn delay(dice: &mut Dice) -> Operand {
    Operand::I64(*dice.pick(&[0, 1, 1000, 1_000_000, 100_000_000, i64::MAX]))
}

/// A pid or a reference: from a place where one may lie, or made up.
fn id(dice: &mut Dice) -> [Operand; 2] {
    match dice.below(20) {
        0..4 => [i64_edge(dice), i64_edge(dice)].map(Operand::I64),
        // The number of a neighbour, perhaps.
        4 => [known_id(dice)[0], Operand::I64(i64_edge(dice))],
        _ => known_id(dice),
    }
}

fn known_id(dice: &mut Dice) -> [Operand; 2] {
    let at = match dice.below(10) {
        0..4 => OWN_PID,
        4 => HOST_PID,
        _ => result(dice) + 8 * dice.below(2) as i32,
    };
    [Operand::I64At(at), Operand::I64At(at + 8)]
}

fn text(dice: &mut Dice) -> [Operand; 2] {
    let [address, length] = known_text(dice);
    match dice.below(8) {
        0 => [address, Operand::I32(0)],
        1 => [address, Operand::I32(*dice.pick(&[255, 256, 300, 5000]))],
        2 => {
            let which = dice.below(TEXTS.len() as u64) as i32;
            [Operand::I32(STRINGS + TEXT_BYTES * which), Operand::I32(2)]
        }
        _ => [address, length],
    }
}

fn known_text(dice: &mut Dice) -> [Operand; 2] {
    let which = dice.below(TEXTS_UTF8) as usize;
    [
        Operand::I32(STRINGS + TEXT_BYTES * which as i32),
        Operand::I32(TEXTS[which].len() as i32),
    ]
}

fn result(dice: &mut Dice) -> i32 {
    RESULTS + RESULT_BYTES * dice.below(RESULTS_COUNT) as i32
}

/// A number of 32 bits: an address, a length, a flag, at an edge or not.
pub fn i32_edge(dice: &mut Dice, memory: &Memory) -> i32 {
    match dice.below(100) {
        0..30 => result(dice),
        30..55 => dice.below(9) as i32,
        55..65 => *dice.pick(&[10, 16, 24, 100, 255, 256, 4096, 65_536, 1 << 20]),
        65..75 => memory.end() - *dice.pick(&[0, 1, 2, 4, 8, 12, 16, 24, 32, 64, 80, 128]),
        75..85 => *dice.pick(&[-1, i32::MIN, i32::MAX, -8, -16, -4096]),
        85..95 => memory.inside(dice, 1),
        _ => dice.any() as i32,
    }
}

/// A number of 64 bits: a time, a part of an id, at an edge or not.
pub fn i64_edge(dice: &mut Dice) -> i64 {
    match dice.below(100) {
        0..30 => dice.below(4) as i64,
        30..55 => *dice.pick(&[1_000, 1_000_000, 10_000_000, 1_000_000_000]),
        55..80 => *dice.pick(&[-1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) - 1, 1 << 32]),
        _ => dice.any() as i64 >> dice.below(64),
    }
}
