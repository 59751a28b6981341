//! Memories that grow far: their contents survive, the kernel's mappings stay few, and address space becomes free again.

use super::{component, valid};
use atoll_tests::{Atoll, Guest, Signal, guest};

/// Untouched memories may be far larger than the machine's memory.
const UNTOUCHED: [&str; 2] = ["--max-total-memory", "65536GiB"];

/// More mappings than a host needs, and far fewer than the 65,530 that the kernel allows a program.
const MAPPINGS_MAX: usize = 3000;

/// Pages of 64 KiB: the first size that needs a slot of 4, 16, 64 and 256 MiB, and a larger one.
const SIZES_PAGES: [u32; 9] = [1, 2, 17, 64, 65, 257, 1024, 1025, 4097];

/// Functions that write words into the memory `$m`, each computed from its address, and check that the memory holds only
/// those. The words lie `$step` bytes apart. A word also lies at the end of each page.
const PATTERN: &str = "
    (func $word (param $at i32) (result i64)
      (i64.or (i64.mul (i64.extend_i32_u (local.get $at)) (i64.const 0x9e3779b97f4a7c15)) (i64.const 1)))
    (func $put (param $at i32) (i64.store $m (local.get $at) (call $word (local.get $at))))
    (func $check (param $at i32)
      (if (i64.ne (i64.load $m (local.get $at)) (call $word (local.get $at))) (then (unreachable))))
    ;; All words from one address to another, `$step` bytes apart.
    (func $fill (param $at i32) (param $end i32) (param $step i32)
      (block $out (loop $next
        (br_if $out (i32.ge_u (local.get $at) (local.get $end)))
        (call $put (local.get $at))
        (call $put (i32.or (local.get $at) (i32.const 4088)))
        (local.set $at (i32.add (local.get $at) (local.get $step)))
        (br $next))))
    ;; Checks the same range: the words are there, and the rest of their pages is zero.
    (func $verify (param $at i32) (param $end i32) (param $step i32)
      (local $word i32)
      (block $out (loop $next
        (br_if $out (i32.ge_u (local.get $at) (local.get $end)))
        (call $check (local.get $at))
        (call $check (i32.or (local.get $at) (i32.const 4088)))
        (local.set $word (i32.const 8))
        (loop $zero
          (if (i64.ne (i64.load $m (i32.add (local.get $at) (local.get $word))) (i64.const 0))
            (then (unreachable)))
          (br_if $zero (i32.lt_u
            (local.tee $word (i32.add (local.get $word) (i32.const 8))) (i32.const 4088))))
        (local.set $at (i32.add (local.get $at) (local.get $step)))
        (br $next))))
    ;; One word in each page: all of them are zero.
    (func $zeros (param $at i32) (param $end i32)
      (block $out (loop $next
        (br_if $out (i32.ge_u (local.get $at) (local.get $end)))
        (if (i64.ne (i64.load $m (local.get $at)) (i64.const 0)) (then (unreachable)))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br $next))))";

/// Code that grows the memory to one size after the other. At each size it fills the new part, in steps of a number of pages
/// of 4 KiB, and verifies everything that it has filled so far.
fn grows_and_verifies(step_pages: u32) -> String {
    let step = step_pages << 12;
    let mut code = String::new();
    let mut size = 0;
    for pages in SIZES_PAGES {
        // The filled range begins at a step, so one call verifies it.
        let (from, to) = (size << 16, pages << 16);
        code += &format!(
            "(if (i32.ne (memory.grow $m (i32.const {grown})) (i32.const {size})) (then (unreachable)))
             (call $zeros (i32.const {from}) (i32.const {to}))
             (call $fill (i32.const {start}) (i32.const {to}) (i32.const {step}))
             (call $verify (i32.const 0) (i32.const {to}) (i32.const {step}))",
            grown = pages - size,
            start = from.next_multiple_of(step),
        );
        size = pages;
    }
    code
}

/// Fills every page, some pages, and hardly any.
const STEPS_PAGES: [u32; 3] = [1, 100, 5000];

