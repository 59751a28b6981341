//! @generated from `wit/process.wit` by `cargo xtask contract`. `cargo xtask tidy` fails if it is edited by hand.
//!
//! Sizes, offsets and the numbers of cases, as the canonical ABI lays values out in memory.
//!
//! A type's module has its size in bytes, its alignment, and both as a `Layout`. A record has the offset of each field
//! beside that, a variant the number of each case and the offset `VALUE` of its content, flags a bit each.

#![allow(
    dead_code,
    reason = "the host does not read or write every type by hand"
)]

use crate::abi::Layout;

/// Every `list` and `string`: where its elements lie, and how many they are.
pub(crate) mod list {
    use super::Layout;
    pub(crate) const BYTES: usize = 8;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const POINTER: usize = 0;
    pub(crate) const LENGTH: usize = 4;
}

/// The cases of every `option`.
pub(crate) mod option {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const SOME: u32 = 1;
}

/// The cases of every `result`.
pub(crate) mod result {
    pub(crate) const OK: u32 = 0;
    pub(crate) const ERROR: u32 = 1;
}

/// `record pid`
pub(crate) mod pid {
    use super::Layout;
    pub(crate) const BYTES: usize = 16;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const NODE: usize = 0;
    pub(crate) const ID: usize = 8;
}

/// `record reference`
pub(crate) mod reference {
    use super::Layout;
    pub(crate) const BYTES: usize = 16;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const NODE: usize = 0;
    pub(crate) const ID: usize = 8;
}

/// `variant destination`
pub(crate) mod destination {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const PROCESS: u32 = 0;
    pub(crate) const NAME: u32 = 1;
    pub(crate) const VALUE: usize = 8;
}

/// `enum priority`
pub(crate) mod priority {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const LOW: u32 = 0;
    pub(crate) const NORMAL: u32 = 1;
    pub(crate) const HIGH: u32 = 2;
}

/// `enum overflow`
pub(crate) mod overflow {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const END: u32 = 0;
    pub(crate) const REJECT: u32 = 1;
    pub(crate) const DROP_NEWEST: u32 = 2;
    pub(crate) const DROP_OLDEST: u32 = 3;
}

/// `enum format`
pub(crate) mod format {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const RAW: u32 = 0;
    pub(crate) const EXTERNAL_TERM: u32 = 1;
}

/// `enum budget`
pub(crate) mod budget {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const MEMORY: u32 = 0;
    pub(crate) const MAILBOX: u32 = 1;
    pub(crate) const MESSAGE: u32 = 2;
    pub(crate) const REDUCTIONS: u32 = 3;
    pub(crate) const RESOURCES: u32 = 4;
}

/// `variant exit-reason`
pub(crate) mod exit_reason {
    use super::Layout;
    pub(crate) const BYTES: usize = 12;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const NORMAL: u32 = 0;
    pub(crate) const SHUTDOWN: u32 = 1;
    pub(crate) const SHUTDOWN_WITH: u32 = 2;
    pub(crate) const KILL: u32 = 3;
    pub(crate) const KILLED: u32 = 4;
    pub(crate) const NOPROC: u32 = 5;
    pub(crate) const NOCONNECTION: u32 = 6;
    pub(crate) const TRAP: u32 = 7;
    pub(crate) const EXHAUSTED: u32 = 8;
    pub(crate) const EXIT_CODE: u32 = 9;
    pub(crate) const OTHER: u32 = 10;
    pub(crate) const VALUE: usize = 4;
}

