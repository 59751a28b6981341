//! Every attack beside a program that does ordinary work, one row each.
//!
//! The program is the guest below, on two schedulers:
//!
//! - *talker* calls a server with payloads of all lengths up to 3000 bytes, and checks every byte of every answer;
//! - *reader* opens a file in the granted folder, reads it and checks it, again and again;
//! - *nursery* spawns processes of another program, which check that their memory begins as their module says. It monitors a
//!   group by a name that attackers also use, and has processes print an unfinished line;
//! - *main* starts the attackers, and restarts each that ends. When each has reported that it is at work (tag 9), or has
//!   ended, main tells the three to count. Each runs its rounds, then reports that it has finished. At the end main kills
//!   the attackers.
//!
//! The attackers may end or be killed, get errors, or be slow. The three must do all their work right.

use atoll_tests::{Atoll, Guest, Outcome, TIE_FUNCTIONS, TIES};
use std::process::Command;

/// The number of rounds of each of the three while the attackers work.
const ROUNDS: u32 = 100;
/// The number of lines in the file of *reader*. A line is eight bytes.
const FILE_LINES: u32 = 600;

/// One row: an attacker, and the options that it needs.
struct Attack {
    /// The attackers' program, a module or a component.
    text: &'static str,
    /// The number of attackers at once.
    processes: u32,
    /// Further options of the command line.
    options: &'static [&'static str],
    /// Programs that attackers spawn, by name.
    programs: &'static [(&'static str, &'static str)],
}

impl Attack {
    const fn of(text: &'static str, processes: u32) -> Attack {
        Attack {
            text,
            processes,
            options: &["--quiet"],
            programs: &[],
        }
    }
}

/// The text of an attacker's file.
macro_rules! attacker {
    ($name:literal) => {
        include_str!(concat!(
            "../../../../host/src/bin/atoll/fuzz/attackers/corpus/",
            $name,
            ".wat"
        ))
    };
}

/// A test for each row: its name, and the attack.
macro_rules! attacks {
    ($($name:ident: $attack:expr;)+) => {
        $(
            #[test]
            fn $name() {
                check(&$attack);
            }
        )+
    };
}

