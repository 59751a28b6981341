//! Operations that take the host long: each costs its process as much as it costs the host, and others get their turns
//! meanwhile.
//!
//! The tests measure fairness in turns. On one scheduler, main counts how often it returns from `yield-now` while an attacker
//! performs a number of operations. The two take turns, so main gets as many turns as the attacker needs: the cost of its
//! operations, divided by a slice. The minimal cost of an operation is the documented one of its kind: a copy costs 1
//! reduction for 64 bytes, a search 1 for 16 events, an entry of a table 1, and any call of the host 1. Each test asks for at
//! most half of the turns that follow from that.

use super::tied_component;
use crate::scheduling::reductions;
use atoll_tests::{Atoll, Guest, Signal, TIE_FUNCTIONS, TIES, tied_guest};

/// The reductions of one slice, by default.
const SLICE: u64 = 4000;

/// An attacker's text: its preparation before main counts, and its work.
fn attacker(prepare: &str, attack: &str) -> String {
    format!(
        "(func (export \"attack\")
           (local $count i32) (local $text i32)
           (call $parent (i32.const 256))
           {prepare}
           (call $post (i32.const 256) (i32.const 1))
           {attack})"
    )
}

/// Repeats an action. The action may use `$count`.
fn times(count: u32, what: &str) -> String {
    format!(
        "(local.set $count (i32.const 0))
         (loop $again
           {what}
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {count}))))"
    )
}

/// Main counts its turns from an attacker's first message to its end. It prints their number and the case of the attacker's
/// exit reason.
const COUNTING_MAIN: &str = "(func (export \"run\")
    (local $count i32)
    (call $must (i32.eq (i32.const -1) (call $try-start-in %\"attacker\" %\"attack\" (i32.const 272))))
    (call $watch (i32.const 272) (i32.const 192))
    (call $take (i32.const 1))
    (loop $again
      (call $yield-now)
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br_if $again (call $lives (i32.const 272))))
    (call $print-number (local.get $count))
    (call $print-number (call $take-down-of (i32.const 192))))";

/// An attacker, and the least number of turns that main must get while it works.
struct Case {
    name: String,
    attacker: Vec<u8>,
    turns_min: u64,
    /// May the attacker end by a trap or a limit instead?
    may_be_refused: bool,
}

impl Case {
    /// Asks for half of the turns that this many reductions take.
    fn new(name: &str, attacker: impl Into<Vec<u8>>, reductions: u64) -> Case {
        Case {
            name: name.to_owned(),
            attacker: attacker.into(),
            turns_min: reductions / SLICE / 2,
            may_be_refused: false,
        }
    }

    fn or_refused(mut self) -> Case {
        self.may_be_refused = true;
        self
    }

    /// The fault, if there is one.
    fn shortfall(&self, more: impl Fn(Atoll) -> Atoll) -> Option<String> {
        let atoll = Atoll::run(tied_guest(COUNTING_MAIN))
            .program("attacker", &self.attacker)
            .options(["--schedulers", "1"]);
        let outcome = more(atoll).outcome();
        let numbers: Vec<u64> = outcome
            .stdout
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        let [turns, reason] = numbers[..] else {
            return Some(format!("{}: main can't say it\n{outcome}", self.name));
        };
        // The cases of `normal`, of a trap and of `exhausted`.
        let is_right = match reason {
            0 => turns >= self.turns_min,
            7 | 8 => self.may_be_refused,
            _ => false,
        };
        (!is_right).then(|| {
            format!(
                "{}: {turns} turns, not {}; the attacker ended with case {reason}",
                self.name, self.turns_min
            )
        })
    }
}

#[track_caller]
fn check(cases: &[Case]) {
    check_with(cases, |atoll| atoll);
}

/// Checks all attackers, and then reports all faults.
#[track_caller]
fn check_with(cases: &[Case], more: impl Fn(Atoll) -> Atoll + Copy) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| case.shortfall(more))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Operations that always are calls of the host, with their declarations.
const CALLS_OF_THE_HOST: [(&str, &str, &str); 7] = [
    ("memory.grow 0", "", "(drop (memory.grow (i32.const 0)))"),
    (
        "memory.grow that fails",
        "",
        "(drop (memory.grow (i32.const 65536)))",
    ),
    (
        "table.grow 0",
        "(table $table 10 funcref)",
        "(drop (table.grow $table (ref.null func) (i32.const 0)))",
    ),
    (
        "table.grow that fails",
        "(table $table 10 20 funcref)",
        "(drop (table.grow $table (ref.null func) (i32.const 11)))",
    ),
    (
        "ref.func",
        "(table $table 10 funcref) (elem declare func $must)",
        "(table.set $table (i32.const 1) (ref.func $must))",
    ),
    (
        "table.init of nothing",
        "(table $table 10 funcref) (elem $elements func)",
        "(table.init $table $elements (i32.const 0) (i32.const 0) (i32.const 0))",
    ),
    (
        "memory.init of nothing",
        "(data $data \"0123456789\")",
        "(memory.init $data (i32.const 0) (i32.const 0) (i32.const 0))",
    ),
];