/// `option<reference>`
pub(crate) mod option_reference {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `record message`
pub(crate) mod message {
    use super::Layout;
    pub(crate) const BYTES: usize = 64;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const SENDER: usize = 0;
    pub(crate) const TAG: usize = 16;
    pub(crate) const REFERENCE: usize = 24;
    pub(crate) const FORMAT: usize = 48;
    pub(crate) const PAYLOAD: usize = 52;
}

/// `record exit-signal`
pub(crate) mod exit_signal {
    use super::Layout;
    pub(crate) const BYTES: usize = 32;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const SENDER: usize = 0;
    pub(crate) const REASON: usize = 16;
}

/// `record down-signal`
pub(crate) mod down_signal {
    use super::Layout;
    pub(crate) const BYTES: usize = 56;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const MONITOR: usize = 0;
    pub(crate) const TARGET: usize = 16;
    pub(crate) const REASON: usize = 40;
}

/// `record timer-signal`
pub(crate) mod timer_signal {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const TIMER: usize = 0;
    pub(crate) const TAG: usize = 16;
}

/// `enum group-change`
pub(crate) mod group_change {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const JOINED: u32 = 0;
    pub(crate) const LEFT: u32 = 1;
}

/// `record group-signal`
pub(crate) mod group_signal {
    use super::Layout;
    pub(crate) const BYTES: usize = 40;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const MONITOR: usize = 0;
    pub(crate) const CHANGE: usize = 16;
    pub(crate) const PROCESS: usize = 24;
}

/// `variant event`
pub(crate) mod event {
    use super::Layout;
    pub(crate) const BYTES: usize = 72;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const MESSAGE: u32 = 0;
    pub(crate) const EXIT: u32 = 1;
    pub(crate) const DOWN: u32 = 2;
    pub(crate) const TIMER: u32 = 3;
    pub(crate) const GROUP: u32 = 4;
    pub(crate) const VALUE: usize = 8;
}

/// `record envelope`
pub(crate) mod envelope {
    use super::Layout;
    pub(crate) const BYTES: usize = 40;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const TAG: usize = 0;
    pub(crate) const REFERENCE: usize = 8;
    pub(crate) const FORMAT: usize = 32;
}

/// `flags event-kinds`
pub(crate) mod event_kinds {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const MESSAGE: u8 = 1;
    pub(crate) const EXIT: u8 = 2;
    pub(crate) const DOWN: u8 = 4;
    pub(crate) const TIMER: u8 = 8;
    pub(crate) const GROUP: u8 = 16;
}

/// `variant selector`
pub(crate) mod selector {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const ANY: u32 = 0;
    pub(crate) const TAG: u32 = 1;
    pub(crate) const TAGS: u32 = 2;
    pub(crate) const REFERENCE: u32 = 3;
    pub(crate) const KINDS: u32 = 4;
    pub(crate) const VALUE: usize = 8;
}

/// `enum delivery`
pub(crate) mod delivery {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const DELIVERED: u32 = 0;
    pub(crate) const FULL: u32 = 1;
    pub(crate) const NOPROC: u32 = 2;
}

/// `variant call-error`
pub(crate) mod call_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 16;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const TIMEOUT: u32 = 0;
    pub(crate) const DOWN: u32 = 1;
    pub(crate) const FULL: u32 = 2;
    pub(crate) const VALUE: usize = 4;
}

/// `option<duration>`
pub(crate) mod option_duration {
    use super::Layout;
    pub(crate) const BYTES: usize = 16;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `option<event>`
pub(crate) mod option_event {
    use super::Layout;
    pub(crate) const BYTES: usize = 80;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `result<message, call-error>`
pub(crate) mod result_message_call_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 72;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `enum register-error`
pub(crate) mod register_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const TAKEN: u32 = 0;
    pub(crate) const ALREADY_NAMED: u32 = 1;
    pub(crate) const NOPROC: u32 = 2;
    pub(crate) const BAD_NAME: u32 = 3;
}

/// `result<_, register-error>`
pub(crate) mod result_unit_register_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 2;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 1;
}

/// `option<pid>`
pub(crate) mod option_pid {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `enum join-error`
pub(crate) mod join_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const NOPROC: u32 = 0;
    pub(crate) const BAD_NAME: u32 = 1;
    pub(crate) const TOO_MANY: u32 = 2;
}

/// `record monitored-group`
pub(crate) mod monitored_group {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const MONITOR: usize = 0;
    pub(crate) const MEMBERS: usize = 16;
}

/// `result<_, join-error>`
pub(crate) mod result_unit_join_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 2;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 1;
}

/// `enum right`
pub(crate) mod right {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const SIGNALS: u32 = 0;
    pub(crate) const NAMES: u32 = 1;
    pub(crate) const GROUPS: u32 = 2;
    pub(crate) const TIMERS: u32 = 3;
    pub(crate) const SPAWNING: u32 = 4;
    pub(crate) const INSPECTION: u32 = 5;
    pub(crate) const DEBUGGING: u32 = 6;
    pub(crate) const FILES: u32 = 7;
    pub(crate) const NETWORK: u32 = 8;
    pub(crate) const ENVIRONMENT: u32 = 9;
    pub(crate) const STANDARD_INPUT: u32 = 10;
    pub(crate) const STRANGERS: u32 = 11;
}

/// `variant spawn-option`
pub(crate) mod spawn_option {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const LINK: u32 = 0;
    pub(crate) const MONITOR: u32 = 1;
    pub(crate) const NAME: u32 = 2;
    pub(crate) const PRIORITY: u32 = 3;
    pub(crate) const MAX_MEMORY: u32 = 4;
    pub(crate) const MAX_MAILBOX: u32 = 5;
    pub(crate) const LABEL: u32 = 6;
    pub(crate) const TREE: u32 = 7;
    pub(crate) const MAX_MESSAGES: u32 = 8;
    pub(crate) const ON_FULL_MAILBOX: u32 = 9;
    pub(crate) const MAX_TIES: u32 = 10;
    pub(crate) const MAX_HANDLES: u32 = 11;
    pub(crate) const MAX_TREE_MEMORY: u32 = 12;
    pub(crate) const MAX_PROCESSES: u32 = 13;
    pub(crate) const MAX_REDUCTIONS: u32 = 14;
    pub(crate) const MAX_RATE: u32 = 15;
    pub(crate) const MAX_OUTPUT: u32 = 16;
    pub(crate) const MAX_OUTPUT_RATE: u32 = 17;
    pub(crate) const MAX_BLOCKING: u32 = 18;
    pub(crate) const WITHOUT: u32 = 19;
    pub(crate) const DIRECTORY: u32 = 20;
    pub(crate) const ADDRESS: u32 = 21;
    pub(crate) const PROGRAM: u32 = 22;
    pub(crate) const OWN_NAMES: u32 = 23;
    pub(crate) const VALUE: usize = 8;
}

