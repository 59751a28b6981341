//! A second prelude, for cases about the other parts of the contract: signals, names, groups, timers, calls.
//!
//! It comes after the first prelude and shares its memory. It also uses:
//!
//! ```text
//!       104  the last received event: its case
//!       112  its payload. Of an exit-signal: sender at 112, reason's case at 128, what it carries at 132.
//!            Of a down-signal: monitor at 112, target's case at 128, pid or name at 136, reason's case at 152, what it
//!            carries at 156. Of a timer-signal: timer at 112, tag at 128. Of a group-signal: monitor at 112, change
//!            at 128, process at 136
//!      2048  the result of the last registration or join (2 bytes)
//!      2056  the result of the last search for a name (24 bytes)
//!      2080  the result of cancelling or reading a timer (16 bytes): is there any at 2080, the time at 2088
//!      2096  the last received list: address and length
//!      2104  a monitored group (24 bytes): the reference, and at 2120 the list
//!      2128  the result of the last call (72 bytes): is it an error at 2128; the answer's sender at 2136, tag at 2152,
//!            payload at 2188, length at 2192; or else the error's case at 2136, reason's case at 2140, what it carries
//!            at 2144
//!      2200  free
//! ```

use crate::Guest;

/// Imports of the contract's other interfaces that need no grant.
pub const TIES: &str = r#"
  (import "atoll-rt:process/lifecycle@0.2.0" "set-priority" (func $set-priority (param i32) (result i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "hibernate" (func $hibernate))
  (import "atoll-rt:process/mailbox@0.2.0" "send-named"
    (func $send-named (param i32 i32 i32 i32 i64 i64 i32 i32 i32) (result i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "call"
    (func $call (param i32 i64 i64 i32 i32 i32 i32 i32 i64 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "reply" (func $reply (param i64 i64 i64 i64 i32 i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "alias" (func $alias (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "unalias" (func $unalias (param i64 i64) (result i32)))
  (import "atoll-rt:process/signals@0.2.0" "exit-process" (func $exit-process (param i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/signals@0.2.0" "trap-exit" (func $trap-exit (param i32) (result i32)))
  (import "atoll-rt:process/signals@0.2.0" "link" (func $link (param i64 i64)))
  (import "atoll-rt:process/signals@0.2.0" "unlink" (func $unlink (param i64 i64)))
  (import "atoll-rt:process/signals@0.2.0" "monitor" (func $monitor (param i32 i64 i64 i32)))
  (import "atoll-rt:process/signals@0.2.0" "demonitor" (func $demonitor (param i64 i64 i32) (result i32)))
  (import "atoll-rt:process/names@0.2.0" "register" (func $register (param i32 i32 i64 i64 i32)))
  (import "atoll-rt:process/names@0.2.0" "unregister" (func $unregister (param i32 i32) (result i32)))
  (import "atoll-rt:process/names@0.2.0" "whereis" (func $whereis (param i32 i32 i32)))
  (import "atoll-rt:process/names@0.2.0" "registered" (func $registered (param i32)))
  (import "atoll-rt:process/groups@0.2.0" "join" (func $join (param i32 i32 i64 i64 i32)))
  (import "atoll-rt:process/groups@0.2.0" "leave" (func $leave (param i32 i32 i64 i64) (result i32)))
  (import "atoll-rt:process/groups@0.2.0" "members" (func $members (param i32 i32 i32)))
  (import "atoll-rt:process/groups@0.2.0" "which-groups" (func $which-groups (param i32)))
  (import "atoll-rt:process/groups@0.2.0" "monitor" (func $monitor-group (param i32 i32 i32)))
  (import "atoll-rt:process/groups@0.2.0" "demonitor" (func $demonitor-group (param i64 i64) (result i32)))
  (import "atoll-rt:process/timers@0.2.0" "send-after"
    (func $send-after (param i64 i32 i64 i64 i32 i32 i64 i64 i32 i32 i32 i32)))
  (import "atoll-rt:process/timers@0.2.0" "start-timer" (func $start-timer (param i64 i32 i64 i64 i32 i32)))
  (import "atoll-rt:process/timers@0.2.0" "cancel-timer" (func $cancel-timer (param i64 i64 i32)))
  (import "atoll-rt:process/timers@0.2.0" "read-timer" (func $read-timer (param i64 i64 i32)))
"#;

/// Imports that `--allow-inspect` and `--allow-debug` grant.
pub const TOOLS: &str = r#"
  (import "atoll-rt:process/inspection@0.2.0" "processes" (func $processes (param i32)))
  (import "atoll-rt:process/inspection@0.2.0" "info" (func $info (param i64 i64 i32)))
  (import "atoll-rt:process/inspection@0.2.0" "counters" (func $counters (param i32)))
  (import "atoll-rt:process/debugging@0.2.0" "suspend" (func $suspend (param i64 i64) (result i32)))
  (import "atoll-rt:process/debugging@0.2.0" "resume" (func $resume (param i64 i64) (result i32)))
"#;

/// Functions that use [`TIES`].
pub const TIE_FUNCTIONS: &str = r#"
  (func $trap-exits (drop (call $trap-exit (i32.const 1))))

  (func $link-to (param $slot i32)
    (call $link (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))

  (func $unlink-from (param $slot i32)
    (call $unlink (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))

  (func $watch (param $slot i32) (param $monitor i32)
    (call $monitor (i32.const 0) (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))
      (local.get $monitor)))

  (func $watch-name (param $name i32) (param $bytes i32) (param $monitor i32)
    (call $monitor (i32.const 1) (i64.extend_i32_u (local.get $name)) (i64.extend_i32_u (local.get $bytes))
      (local.get $monitor)))

  (func $unwatch (param $monitor i32) (param $flush i32) (result i32)
    (call $demonitor (i64.load (local.get $monitor)) (i64.load offset=8 (local.get $monitor)) (local.get $flush)))

  ;; Sends an exit signal whose reason carries nothing, or zeros.
  (func $signal (param $slot i32) (param $case i32)
    (call $exit-process (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))
      (local.get $case) (i32.const 0) (i32.const 0)))

  ;; Sends an exit signal with a reason of its own.
  (func $signal-bytes (param $slot i32) (param $at i32) (param $bytes i32)
    (call $exit-process (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))
      (i32.const 10) (local.get $at) (local.get $bytes)))

  ;; Waits for an event of these kinds: 1 message, 2 exit, 4 down, 8 timer, 16 group.
  (func $take-kinds (param $kinds i32)
    (global.set $heap (i32.const 32768))
    (call $receive (i32.const 4) (i64.extend_i32_u (local.get $kinds)) (i64.const 0)
      (i32.const 0) (i64.const 0) (i32.const 96)))

  ;; Waits for an exit-signal, and answers the reason's case.
  (func $take-exit (result i32)
    (call $take-kinds (i32.const 2))
    (i32.load8_u (i32.const 128)))

  ;; Waits for a down-signal, and answers the reason's case.
  (func $take-down (result i32)
    (call $take-kinds (i32.const 4))
    (i32.load8_u (i32.const 152)))

  ;; Waits for an event with a reference.
  (func $take-reference (param $slot i32)
    (global.set $heap (i32.const 32768))
    (call $receive (i32.const 3) (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))
      (i32.const 0) (i64.const 0) (i32.const 96)))

  ;; The same for a monitor: answers the reason's case.
  (func $take-down-of (param $monitor i32) (result i32)
    (call $take-reference (local.get $monitor))
    (call $must (i32.eq (i32.load8_u (i32.const 104)) (i32.const 2)))
    (i32.load8_u (i32.const 152)))

  ;; Is the mailbox empty? If not, takes an event.
  (func $is-empty (result i32)
    (global.set $heap (i32.const 32768))
    (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 1) (i64.const 0) (i32.const 96))
    (i32.eqz (i32.load8_u (i32.const 96))))

  ;; Sleeps for this many milliseconds.
  (func $pass (param $milliseconds i64)
    (call $receive (i32.const 4) (i64.const 0) (i64.const 0)
      (i32.const 1) (i64.mul (local.get $milliseconds) (i64.const 1000000)) (i32.const 96))
    (call $must (i32.eqz (i32.load8_u (i32.const 96)))))

  ;; Are two pids or references the same?
  (func $same (param $one i32) (param $other i32) (result i32)
    (i32.and
      (i64.eq (i64.load (local.get $one)) (i64.load (local.get $other)))
      (i64.eq (i64.load offset=8 (local.get $one)) (i64.load offset=8 (local.get $other)))))

  (func $lives (param $slot i32) (result i32)
    (call $is-alive (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))

  ;; Kills a process, and waits until it has ended.
  (func $end (param $slot i32)
    (call $watch (local.get $slot) (i32.const 2032))
    (call $signal (local.get $slot) (i32.const 3))
    (drop (call $take-down-of (i32.const 2032))))

  ;; Answers -1, or the error's case.
  (func $outcome (result i32)
    (if (result i32) (i32.load8_u (i32.const 2048)) (then (i32.load8_u (i32.const 2049))) (else (i32.const -1))))

  (func $name (param $name i32) (param $bytes i32) (param $slot i32) (result i32)
    (call $register (local.get $name) (local.get $bytes)
      (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (i32.const 2048))
    (call $outcome))

  (func $enter (param $group i32) (param $bytes i32) (param $slot i32) (result i32)
    (call $join (local.get $group) (local.get $bytes)
      (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (i32.const 2048))
    (call $outcome))

  (func $quit (param $group i32) (param $bytes i32) (param $slot i32) (result i32)
    (call $leave (local.get $group) (local.get $bytes)
      (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot))))

  ;; Is this the process with that name?
  (func $is-named (param $name i32) (param $bytes i32) (param $slot i32) (result i32)
    (call $whereis (local.get $name) (local.get $bytes) (i32.const 2056))
    (i32.and (i32.load8_u (i32.const 2056)) (call $same (i32.const 2064) (local.get $slot))))

  (func $is-nobody (param $name i32) (param $bytes i32) (result i32)
    (call $whereis (local.get $name) (local.get $bytes) (i32.const 2056))
    (i32.eqz (i32.load8_u (i32.const 2056))))

  ;; Calls a process, with a tag and these bytes. A negative timeout is none. Answers 0 if the process answered, 1 after
  ;; the timeout, 2 if the process is down.
  (func $request
    (param $slot i32) (param $tag i32) (param $at i32) (param $bytes i32) (param $milliseconds i64) (result i32)
    (global.set $heap (i32.const 32768))
    (call $call (i32.const 0) (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (local.get $tag)
      (i32.const 0) (local.get $at) (local.get $bytes)
      (i64.ge_s (local.get $milliseconds) (i64.const 0)) (i64.mul (local.get $milliseconds) (i64.const 1000000))
      (i32.const 2128))
    (call $answered))

  (func $answered (result i32)
    (if (result i32) (i32.load8_u (i32.const 2128))
      (then (i32.add (i32.const 1) (i32.load8_u (i32.const 2136))))
      (else (i32.const 0))))

  ;; Answers the last received message with a tag and these bytes.
  (func $answer (param $tag i32) (param $at i32) (param $bytes i32)
    (call $reply (i64.load (i32.const 112)) (i64.load (i32.const 120))
      (i64.load (i32.const 144)) (i64.load (i32.const 152)) (local.get $tag) (i32.const 0)
      (local.get $at) (local.get $bytes)))

  ;; Answers every message with its own payload and the next tag.
  (func $server (export "server")
    (loop $next
      (drop (call $take-any))
      (call $answer (i32.add (i32.load (i32.const 128)) (i32.const 1))
        (i32.load (i32.const 164)) (i32.load (i32.const 168)))
      (br $next)))

  ;; Takes events and does nothing else.
  (func $stays (export "stays")
    (loop $next (drop (call $take-any)) (br $next)))

  ;; The same, but traps exits. Sends a message with tag 7 when it does.
  (func $traps (export "traps")
    (call $trap-exits)
    (call $parent (i32.const 240))
    (call $post (i32.const 240) (i32.const 7))
    (call $stays))
"#;

/// A guest that uses every part of the contract that needs no grant, and can print.
pub fn tied_guest(body: &str) -> String {
    Guest {
        imports: TIES,
        body: &format!("{TIE_FUNCTIONS}\n{body}"),
        ..Guest::default()
    }
    .text()
}