/// How often the attacker performs them. A hundred each have no call or loop edge between them.
const OPERATIONS: u32 = 100_000;

fn does_operations(declarations: &str, operation: &str) -> String {
    let hundred = operation.repeat(100);
    let attack = attacker("", &times(OPERATIONS / 100, &hundred));
    format!("{declarations} {attack}")
}

#[test]
fn operations_that_call_the_host_are_paid_for() {
    let mut cases = Vec::new();
    for (name, declarations, operation) in CALLS_OF_THE_HOST {
        let body = does_operations(declarations, operation);
        let body = format!("{body} (func (export \"run\"))");
        let reductions = OPERATIONS.into();
        cases.push(Case::new(name, tied_guest(&body), reductions));
        let component = tied_component("run attack", &body);
        let name = format!("{name}, in a component");
        cases.push(Case::new(&name, component, reductions));
    }
    check(&cases);
}

#[test]
fn operations_that_call_the_host_are_counted() {
    // Two thousand in a row, and none: the difference is at least one for each.
    let count = 2000;
    let mut wrong = Vec::new();
    for (name, declarations, operation) in CALLS_OF_THE_HOST {
        let of = |count: usize| {
            let code = operation.repeat(count);
            let body = format!("{declarations} (func (export \"run\") {code})");
            reductions(&tied_guest(&body), &[])
        };
        let cost = of(count) - of(0);
        if cost < count as u64 {
            wrong.push(format!("{name}: {count} of them cost {cost} reductions"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A module with an attacker.
fn tied_attacker(functions: &str, prepare: &str, attack: &str) -> String {
    let attacker = attacker(prepare, attack);
    tied_guest(&format!("{functions} {attacker} (func (export \"run\"))"))
}

/// Writes four letters to 2304 that differ for every count.
const NEXT_NAME: &str = "(i32.store (i32.const 2304)
    (i32.add (i32.const 0x61616161) (i32.or
      (i32.or (i32.and (local.get $count) (i32.const 15))
              (i32.shl (i32.and (local.get $count) (i32.const 0xf0)) (i32.const 4)))
      (i32.shl (i32.and (local.get $count) (i32.const 0xf00)) (i32.const 8)))))";

/// Starts this many processes with names.
fn starts_named(count: u32) -> String {
    times(
        count,
        &format!(
            "{NEXT_NAME}
             (call $start %\"stays\" (i32.const 272))
             (drop (call $name (i32.const 2304) (i32.const 4) (i32.const 272)))"
        ),
    )
}

/// Joins this many groups, or always the same one.
fn joins(count: u32, next_name: &str) -> String {
    let enter = "(call $must (i32.eq (i32.const -1)
        (call $enter (i32.const 2304) (i32.const 4) (i32.const 16))))";
    let joins = times(count, &format!("{next_name} {enter}"));
    format!("(call $self (i32.const 16)) {joins}")
}

#[test]
fn lists_cost_as_much_as_they_have_entries() {
    // The host looks up, copies and sorts a name. Half of the cost of `whereis` is four reductions. A pid is 16 bytes.
    let (entries, rounds) = (1000, 100);
    let case = |name: &str, prepare: &str, call: &str, entry_bytes: u64| {
        let list = format!("(global.set $heap (i32.const 32768)) {call}");
        let attacker = tied_attacker("", prepare, &times(rounds, &list));
        let reductions = u64::from(entries) * u64::from(rounds) * entry_bytes / 64;
        Case::new(name, attacker, reductions)
    };
    let name_bytes = 4 * 64;
    let named = starts_named(entries);
    let grouped = joins(entries, NEXT_NAME);
    let joined = joins(
        entries,
        "(i32.store (i32.const 2304) (i32.const 0x61616161))",
    );
    check(&[
        case(
            "registered",
            &named,
            "(call $registered (i32.const 2096))",
            name_bytes,
        ),
        case(
            "which-groups",
            &grouped,
            "(call $which-groups (i32.const 2096))",
            name_bytes,
        ),
        case(
            "members",
            &joined,
            "(call $members (i32.const 2304) (i32.const 4) (i32.const 2096))",
            16,
        ),
        case(
            "a monitored group",
            &joined,
            "(call $monitor-group (i32.const 2304) (i32.const 4) (i32.const 2104))",
            16,
        ),
    ]);
}

#[test]
fn a_change_of_a_group_costs_as_much_as_it_has_monitors() {
    // Each monitoring process gets a signal in its mailbox: eight reductions, the cost of a tie. Another process holds the
    // monitors.
    let (monitors, rounds) = (2000, 25);
    let monitor = "(call $monitor-group %\"group\" (i32.const 2104))";
    let watcher = format!(
        "(func (export \"watcher\")
           (local $count i32)
           (call $parent (i32.const 256))
           {}
           (call $post (i32.const 256) (i32.const 2))
           (call $stays))",
        times(monitors, monitor)
    );
    let prepare = "(call $start %\"watcher\" (i32.const 272)) (call $take (i32.const 2)) (call $self (i32.const 16))";
    let attack = times(
        rounds,
        "(call $must (i32.eq (i32.const -1) (call $enter %\"group\" (i32.const 16))))
         (call $must (call $quit %\"group\" (i32.const 16)))",
    );
    let attacker = tied_attacker(&watcher, prepare, &attack);
    let reductions = u64::from(monitors) * 8 * u64::from(rounds) * 2;
    check(&[Case::new("join and leave", attacker, reductions)]);
}

#[test]
fn a_spawn_costs_its_data() {
    // 4 MiB of data in each process: 65,536 reductions at the cost of a copy.
    let (data_bytes, spawns) = (4 << 20, 20);
    let large = format!(
        "(module (memory (export \"memory\") 65) (data (i32.const 0) \"{}\") (func (export \"run\")))",
        "x".repeat(data_bytes)
    );
    let attack = times(
        spawns,
        "(call $must (i32.eq (i32.const -1)
           (call $try-start-in %\"large\" (i32.const 0) (i32.const 0) (i32.const 272))))",
    );
    let attacker = tied_attacker("", "", &attack);
    let reductions = data_bytes as u64 / 64 * u64::from(spawns);
    check_with(&[Case::new("spawn", attacker, reductions)], |atoll| {
        atoll.program("large", &large)
    });
}

#[test]
fn a_copy_costs_slices_in_proportion_to_its_length() {
    // 4 MiB each: 65,536 reductions, sixteen slices.
    let (bytes, rounds) = (4 << 20, 20);
    let text = format!("(local.get $text) (i32.const {bytes})");
    let operations = [
        (
            "send",
            format!("(call $post-bytes (i32.const 272) (i32.const 1) {text})"),
        ),
        (
            "spawn",
            format!(
                "(call $spawn (i32.const 0) (i32.const 0) (i32.const 0) %\"returns\" {text}
                   (i32.const 0) (i32.const 0) (i32.const 64))"
            ),
        ),
        // Each process that gets the reason ends by it. The host copies it each time.
        (
            "exit-process",
            format!(
                "(call $start %\"returns\" (i32.const 288)) (call $signal-bytes (i32.const 288) {text})"
            ),
        ),
    ];
    let functions = "(func (export \"returns\"))
        (func (export \"hoards\")
          (loop $next (drop (call $poll (i32.const 9))) (call $yield-now) (br $next)))";
    let prepare = "(local.set $text (i32.shl (memory.grow (i32.const 64)) (i32.const 16)))
        (call $start %\"hoards\" (i32.const 272))";
    let cases = operations.map(|(name, operation)| {
        let attacker = tied_attacker(functions, prepare, &times(rounds, &operation));
        Case::new(name, attacker, bytes / 64 * u64::from(rounds))
    });
    check_with(&cases, |atoll| atoll.options(["--max-mailbox", "256MiB"]));
}

/// Sends this many empty messages to itself.
fn fills_own_mailbox(messages: u32) -> String {
    let fills = times(messages, "(call $post (i32.const 16) (i32.const 1))");
    format!("(call $self (i32.const 16)) {fills}")
}

#[test]
fn a_search_through_a_full_mailbox_costs_slices_in_proportion_to_its_length() {
    // Each search passes over 200,000 events: 12,500 reductions, three slices.
    let (messages, rounds) = (200_000, 40);
    let attack = times(rounds, "(call $must (i32.eqz (call $poll (i32.const 9))))");
    let attacker = tied_attacker("", &fills_own_mailbox(messages), &attack);
    let reductions = u64::from(messages) / 16 * u64::from(rounds);
    check(&[Case::new("poll", attacker, reductions)]);
}

/// Monitors a group, and gets this many signals of changes.
fn fills_with_group_signals(signals: u32) -> String {
    let changes = times(
        signals / 2,
        "(call $must (i32.eq (i32.const -1) (call $enter %\"group\" (i32.const 16))))
         (call $must (call $quit %\"group\" (i32.const 16)))",
    );
    format!("(call $monitor-group %\"group\" (i32.const 2104)) {changes}")
}

const DEMONITOR: &str =
    "(call $must (call $demonitor-group (i64.load (i32.const 2104)) (i64.load (i32.const 2112))))";

#[test]
fn the_end_of_a_groups_monitor_looks_at_each_event_once() {
    // So the cost grows as the mailbox does, and not as its square. 16 events are one reduction, and the test allows twice
    // that.
    let (messages, signals) = (8000, 6000);
    let of = |demonitor: &str| {
        let body = format!(
            "(func (export \"run\") (local $count i32) {} {} {demonitor})",
            fills_own_mailbox(messages),
            fills_with_group_signals(signals)
        );
        reductions(&tied_guest(&body), &[])
    };
    let cost = of(DEMONITOR) - of("");
    let most = u64::from(messages + signals) / 16 * 2 + 100;
    assert!(cost <= most, "{cost} reductions, more than {most}");
}

#[test]
fn strings_of_components_are_paid_for_or_refused() {
    // 16 MiB each: 262,144 reductions.
    let (bytes, rounds) = (16 << 20, 20);
    let text = format!("(local.get $text) (i32.const {bytes})");
    let prepare = "(local.set $text (i32.shl (memory.grow (i32.const 256)) (i32.const 16)))
        (call $self (i32.const 16))";
    let operations = [
        ("unregister", format!("(drop (call $unregister {text}))")),
        (
            "whereis",
            format!("(call $whereis {text} (i32.const 2056))"),
        ),
        (
            "register",
            format!("(drop (call $name {text} (i32.const 16)))"),
        ),
        (
            "members",
            format!("(call $members {text} (i32.const 2096))"),
        ),
        (
            "leave",
            format!("(drop (call $quit {text} (i32.const 16)))"),
        ),
        (
            "a spawn's function",
            format!("(drop (call $try-start {text} (i32.const 272)))"),
        ),
    ];
    let cases = operations.map(|(name, operation)| {
        let body = attacker(prepare, &times(rounds, &operation));
        let component = tied_component("run attack", &format!("{body} (func (export \"run\"))"));
        Case::new(name, component, bytes / 64 * u64::from(rounds)).or_refused()
    });
    check(&cases);
}

#[test]
fn random_bytes_of_components_are_paid_for() {
    let rounds = 100;
    let component = |interface: &str, function: &str| {
        format!(
            r#"(component
  (import "wasi:random/{interface}@0.2.0" (instance $random
    (export "{function}" (func (param "len" u64) (result (list u8))))))
  (core module $libc
    (memory (export "memory") 40)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $libc (instantiate $libc))
  (alias export $random "{function}" (func $get))
  (core func $get (canon lower (func $get) (memory (core memory $libc "memory")) (realloc (core func $libc "cabi_realloc"))))
  (core module $main
    (import "random" "get" (func $get (param i64 i32)))
    (func (export "run") (local $round i32)
      (loop $again
        (call $get (i64.const 1048576) (i32.const 16))
        (br_if $again (i32.lt_u
          (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const {rounds}))))))
  (core instance $main (instantiate $main (with "random" (instance (export "get" (func $get))))))
  (func (export "run") (canon lift (core func $main "run"))))"#
        )
    };
    for (interface, function) in [
        ("random", "get-random-bytes"),
        ("insecure", "get-insecure-random-bytes"),
    ] {
        let outcome = Atoll::run(component(interface, function))
            .option("--stats")
            .outcome()
            .code(0);
        let reductions = outcome.reductions();
        assert!(
            reductions >= (1 << 20) / 64 * rounds,
            "{function}: {reductions}"
        );
    }
}

/// Functions of WASI that take pieces of memory or fill memory.
const WASI: &str = r#"
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
"#;

/// An attacker that uses them, with room for a million pieces. It traps if the host refuses a call.
fn wasi_attacker(attack: &str) -> String {
    let room = "(local.set $text (i32.shl (memory.grow (i32.const 128)) (i32.const 16)))";
    let attacker = attacker(room, attack);
    Guest {
        imports: &format!("{TIES}{WASI}"),
        body: &format!("{TIE_FUNCTIONS} {attacker} (func (export \"run\"))"),
        ..Guest::default()
    }
    .text()
}

/// Passes a list of this many empty pieces to a function of WASI.
fn empty_pieces(function: &str, descriptor: u32, pieces: u64) -> String {
    format!(
        "(if (call {function} (i32.const {descriptor}) (local.get $text) (i32.const {pieces}) (i32.const 2304))
           (then (unreachable)))"
    )
}

#[test]
fn lists_of_pieces_and_random_bytes_are_paid_for_or_refused() {
    // 800 KB of descriptions of pieces, of which a call reads 1024: one reduction each. 4 MiB of random bytes: 65,536.
    let (pieces, random_bytes, rounds) = (100_000, 4 << 20, 100);
    let random = format!(
        "(if (call $random_get (local.get $text) (i32.const {random_bytes})) (then (unreachable)))"
    );
    let cases = [
        ("fd_write", empty_pieces("$fd_write", 1, pieces), 1024 * 64),
        ("fd_read", empty_pieces("$fd_read", 0, pieces), 1024 * 64),
        ("random_get", random, random_bytes),
    ];
    let cases = cases.map(|(name, operation, bytes)| {
        let attacker = wasi_attacker(&times(rounds, &operation));
        Case::new(name, attacker, bytes / 64 * u64::from(rounds)).or_refused()
    });
    check(&cases);
}

/// Two attackers work on two schedulers. A neighbour answers, and a signal ends the program.
#[track_caller]
fn check_goes_on_and_ends(attacker: impl AsRef<[u8]>) {
    let main = "(func (export \"run\")
        (local $count i32)
        (call $start %\"neighbour\" (i32.const 256))
        (call $must (i32.eq (i32.const -1) (call $try-start-in %\"attacker\" %\"attack\" (i32.const 272))))
        (call $must (i32.eq (i32.const -1) (call $try-start-in %\"attacker\" %\"attack\" (i32.const 272))))
        (call $take (i32.const 1))
        (call $take (i32.const 1))
        (loop $again
          (local.set $count (call $ask (i32.const 256)))
          (br_if $again (i32.lt_u (local.get $count) (i32.const 20))))
        (call $print %\"ready\")
        (drop (call $take-any)))";
    let mut running = Atoll::run(tied_guest(main))
        .program("attacker", attacker)
        .options(["--schedulers", "2"])
        .start();
    running.until_stdout("ready\n");
    running.signal(Signal::TERM);
    running.outcome().stopped_by(Signal::TERM).stdout("ready\n");
}

fn for_ever(what: &str) -> String {
    format!("(loop $for-ever {what} (br $for-ever))")
}

#[test]
fn a_program_goes_on_and_ends_beside_operations_that_call_the_host() {
    let all = CALLS_OF_THE_HOST.map(|(_, _, operation)| operation.repeat(20));
    let declarations = "(table $table 10 20 funcref) (elem declare func $must)
        (elem $elements func) (data $data \"0123456789\")";
    let attack = for_ever(&all.concat());
    check_goes_on_and_ends(tied_attacker(declarations, "", &attack));
}

#[test]
fn a_program_goes_on_and_ends_beside_lists_of_names() {
    let lists = for_ever(
        "(global.set $heap (i32.const 32768))
         (call $registered (i32.const 2096))
         (call $which-groups (i32.const 2096))",
    );
    check_goes_on_and_ends(tied_attacker("", &starts_named(3000), &lists));
}

#[test]
fn a_program_goes_on_and_ends_beside_searches_of_full_mailboxes() {
    let searches = for_ever("(drop (call $poll (i32.const 9)))");
    let fills = fills_own_mailbox(200_000);
    check_goes_on_and_ends(tied_attacker("", &fills, &searches));
}

#[test]
fn a_program_goes_on_and_ends_beside_ends_of_monitors_of_full_mailboxes() {
    let prepare = format!(
        "{} {}",
        fills_own_mailbox(200_000),
        // Both monitor the same group, so each gets signals for the other's changes as well.
        fills_with_group_signals(75_000)
    );
    let attack = format!("{DEMONITOR} (call $stays)");
    check_goes_on_and_ends(tied_attacker("", &prepare, &attack));
}

#[test]
fn a_program_goes_on_and_ends_beside_strings_of_components() {
    let attacker = attacker(
        "(local.set $text (i32.shl (memory.grow (i32.const 2000)) (i32.const 16)))",
        &for_ever("(drop (call $unregister (local.get $text) (i32.const 130000000)))"),
    );
    let body = format!("{attacker} (func (export \"run\"))");
    check_goes_on_and_ends(tied_component("run attack", &body));
}

#[test]
fn a_program_goes_on_and_ends_beside_lists_of_pieces() {
    let pieces = empty_pieces("$fd_write", 1, 1_000_000);
    check_goes_on_and_ends(wasi_attacker(&for_ever(&pieces)));
}