attacks! {
    // Memory.
    writers_beyond_a_memory_of_no_pages: Attack::of(attacker!("zero-page-memory"), 4);
    writers_beyond_a_second_memory_of_no_pages: Attack::of(attacker!("zero-page-second-memory"), 4);
    growers_of_memories_that_they_do_not_touch: Attack {
        options: &["--quiet", "--hibernate-after", "never", "--max-total-memory", "65536GiB"],
        ..Attack::of(attacker!("untouched-memories"), 1)
    };
    growers_that_use_up_addresses: Attack {
        options: &["--quiet", "--hibernate-after", "never", "--max-total-memory", "65536GiB"],
        ..Attack::of(attacker!("address-space"), 1)
    };
    hoarders_of_memory: Attack {
        options: &["--quiet", "--max-memory", "64MiB"],
        ..Attack::of(attacker!("memory-hoard"), 4)
    };
    // Names and groups.
    processes_with_hostile_names: Attack {
        options: &[],
        ..Attack::of(attacker!("hostile-names"), 2)
    };
    holders_of_many_names: Attack::of(attacker!("name-bomb"), 2);
    monitors_of_long_names: Attack::of(attacker!("down-bomb"), 2);
    timers_to_long_names: Attack::of(attacker!("timer-bomb"), 2);
    squatters_of_a_group: Attack::of(attacker!("group-squat"), 1);
    // Long calls and unpaid work.
    demonitors_of_full_mailboxes: Attack::of(attacker!("demonitor"), 2);
    unpaid_instructions: Attack::of(attacker!("unpaid"), 4);
    strings_of_components: Attack::of(attacker!("component-strings"), 2);
    // Processes and their ends.
    spawners_without_end: Attack {
        options: &["--quiet", "--max-processes", "500"],
        ..Attack::of(attacker!("spawn-bomb"), 2)
    };
    processes_that_end_badly: Attack::of(attacker!("trap-storm"), 8);
    programs_that_can_not_be_started: Attack {
        programs: &[
            ("bad-data", r#"(module (memory (export "memory") 1) (data (i32.const 65536) "x") (func (export "run")))"#),
            ("bad-table", r#"(module (table 2000000 funcref) (func (export "run")))"#),
        ],
        ..Attack::of(attacker!("start-failures"), 4)
    };
    // Output and files.
    floods_without_an_end_of_line: Attack::of(attacker!("print-flood"), 4);
    writers_of_empty_pieces: Attack::of(attacker!("empty-pieces"), 2);
    openers_of_a_fifo: Attack::of(attacker!("fifo"), 80);
}

const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
"#;

/// Payloads are at 0x10000 and the file's text is at 0x12000. Main keeps its attackers from 0x18000 on, 32 bytes each: pid,
/// and the monitor's reference.
const BODY: &str = r#"
  ;; A payload that differs in each round.
  (func $payload-byte (param $round i32) (param $at i32) (result i32)
    (i32.and (i32.const 255)
      (i32.add (i32.mul (local.get $round) (i32.const 31)) (i32.mul (local.get $at) (i32.const 7)))))

  (func $talk (param $round i32)
    (local $bytes i32) (local $at i32) (local $answer i32)
    (local.set $bytes (i32.rem_u (i32.mul (local.get $round) (i32.const 97)) (i32.const 3001)))
    (loop $next
      (i32.store8 offset=0x10000 (local.get $at) (call $payload-byte (local.get $round) (local.get $at)))
      (br_if $next (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 1))) (local.get $bytes))))
    (call $must (i32.eqz (call $request (i32.const 272) (local.get $round)
      (i32.const 0x10000) (local.get $bytes) (i64.const -1))))
    (call $must (call $same (i32.const 2136) (i32.const 272)))
    (call $must (i32.eq (i32.load (i32.const 2152)) (i32.add (local.get $round) (i32.const 1))))
    (call $must (i32.eq (i32.load (i32.const 2192)) (local.get $bytes)))
    (local.set $answer (i32.load (i32.const 2188)))
    (loop $next
      (if (local.get $bytes)
        (then
          (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
          (call $must (i32.eq
            (i32.load8_u (i32.add (local.get $answer) (local.get $bytes)))
            (call $payload-byte (local.get $round) (local.get $bytes))))
          (br $next)))))

  ;; Reads the file to its end. Each line is its number in octal digits.
  (func $read-file
    (local $line i32) (local $at i32) (local $digit i32)
    (call $must (i32.eqz (call $path_open (i32.const 3) (i32.const 0) %"file" (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 1024))))
    (local.set $at (i32.const 0x12000))
    (i32.store (i32.const 1036) (i32.const 4096))
    (loop $more
      (i32.store (i32.const 1032) (local.get $at))
      (call $must (i32.eqz
        (call $fd_read (i32.load (i32.const 1024)) (i32.const 1032) (i32.const 1) (i32.const 1040))))
      (local.set $at (i32.add (local.get $at) (i32.load (i32.const 1040))))
      (br_if $more (i32.load (i32.const 1040))))
    (call $must (i32.eqz (call $fd_close (i32.load (i32.const 1024)))))
    (call $must (i32.eq (local.get $at) (i32.add (i32.const 0x12000) (i32.mul (i32.const 8) (i32.const FILE_LINES)))))
    (local.set $at (i32.const 0x12000))
    (loop $lines
      (local.set $digit (i32.const 18))
      (loop $digits
        (call $must (i32.eq (i32.load8_u (local.get $at))
          (i32.or (i32.const 48) (i32.and (i32.const 7) (i32.shr_u (local.get $line) (local.get $digit))))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $digits (i32.ge_s (local.tee $digit (i32.sub (local.get $digit) (i32.const 3))) (i32.const 0))))
      (call $must (i32.eq (i32.load8_u (local.get $at)) (i32.const 10)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $lines (i32.lt_u
        (local.tee $line (i32.add (local.get $line) (i32.const 1))) (i32.const FILE_LINES)))))

  ;; Spawns a monitored process of a program, or of this program if the name is empty. Returns -1, or the error's case.
  (func $bear (param $program i32) (param $bytes i32) (param $function i32) (param $function-bytes i32)
    (param $slot i32) (result i32)
    (call $self (i32.const 16))
    (call $make-reference (i32.const 192))
    (i32.store8 (i32.const 1024) (i32.const 1))
    (call $copy-id (i32.const 192) (i32.const 1032))
    (call $spawn (i32.ne (local.get $bytes) (i32.const 0)) (local.get $program) (local.get $bytes)
      (local.get $function) (local.get $function-bytes) (i32.const 16) (i32.const 16)
      (i32.const 1024) (i32.const 1) (i32.const 64))
    (call $spawned (local.get $slot)))

  ;; The same with a process that soon ends well. The spawn may fail if there are already as many processes as allowed (error
  ;; 2), and, as long as the attackers only prepare, if there is no room for its memory (3 or 8).
  (func $bear-well (param $program i32) (param $bytes i32) (param $function i32) (param $function-bytes i32) (result i32)
    (local $error i32)
    (local.set $error (call $bear
      (local.get $program) (local.get $bytes) (local.get $function) (local.get $function-bytes) (i32.const 272)))
    (if
      (i32.or
        (i32.eq (local.get $error) (i32.const 2))
        (i32.and
          (i32.eqz (global.get $counts))
          (i32.or (i32.eq (local.get $error) (i32.const 3)) (i32.eq (local.get $error) (i32.const 8)))))
      (then (call $yield-now) (return (i32.const 0))))
    (if (i32.ne (local.get $error) (i32.const -1))
      (then (call $print %"nursery: nobody is born, for this error") (call $print-number (local.get $error)) (unreachable)))
    (local.set $error (call $take-down-of (i32.const 192)))
    (if (local.get $error)
      (then (call $print %"nursery: one ended for this reason") (call $print-number (local.get $error)) (unreachable)))
    (i32.const 1))

  (global $whispers (mut i32) (i32.const 0))
  (func (export "whisper") (call $must (i32.eqz (call $write %"whisper"))))

  (func $nurse
    (drop (call $bear-well %"newborn" (i32.const 0) (i32.const 0)))
    ;; A size of memory that no process has before all attackers are at work.
    (if (global.get $counts)
      (then (drop (call $bear-well %"late" (i32.const 0) (i32.const 0)))))
    (global.set $whispers (i32.add (global.get $whispers)
      (call $bear-well (i32.const 0) (i32.const 0) %"whisper")))
    (call $monitor-group %"workers" (i32.const 2104))
    (drop (call $demonitor-group (i64.load (i32.const 2104)) (i64.load (i32.const 2112)))))

  (global $counts (mut i32) (i32.const 0))

  ;; Runs rounds without end until main sends the number of the remaining rounds (tag 5), and then that many.
  (func $works (param $what i32)
    (local $round i32) (local $left i32)
    (call $parent (i32.const 256))
    (loop $again
      (if (i32.eqz (local.get $what)) (then (call $talk (local.get $round))))
      (if (i32.eq (local.get $what) (i32.const 1)) (then (call $read-file)))
      (if (i32.eq (local.get $what) (i32.const 2)) (then (call $nurse)))
      (local.set $round (i32.add (local.get $round) (i32.const 1)))
      (if (global.get $counts)
        (then (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (else
          (if (call $poll (i32.const 5))
            (then (global.set $counts (i32.const 1)) (local.set $left (i32.const ROUNDS))))
          (br $again)))))

  (func (export "talker")
    (call $start %"server" (i32.const 272))
    (call $works (i32.const 0))
    (call $print %"talker: all answers are right")
    (call $post (i32.const 256) (i32.const 8)))
  (func (export "reader")
    (call $works (i32.const 1))
    (call $print %"reader: the file is as it was")
    (call $post (i32.const 256) (i32.const 8)))
  (func (export "nursery")
    (call $works (i32.const 2))
    (call $print-number (global.get $whispers))
    (call $post (i32.const 256) (i32.const 8)))

  ;; The number of attackers that have reported that they are at work, have ended, or could not be started.
  (global $at-work (mut i32) (i32.const 0))

  ;; Starts an attacker. Its entry stays empty if it can't be started.
  (func $attack (param $place i32)
    (if (i32.eq (i32.const -1) (call $bear %"attacker" (i32.const 0) (i32.const 0) (local.get $place)))
      (then (call $copy-id (i32.const 192) (i32.add (local.get $place) (i32.const 16))))
      (else
        (i64.store (local.get $place) (i64.const 0))
        (global.set $at-work (i32.add (global.get $at-work) (i32.const 1))))))
  ;; The entry of the attacker whose monitor has fired, or 0.
  (func $fallen (result i32)
    (local $place i32)
    (local.set $place (i32.const 0x18000))
    (loop $next
      (if (call $same (i32.add (local.get $place) (i32.const 16)) (i32.const 112))
        (then (return (local.get $place))))
      (br_if $next (i32.lt_u
        (local.tee $place (i32.add (local.get $place) (i32.const 32)))
        (i32.add (i32.const 0x18000) (i32.mul (i32.const 32) (i32.const ATTACKERS))))))
    (i32.const 0))
  (func $each-place (param $what i32)
    (local $place i32)
    (local.set $place (i32.const 0x18000))
    (loop $next
      (if (local.get $what)
        (then
          (if (i64.ne (i64.load (local.get $place)) (i64.const 0))
            (then
              (call $signal (local.get $place) (i32.const 3))
              (drop (call $take-down-of (i32.add (local.get $place) (i32.const 16)))))))
        (else (call $attack (local.get $place))))
      (br_if $next (i32.lt_u
        (local.tee $place (i32.add (local.get $place) (i32.const 32)))
        (i32.add (i32.const 0x18000) (i32.mul (i32.const 32) (i32.const ATTACKERS)))))))

  (func $tell-all
    (call $post (i32.const 2208) (i32.const 5))
    (call $post (i32.const 2224) (i32.const 5))
    (call $post (i32.const 2240) (i32.const 5)))

  (func (export "run")
    (local $done i32) (local $place i32)
    (call $must (i32.eq (i32.const -1) (call $bear (i32.const 0) (i32.const 0) %"talker" (i32.const 2208))))
    (call $must (i32.eq (i32.const -1) (call $bear (i32.const 0) (i32.const 0) %"reader" (i32.const 2224))))
    (call $must (i32.eq (i32.const -1) (call $bear (i32.const 0) (i32.const 0) %"nursery" (i32.const 2240))))
    (call $each-place (i32.const 0))
    (loop $next
      (drop (call $take-any))
      (if (i32.eqz (i32.load8_u (i32.const 104)))
        (then
          (if (i32.eq (i32.load (i32.const 128)) (i32.const 9))
            (then (global.set $at-work (i32.add (global.get $at-work) (i32.const 1)))))
          (if (i32.eq (i32.load (i32.const 128)) (i32.const 8))
            (then (local.set $done (i32.add (local.get $done) (i32.const 1))))))
        (else
          (if (local.tee $place (call $fallen))
            (then
              (global.set $at-work (i32.add (global.get $at-work) (i32.const 1)))
              (call $attack (local.get $place)))
            ;; One of the three: it must end well, after it has reported that it has finished.
            (else (call $must (i32.eqz (i32.load8_u (i32.const 152))))))))
      (if (i32.ge_u (global.get $at-work) (i32.const ATTACKERS))
        (then (global.set $at-work (i32.const 0x80000000)) (call $tell-all)))
      (br_if $next (i32.lt_u (local.get $done) (i32.const 3))))
    (call $each-place (i32.const 1))
    (call $print %"main: all is well"))
"#;

/// Ends badly if its memories do not begin with zeros. The host makes a process that changes a table from nothing each time:
/// its memories lie where those of another process were.
const NEWBORN: &str = r#"(module
  (memory $first (export "memory") 1 1)
  (memory $second 20 20)
  (table $table 1 funcref)
  (func (export "changes-table") (table.set $table (i32.const 0) (ref.null func)))
  (func (export "run") (local $at i32) (local $sum i64)
    (loop $next
      (local.set $sum (i64.or (local.get $sum)
        (i64.or (i64.load $first (local.get $at)) (i64.load $second (local.get $at)))))
      (br_if $next (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))
    (if (i64.ne (local.get $sum) (i64.const 0)) (then (unreachable)))))"#;
const LATE: &str = r#"(module (memory (export "memory") 8)
  (func (export "run") (i32.store (i32.const 100000) (i32.const 1))))"#;

fn main_guest(attackers: u32) -> String {
    let body = BODY
        .replace("FILE_LINES", &FILE_LINES.to_string())
        .replace("ROUNDS", &ROUNDS.to_string())
        .replace("ATTACKERS", &attackers.to_string());
    Guest {
        imports: &format!("{TIES}{IMPORTS}"),
        body: &format!("{TIE_FUNCTIONS}{body}"),
        ..Guest::default()
    }
    .text()
}

#[track_caller]
fn check(attack: &Attack) {
    let mut atoll = Atoll::run(main_guest(attack.processes))
        .program("attacker", attack.text)
        .program("newborn", NEWBORN)
        .program("late", LATE);
    for (name, text) in attack.programs {
        atoll = atoll.program(name, text);
    }
    let granted = atoll.folder().join("granted");
    std::fs::create_dir(&granted).expect("the folder is there");
    let lines: String = (0..FILE_LINES)
        .map(|line| format!("{line:07o}\n"))
        .collect();
    std::fs::write(granted.join("file"), lines).expect("the folder is there");
    let fifo = Command::new("mkfifo").arg(granted.join("fifo")).status();
    assert!(fifo.is_ok_and(|status| status.success()), "mkfifo fails");
    let outcome = atoll
        .option("--dir")
        .option(format!("{}::/", granted.display()))
        .options(["--schedulers", "2", "--grace", "100ms"])
        .options(attack.options)
        .outcome();
    check_output(outcome);
}

/// The neighbours print the right lines, and no line deceives the reader or reports a defect.
#[track_caller]
fn check_output(outcome: Outcome) {
    // A flood's line repeats one letter.
    let is_of_flood = |line: &str| line.bytes().all(|byte| byte == b'x');
    let mut lines: Vec<&str> = outcome
        .stdout
        .lines()
        .filter(|line| !is_of_flood(line))
        .collect();
    lines.sort_unstable();
    let whispers = lines.iter().filter(|line| **line == "whisper").count();
    lines.retain(|line| *line != "whisper");
    let whispers = whispers.to_string();
    let expected = [
        whispers.as_str(),
        "main: all is well",
        "reader: the file is as it was",
        "talker: all answers are right",
    ];
    assert!(
        lines == expected,
        "the neighbours do not print {expected:#?} but {lines:#?}\n{outcome}"
    );
    let is_shown = |character: char| match character {
        '\n' => true,
        // Marks that change the direction of a text, end a line or are invisible.
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => false,
        _ => !character.is_control(),
    };
    let odd = outcome.stderr.chars().find(|it| !is_shown(*it));
    assert!(
        odd.is_none() && !outcome.stderr.contains("defect"),
        "standard error holds {odd:?}, or tells of a defect\n{outcome}"
    );
    outcome.code(0);
}
