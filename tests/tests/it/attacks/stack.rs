//! Deep stacks: as deep as usual programs go, as deep as the stack allows, and with functions whose names take a demangler
//! long to read. No bytes of the host may ever appear in a guest's memory.

use super::valid;
use atoll_tests::{Atoll, Guest, Outcome, Signal, TIE_FUNCTIONS, TIES, TOOLS, guest};
use std::fmt::Write;

/// Names that make a demangler recurse deeply, or work much.
fn hostile_names() -> Vec<(&'static str, String)> {
    // The demangler gives up at 500 levels, so a few less make it go all the way.
    const LEVELS: usize = 498;
    let nested = |start: &str, level: &str, middle: &str, end: &str| {
        format!(
            "{start}{}{middle}{}",
            level.repeat(LEVELS),
            end.repeat(LEVELS)
        )
    };
    vec![
        ("plain", "f".into()),
        ("paths", nested("_R", "Nv", "C1a", "1b")),
        ("references", nested("_RINvC1a1b", "R", "uE", "")),
        ("tuples", nested("_RINvC1a1b", "T", "u", "E") + "E"),
        ("generics", nested("_R", "I", "C1a", "uE")),
        ("slices", nested("_RINvC1a1b", "S", "uE", "")),
        ("constants", nested("_RINvC1a1bK", "R", "e616263_E", "")),
        ("too-deep", format!("_R{}C1a", "Nv".repeat(20_000))),
        ("back-references", back_references()),
        (
            "legacy",
            format!("_ZN{}17h0123456789abcdefE", "1a".repeat(20_000)),
        ),
        (
            "legacy-escapes",
            format!("_ZN{}17h0123456789abcdefE", "4$LT$".repeat(20_000)),
        ),
        (
            "legacy-lengths",
            "_ZN99999999999999999999999999999aE".into(),
        ),
        ("cpp-pointers", format!("_Z1f{}i", "P".repeat(50_000))),
        (
            "cpp-templates",
            format!("_Z{}{}v", "1fI".repeat(10_000), "E".repeat(10_000)),
        ),
        (
            "control-characters",
            "\\1b[2J\\1b[31m\\0a\\0dcrash: process".repeat(50),
        ),
        ("long", "x".repeat(90_000)),
    ]
}

/// A name that grows by half with each of its twenty levels: a tuple of two references to the level before.
fn back_references() -> String {
    let base_62 = |number: usize| -> String {
        const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let digit = |digit: usize| char::from(DIGITS[digit]);
        // The number is one more than its digits say. No digits mean zero.
        match number.checked_sub(1) {
            None => "_".into(),
            Some(low @ 0..62) => format!("{}_", digit(low)),
            Some(high) => format!("{}{}_", digit(high / 62), digit(high % 62)),
        }
    };
    let mut name = String::from("_RINvC1a1b");
    let mut last = name.len() - "_R".len();
    name += "TuuE";
    for _ in 0..20 {
        let reference = format!("B{}", base_62(last));
        last = name.len() - "_R".len();
        let _ = write!(name, "T{reference}{reference}E");
    }
    name + "E"
}