/// `variant spawn-error`
pub(crate) mod spawn_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 12;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const UNKNOWN_PROGRAM: u32 = 0;
    pub(crate) const UNKNOWN_FUNCTION: u32 = 1;
    pub(crate) const TOO_MANY_PROCESSES: u32 = 2;
    pub(crate) const NO_MEMORY: u32 = 3;
    pub(crate) const ARGUMENT_TOO_LARGE: u32 = 4;
    pub(crate) const NAME_TAKEN: u32 = 5;
    pub(crate) const NOT_GRANTED: u32 = 6;
    pub(crate) const NOT_SUPPORTED: u32 = 7;
    pub(crate) const OTHER: u32 = 8;
    pub(crate) const VALUE: usize = 4;
}

/// `option<string>`
pub(crate) mod option_string {
    use super::Layout;
    pub(crate) const BYTES: usize = 12;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 4;
}

/// `result<pid, spawn-error>`
pub(crate) mod result_pid_spawn_error {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `enum status`
pub(crate) mod status {
    use super::Layout;
    pub(crate) const BYTES: usize = 1;
    pub(crate) const ALIGNMENT: u32 = 1;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const RUNNING: u32 = 0;
    pub(crate) const RUNNABLE: u32 = 1;
    pub(crate) const WAITING: u32 = 2;
    pub(crate) const WAITING_FOR_HOST: u32 = 3;
    pub(crate) const SUSPENDED: u32 = 4;
    pub(crate) const EXITING: u32 = 5;
    pub(crate) const HOST: u32 = 6;
}

/// `option<u64>`
pub(crate) mod option_u64 {
    use super::Layout;
    pub(crate) const BYTES: usize = 16;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `record spent`
pub(crate) mod spent {
    use super::Layout;
    pub(crate) const BYTES: usize = 24;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const USED: usize = 0;
    pub(crate) const LIMIT: usize = 8;
}

/// `option<u32>`
pub(crate) mod option_u32 {
    use super::Layout;
    pub(crate) const BYTES: usize = 8;
    pub(crate) const ALIGNMENT: u32 = 4;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 4;
}

/// `record tree-info`
pub(crate) mod tree_info {
    use super::Layout;
    pub(crate) const BYTES: usize = 128;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const ROOT: usize = 0;
    pub(crate) const MEMORY: usize = 16;
    pub(crate) const PROCESSES: usize = 40;
    pub(crate) const REDUCTIONS: usize = 64;
    pub(crate) const OUTPUT: usize = 88;
    pub(crate) const RATE: usize = 112;
    pub(crate) const WAITING: usize = 120;
}

/// `option<tree-info>`
pub(crate) mod option_tree_info {
    use super::Layout;
    pub(crate) const BYTES: usize = 136;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}

/// `record process-info`
pub(crate) mod process_info {
    use super::Layout;
    pub(crate) const BYTES: usize = 296;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const STATUS: usize = 0;
    pub(crate) const PRIORITY: usize = 1;
    pub(crate) const TRAP_EXIT: usize = 2;
    pub(crate) const HIBERNATES: usize = 3;
    pub(crate) const REDUCTIONS: usize = 8;
    pub(crate) const MEMORY_BYTES: usize = 16;
    pub(crate) const MAILBOX_EVENTS: usize = 24;
    pub(crate) const MAILBOX_BYTES: usize = 32;
    pub(crate) const TIMERS: usize = 40;
    pub(crate) const AGE: usize = 48;
    pub(crate) const PARENT: usize = 56;
    pub(crate) const NAME: usize = 80;
    pub(crate) const LABEL: usize = 92;
    pub(crate) const PROGRAM: usize = 104;
    pub(crate) const FUNCTION: usize = 112;
    pub(crate) const CURRENT_FUNCTION: usize = 120;
    pub(crate) const LINKS: usize = 128;
    pub(crate) const MONITORS: usize = 136;
    pub(crate) const MONITORED_BY: usize = 144;
    pub(crate) const MAILBOX_DROPPED: usize = 152;
    pub(crate) const TREE: usize = 160;
}

/// `record system-counters`
pub(crate) mod system_counters {
    use super::Layout;
    pub(crate) const BYTES: usize = 56;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const PROCESSES: usize = 0;
    pub(crate) const SPAWNED: usize = 8;
    pub(crate) const CRASHED: usize = 16;
    pub(crate) const REDUCTIONS: usize = 24;
    pub(crate) const NAMES: usize = 32;
    pub(crate) const GROUPS: usize = 40;
    pub(crate) const TIMERS: usize = 48;
}

/// `option<process-info>`
pub(crate) mod option_process_info {
    use super::Layout;
    pub(crate) const BYTES: usize = 304;
    pub(crate) const ALIGNMENT: u32 = 8;
    pub(crate) const LAYOUT: Layout<BYTES, ALIGNMENT> = Layout;
    pub(crate) const VALUE: usize = 8;
}