/// Runs the code in two processes, one after the other, so that the second gets the slots of the first.
#[track_caller]
fn check_survival(fields: impl Fn(&str) -> Vec<u8>) {
    for step_pages in STEPS_PAGES {
        let main = guest(
            "(func (export \"run\")
               (call $must (i32.eq (i32.const -1)
                 (call $try-start-in %\"grower\" %\"grows\" (i32.const 272))))
               (call $await-end (i32.const 272))
               (call $must (i32.eq (i32.const -1)
                 (call $try-start-in %\"grower\" %\"grows\" (i32.const 272))))
               (call $await-end (i32.const 272)))",
        );
        Atoll::run(main)
            .program("grower", fields(&grows_and_verifies(step_pages)))
            .outcome()
            .code(0)
            .stderr("");
    }
}

#[test]
fn the_contents_of_a_memory_survive_growth() {
    check_survival(|code| {
        valid(format!(
            "(module (memory $m (export \"memory\") 0) {PATTERN}
               (func (export \"grows\") {code}) (func (export \"run\")))"
        ))
    });
}

#[test]
fn the_contents_of_a_second_memory_survive_growth() {
    check_survival(|code| {
        valid(format!(
            "(module (memory (export \"memory\") 1) (memory $m 0) {PATTERN}
               (func (export \"grows\") {code}) (func (export \"run\")))"
        ))
    });
}

#[test]
fn the_contents_of_a_component_s_memory_survive_growth() {
    check_survival(|code| {
        let fields = format!(
            "(memory $m 0) {PATTERN} (func (export \"grows\") {code}) (func (export \"run\"))"
        );
        valid(component(&fields, &["grows", "run"]))
    });
}

/// Children grow memories, tell main, and wait. When all have told main, main prints `grown` and waits, and the test counts
/// the mappings. It counts them once more when all children have ended and main has printed `ended`.
#[track_caller]
fn check_mappings(declarations: &str, grow: &str, children: u32) {
    let body = format!(
        "{declarations}
         (func (export \"child\")
           {grow}
           (call $parent (i32.const 256))
           (call $post (i32.const 256) (i32.const 7))
           (drop (call $take-any)))
         (func (export \"run\")
           (local $count i32) (local $slot i32)
           (call $must (i32.ne (i32.const -1) (memory.grow 0 (i32.const 4))))
           (local.set $slot (i32.const 0x20000))
           (loop $again
             (call $start %\"child\" (local.get $slot))
             (call $take (i32.const 7))
             (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
             (br_if $again (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {children}))))
           (call $print %\"grown\")
           (local.set $slot (i32.const 0x20000))
           (drop (call $take-any))
           (unreachable))"
    );
    let text = Guest {
        body: &body,
        ..Guest::default()
    }
    .text();
    let mut running = Atoll::run(valid(text))
        .options(["--hibernate-after", "never"])
        .options(UNTOUCHED)
        .start();
    running.until_stdout("grown\n");
    let mappings = running.mappings();
    running.signal(Signal::TERM);
    running
        .outcome()
        .stopped_by(Signal::TERM)
        .stdout("grown\n")
        .stderr("");
    assert!(
        mappings <= MAPPINGS_MAX,
        "the kernel keeps {mappings} mappings for the host"
    );
}

/// Code that grows a memory past 16 MiB, and past 64 MiB if the memory holds few enough pages.
fn grows_past(memory: &str, steps: &[u32]) -> String {
    let grow = |pages: &u32| {
        format!("(call $must (i32.ne (i32.const -1) (memory.grow {memory} (i32.const {pages}))))")
    };
    steps.iter().map(grow).collect()
}

#[test]
fn many_untouched_memories_that_grow_take_few_mappings() {
    check_mappings("", &grows_past("0", &[254, 1, 767, 1]), 2000);
}

#[test]
fn many_memories_with_one_page_in_use_that_grow_take_few_mappings() {
    let grow = grows_past("0", &[254]);
    let further = grows_past("0", &[1, 767, 1]);
    let code = format!(
        "{grow} (i64.store (i32.const 0xffff00) (i64.const 0x1234567890))
         {further}
         (call $must (i64.eq (i64.load (i32.const 0xffff00)) (i64.const 0x1234567890)))
         (call $must (i64.eqz (i64.load (i32.const 0x4000000))))"
    );
    check_mappings("", &code, 2000);
}

#[test]
fn many_memories_of_one_process_that_grow_take_few_mappings() {
    const MEMORIES: u32 = 60;
    let grow: String = (1..=MEMORIES)
        .map(|memory| grows_past(&memory.to_string(), &[256, 1]))
        .collect();
    check_mappings(&"(memory 0)".repeat(MEMORIES as usize), &grow, 100);
}

/// An expression that grows an empty memory into the largest slot that is still free. Its value says whether there was a
/// slot.
fn holds(memory: &str) -> String {
    let grows =
        |pages: u32| format!("(i32.ne (memory.grow {memory} (i32.const {pages})) (i32.const -1))");
    [1040, 272, 80, 18]
        .into_iter()
        .fold(grows(4112), |larger, pages| {
            format!(
                "(if (result i32) {larger} (then (i32.const 1)) (else {}))",
                grows(pages)
            )
        })
}

/// Processes with large untouched memories take all address space and end. Then a program that has not run yet, with other
/// sizes of memory, runs as well as ever.
#[track_caller]
fn check_address_space(atoll: impl Fn(String) -> Atoll) {
    // Each of its memories takes a slot of a GiB, for which it is just large enough, or a slot of the next smaller size.
    const HOARDER: &str = "(module
        (import \"atoll-rt:process/mailbox@0.2.0\" \"receive\"
          (func $receive (param i32 i64 i64 i32 i64 i32)))
        (import \"atoll-rt:process/mailbox@0.2.0\" \"send\"
          (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
        (import \"atoll-rt:process/lifecycle@0.2.0\" \"argument\" (func $argument (param i32)))
        (memory (export \"memory\") 1) (memory $a 0) (memory $b 0) (memory $c 0)
        (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export \"hoards\")
          (local $held i32)
          (local.set $held (i32.add (i32.add HOLDS_A HOLDS_B) HOLDS_C))
          ;; Reports the number of its memories, by the tag.
          (call $argument (i32.const 16))
          (call $send (i64.load (i32.load (i32.const 16))) (i64.load offset=8 (i32.load (i32.const 16)))
            (local.get $held) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0))
          (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0)
            (i32.const 64)))
        (func (export \"run\")))";
    let late = |limits: &str| {
        format!(
            "(module (memory (export \"memory\") {limits})
               (func (export \"run\")
                 (i32.store (i32.const 65000) (i32.const 1))
                 (drop (memory.grow (i32.const 30)))
                 (i32.store (i32.const 65004) (i32.const 1))))"
        )
    };
    let starts_late: String = (0..5)
        .map(|number| {
            format!(
                "(call $must (i32.eq (i32.const -1)
                   (call $try-start-in %\"late-{number}\" %\"run\" (i32.const 272))))
                 (call $await-end (i32.const 272))"
            )
        })
        .collect();
    // Main spawns hoarders until one gets fewer memories than it wants, or can't begin. Then it ends all of them and spawns
    // the others.
    let body = format!(
        "(func $hoards (param $slot i32) (result i32)
           (if (i32.ne (i32.const -1)
                 (call $try-start-in %\"hoarder\" %\"hoards\" (local.get $slot)))
             (then (return (i32.const 0))))
           (drop (call $take-any))
           (i32.const 1))
         (func (export \"run\")
           (local $slot i32)
           (call $must (i32.ne (i32.const -1) (memory.grow (i32.const 4))))
           (local.set $slot (i32.const 0x20000))
           (loop $again
             (if (call $hoards (local.get $slot))
               (then
                 (local.set $slot (i32.add (local.get $slot) (i32.const 16)))
                 (br_if $again (i32.eq (i32.load (i32.const 128)) (i32.const 3))))))
           (call $print %\"used up\")
           (loop $end
             (local.set $slot (i32.sub (local.get $slot) (i32.const 16)))
             (call $post (local.get $slot) (i32.const 1))
             (call $await-end (local.get $slot))
             (br_if $end (i32.gt_u (local.get $slot) (i32.const 0x20000))))
           (call $print %\"given back\")
           {starts_late}
           (call $print %\"used again\"))"
    );
    let mut hoarder = HOARDER.to_owned();
    for (name, memory) in [("HOLDS_A", "$a"), ("HOLDS_B", "$b"), ("HOLDS_C", "$c")] {
        hoarder = hoarder.replace(name, &holds(memory));
    }
    // The limit of one process must not stop the hoarder.
    let mut atoll = atoll(guest(&body))
        .options(["--max-memory", "4GiB"])
        .options(UNTOUCHED)
        .program("hoarder", valid(hoarder));
    // Homes of new sizes, and large slots of each size.
    for (number, limits) in ["3", "6", "20", "300", "2000"].iter().enumerate() {
        atoll = atoll.program(&format!("late-{number}"), valid(late(limits)));
    }
    let outcome = atoll.outcome().code(0).stderr("");
    outcome.stdout("used up\ngiven back\nused again\n");
}

#[test]
fn address_space_that_was_used_up_comes_back_for_other_sizes() {
    check_address_space(|text| Atoll::run(text).options(["--hibernate-after", "never"]));
}

#[test]
fn little_address_space_comes_back_for_other_sizes() {
    check_address_space(|text| Atoll::run(text).after(format!("ulimit -v {}", 48 << 20)));
}