/// A guest whose process recurses into a function of this name. The depth is in its argument, behind the parent's pid. It
/// tells its parent (tag 7) and waits at that depth. When main tells it to go on, it returns and reports whether the free
/// part of its memory is all zero (tag 8) or not (tag 9).
fn deep_guest(name: &str, limits: &str) -> Vec<u8> {
    let body = format!(
        "(func $\"{name}\" (param $left i32) (result i32)
           (if (result i32) (local.get $left)
             (then (i32.add (i32.const 1) (call $\"{name}\" (i32.sub (local.get $left) (i32.const 1)))))
             (else
               (call $post (i32.const 256) (i32.const 7))
               (call $receive (i32.const 0) (i64.const 0) (i64.const 0)
                 (i32.const 0) (i64.const 0) (i32.const 96))
               (i32.const 0))))
         (func $is-zero (result i32)
           (local $at i32)
           ;; Growth must return zeros as well.
           (drop (memory.grow (i32.const 1)))
           (local.set $at (i32.const 32768))
           (loop $next
             (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 0))))
             (br_if $next (i32.lt_u
               (local.tee $at (i32.add (local.get $at) (i32.const 8)))
               (i32.shl (memory.size) (i32.const 16)))))
           (i32.const 1))
         ;; Copies the argument to a place outside of the checked memory.
         (func $asked-by
           (global.set $heap (i32.const 2048))
           (call $parent (i32.const 256)))
         (func (export \"dives\")
           (local $depth i32)
           (call $asked-by)
           (local.set $depth (i32.load offset=16 (i32.load (i32.const 176))))
           (call $must (i32.eq (call $\"{name}\" (local.get $depth)) (local.get $depth)))
           (call $post (i32.const 256) (i32.sub (i32.const 9) (call $is-zero))))
         ;; The next process in the same slot checks its memory, too.
         (func (export \"looks\")
           (call $asked-by)
           (call $post (i32.const 256) (i32.sub (i32.const 9) (call $is-zero))))
         (func (export \"run\"))"
    );
    let memory = format!("(memory (export \"memory\") {limits})");
    let pieces = Guest {
        wasi: false,
        memory: &memory,
        body: &body,
        ..Guest::default()
    };
    valid(pieces.text())
}

/// Main looks for the greatest depth at which a process of the program `deep` can wait. Each time when one waits, and once
/// more at the end, main runs `look`; the pid is at 272. Main prints how often memory was not zero.
fn main_guest(look: &str) -> Vec<u8> {
    let body = format!(
        "{TIE_FUNCTIONS}
         (global $dirty (mut i32) (i32.const 0))
         ;; If the process is not there, it had no room.
         (func $dive (param $depth i32) (result i32)
           (call $self (i32.const 1024))
           (i32.store (i32.const 1040) (local.get $depth))
           (call $spawn (i32.const 1) %\"deep\" %\"dives\" (i32.const 1024) (i32.const 20)
             (i32.const 0) (i32.const 0) (i32.const 64))
           (call $must (i32.eq (i32.const -1) (call $spawned (i32.const 272))))
           (call $watch (i32.const 272) (i32.const 2032))
           (call $take-any-kind)
           (if (i32.load8_u (i32.const 104))
             (then (return (i32.const 0))))
           (call $must (i32.eq (i32.load (i32.const 128)) (i32.const 7)))
           (i32.const 1))
         ;; The next event is a message or a down-signal, as its case says.
         (func $take-any-kind
           (call $take-kinds (i32.const 5)))
         (func $count-verdict
           (call $take-kinds (i32.const 1))
           (global.set $dirty (i32.add (global.get $dirty)
             (i32.ne (i32.load (i32.const 128)) (i32.const 8))))
           (call $take-kinds (i32.const 4)))
         (func $surface
           (call $post (i32.const 272) (i32.const 1))
           (call $count-verdict))
         (func $look-again
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"deep\" %\"looks\" (i32.const 272))))
           (call $watch (i32.const 272) (i32.const 2032))
           (call $count-verdict))
         (func (export \"run\")
           (local $low i32) (local $high i32) (local $middle i32)
           (call $trap-exits)
           (local.set $high (i32.const 1000000))
           (loop $halve
             (local.set $middle (i32.shr_u (i32.add (local.get $low) (local.get $high)) (i32.const 1)))
             (if (call $dive (local.get $middle))
               (then {look} (call $surface) (local.set $low (local.get $middle)))
               (else (local.set $high (local.get $middle))))
             (call $look-again)
             (br_if $halve (i32.gt_u (i32.sub (local.get $high) (local.get $low)) (i32.const 1))))
           (call $must (i32.gt_u (local.get $low) (i32.const 1000)))
           (call $must (call $dive (local.get $low)))
           {look}
           (call $print %\"waits\")
           (drop (call $take-exit))
           (call $surface)
           (call $look-again)
           (call $print-number (global.get $dirty)))"
    );
    let imports = match look.is_empty() {
        true => TIES.to_owned(),
        false => format!("{TIES} {TOOLS}"),
    };
    let pieces = Guest {
        imports: &imports,
        body: &body,
        ..Guest::default()
    };
    valid(pieces.text())
}

/// The host prints little of guests' names, none of its lines controls a terminal, and it has not crashed.
#[track_caller]
fn check_sane(outcome: &Outcome, what: &str) {
    for line in outcome.stderr.lines() {
        let is_sane = line.len() < 400
            && !line.contains("panicked")
            && !line.chars().any(char::is_control)
            && (line.starts_with("crash: process ")
                || line.starts_with(' ')
                || line.contains("; the busiest in "));
        assert!(is_sane, "{what}: {line:?}\n{outcome}");
    }
    for crash in outcome.crashes() {
        assert!(
            crash
                .reason
                .starts_with("trap: wasm trap: call stack exhausted"),
            "{what}\n{outcome}"
        );
    }
}

/// Runs main beside the program with each hostile name, asks for the table while main waits, and ends it. Reports all names
/// together by which the host wrote into a guest's memory.
#[track_caller]
fn check_names(look: &str, grants: &[&str], asks_for_table: bool) {
    let mut wrong = Vec::new();
    for (what, name) in hostile_names() {
        for limits in ["1 1", "1 2"] {
            let mut running = Atoll::run(main_guest(look))
                .program("deep", deep_guest(&name, limits))
                .options(grants)
                .start();
            running.until_stdout("waits\n");
            if asks_for_table {
                running.signal(Signal::USR1);
                running.until_stderr("; the busiest in ");
            }
            running.signal(Signal::TERM);
            let outcome = running.outcome().stopped_by(Signal::TERM);
            check_sane(&outcome, what);
            if outcome.stdout != "waits\n0\n" {
                wrong.push(format!("{what}, `(memory {limits})`: {:?}", outcome.stdout));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the host wrote into guests' memories:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_process_deep_in_a_function_with_a_hostile_name_can_be_inspected() {
    let look = "(global.set $heap (i32.const 32768))
        (call $info (i64.load (i32.const 272)) (i64.load (i32.const 280)) (i32.const 2400))
        (call $must (i32.load8_u (i32.const 2400)))";
    check_names(look, &["--allow-inspect", "--allow-debug"], false);
}

#[test]
fn a_process_deep_in_a_function_with_a_hostile_name_may_be_shown_in_the_table() {
    check_names("", &[], true);
}

/// A function that calls itself this often. Values that it keeps across the call take some 150 bytes of stack each time. The
/// values are loaded, so that the compiler can't compute them after the call.
const RECURSION: &str = "
    (func $levels (param $left i32) (param $seed i64) (result i64)
      (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $e i64) (local $f i64)
      (local $g i64) (local $h i64) (local $i i64) (local $j i64) (local $k i64) (local $l i64)
      (if (i32.eqz (local.get $left)) (then (return (local.get $seed))))
      (local.set $a (i64.load offset=8 (local.get $left)))
      (local.set $b (i64.load offset=16 (local.get $left)))
      (local.set $c (i64.load offset=24 (local.get $left)))
      (local.set $d (i64.load offset=32 (local.get $left)))
      (local.set $e (i64.load offset=40 (local.get $left)))
      (local.set $f (i64.load offset=48 (local.get $left)))
      (local.set $g (i64.load offset=56 (local.get $left)))
      (local.set $h (i64.load offset=64 (local.get $left)))
      (local.set $i (i64.load offset=72 (local.get $left)))
      (local.set $j (i64.load offset=80 (local.get $left)))
      (local.set $k (i64.load offset=88 (local.get $left)))
      (local.set $l (i64.load offset=96 (local.get $left)))
      (i64.xor
        (call $levels (i32.sub (local.get $left) (i32.const 1))
          (i64.add (local.get $a) (local.get $l)))
        (i64.xor
          (i64.xor
            (i64.xor (i64.xor (local.get $a) (local.get $b)) (i64.rotl (local.get $c) (local.get $d)))
            (i64.xor (i64.rotl (local.get $e) (local.get $f)) (i64.rotl (local.get $g) (local.get $h))))
          (i64.xor (i64.rotl (local.get $i) (local.get $j)) (i64.rotl (local.get $k) (local.get $l))))))";

fn recursive_fields(levels: u32) -> String {
    format!(
        "(memory (export \"memory\") 2) {RECURSION}
         (func (export \"run\") (drop (call $levels (i32.const {levels}) (i64.const 1))))"
    )
}

#[test]
fn two_thousand_levels_of_recursion_fit_into_the_usual_stack() {
    let fields = recursive_fields(2000);
    Atoll::run(valid(format!("(module {fields})")))
        .outcome()
        .code(0)
        .stderr("");
    Atoll::run(valid(super::component(&fields, &["run"])))
        .outcome()
        .code(0)
        .stderr("");
}

#[test]
fn a_crash_for_lack_of_stack_names_max_stack() {
    let fields = recursive_fields(60_000);
    for text in [
        format!("(module {fields})"),
        super::component(&fields, &["run"]),
    ] {
        let outcome = Atoll::run(valid(text))
            .outcome()
            .code(134)
            .stderr_has("--max-stack");
        let [crash] = &outcome.crashes()[..] else {
            panic!("not one crash\n{outcome}");
        };
        assert!(
            crash
                .reason
                .starts_with("trap: wasm trap: call stack exhausted"),
            "{outcome}"
        );
    }
    // A process other than main reports it as well, and its neighbour goes on.
    let main = guest(
        "(func (export \"run\")
           (call $start %\"neighbour\" (i32.const 256))
           (call $must (i32.eq (i32.const -1)
             (call $try-start-in %\"deep\" %\"run\" (i32.const 272))))
           (call $await-end (i32.const 272))
           (call $print-number (call $ask (i32.const 256))))",
    );
    Atoll::run(main)
        .program("deep", valid(format!("(module {fields})")))
        .outcome()
        .code(0)
        .stdout("1\n")
        .stderr_has("--max-stack");
}

#[test]
fn a_smaller_and_a_larger_stack_are_what_the_option_says() {
    let program = valid(format!("(module {})", recursive_fields(20_000)));
    Atoll::run(&program)
        .options(["--max-stack", "16MiB"])
        .outcome()
        .code(0)
        .stderr("");
    Atoll::run(&program)
        .options(["--max-stack", "64KiB"])
        .outcome()
        .code(134)
        .stderr_has("--max-stack");
}
