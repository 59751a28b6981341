//! Guests that use up resources that others need, and guests that make the host hold more for them than they may.
//!
//! There are two rules. When a process exceeds a limit, the limit ends that process or is an error for it, and never ends the
//! process that comes next. And everything that the host keeps for a process counts against one of the process's limits.

use super::{both_kinds, tied_component};
use crate::offenders::{Offender, check_with};
use crate::signals;
use atoll_tests::{Atoll, Guest, Outcome, TIE_FUNCTIONS, TIES, tied_guest};

/// The longest name that a process or a group can have.
const NAME_BYTES_MAX: u32 = 255;

#[test]
fn a_group_full_of_monitors_does_not_end_later_processes() {
    // Squatters monitor one group as often as they can: together more often than a group allows today (65,536), exactly as
    // often, or once less. Then three processes in turn monitor the group, join it, and report that they live.
    for (squatters, monitors) in [(1, 65_535), (1, 65_536), (1, 65_537), (66, 1000)] {
        let body = format!(
            "(func (export \"squats\")
               (local $count i32)
               (call $parent (i32.const 256))
               (loop $again
                 (call $monitor-group %\"workers\" (i32.const 2104))
                 (br_if $again (i32.lt_u
                   (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {monitors}))))
               (call $post (i32.const 256) (i32.const 7))
               (call $stays))
             (func (export \"comes-later\")
               (drop (call $take-any))
               (call $self (i32.const 16))
               (call $monitor-group %\"workers\" (i32.const 2104))
               (call $must (i32.eq (i32.const -1) (call $enter %\"workers\" (i32.const 16))))
               (call $answer (i32.const 5) (i32.const 0) (i32.const 0)))
             (func (export \"run\")
               (local $count i32)
               (loop $next
                 (call $start %\"squats\" (i32.const 272))
                 (call $watch (i32.const 272) (i32.const 192))
                 ;; The process has finished, or has been ended.
                 (drop (call $take-any))
                 (br_if $next (i32.lt_u
                   (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {squatters}))))
               (local.set $count (i32.const 0))
               (loop $next
                 (call $start %\"comes-later\" (i32.const 288))
                 (call $print-number
                   (call $request (i32.const 288) (i32.const 4) (i32.const 0) (i32.const 0) (i64.const -1)))
                 (br_if $next (i32.lt_u
                   (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 3)))))"
        );
        let outcome = Atoll::run(tied_guest(&body)).outcome();
        let ended = outcome.crashes();
        let is_fair = ended.iter().all(|crash| crash.function == "squats");
        assert!(
            is_fair && outcome.stdout == "0\n0\n0\n",
            "{squatters} times {monitors} monitors end others\n{outcome}"
        );
        outcome.code(0);
    }
}

#[test]
fn links_that_others_make_do_not_count_as_own_ties() {
    // Sixty processes link to main, which may have fifty ties and has made none. Main goes on making some.
    let body = "(func (export \"links\")
          (call $parent (i32.const 256))
          (call $link-to (i32.const 256))
          (call $post (i32.const 256) (i32.const 7))
          (call $stays))
        (func (export \"run\")
          (local $count i32)
          (call $trap-exits)
          (loop $next
            (call $start %\"links\" (i32.const 272))
            (call $take (i32.const 7))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 60))))
          (call $start %\"stays\" (i32.const 272))
          (call $watch (i32.const 272) (i32.const 192))
          (call $link-to (i32.const 272))
          (call $alias (i32.const 2208))
          (call $print-number (call $unwatch (i32.const 192) (i32.const 0))))";
    Atoll::run(tied_guest(body))
        .options(["--max-ties", "50"])
        .outcome()
        .code(0)
        .stdout("1\n")
        .stderr("");
}

/// Lengths that no name can have. Only a component can pass the last one: a module's text of more than 4096 bytes traps.
const NO_NAMES: [u32; 4] = [0, NAME_BYTES_MAX + 1, 4096, 65_536];

/// A module and a component that do this with a text of this length at 0x10000, if each can pass it.
fn with_no_name(bytes: u32, run: &str) -> Vec<(&'static str, Vec<u8>)> {
    let body = format!(
        "(func (export \"run\")
           (memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 0x10000))
           (call $self (i32.const 16))
           {})
         (func $second (param i32 i32) (result i32) (local.get 1))
         (func $put-pair (param i32 i32 i32)
           (i32.store (local.get 2) (local.get 0))
           (i32.store offset=4 (local.get 2) (local.get 1)))",
        run.replace("NAME", &format!("(i32.const 0x10000) (i32.const {bytes})"))
    );
    let mut guests = both_kinds("run", &body).to_vec();
    guests.retain(|(kind, _)| bytes <= 4096 || *kind == "a component");
    guests
}

#[track_caller]
fn check_no_names(run: &str, stdout: &str) {
    for bytes in NO_NAMES {
        for (kind, guest) in with_no_name(bytes, run) {
            let outcome = Atoll::run(guest).outcome();
            assert!(
                outcome.code == Some(0) && outcome.stdout == stdout && outcome.stderr.is_empty(),
                "{kind}, a name of {bytes} bytes: it does not print {stdout:?}\n{outcome}"
            );
        }
    }
}

#[test]
fn an_invalid_name_is_found_nowhere() {
    check_no_names(
        "(call $print-number (call $name NAME (i32.const 16)))
         (call $print-number (call $unregister NAME))
         (call $must (call $is-nobody NAME))
         (call $print-number (call $send-named NAME (i32.const 5) (i32.const 0)
           (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
         (call $must (call $is-empty))",
        // `bad-name` is case 3.
        "3\n0\n0\n",
    );
}

#[test]
fn a_monitor_or_call_of_an_invalid_name_gets_noproc() {
    check_no_names(
        "(call $watch-name NAME (i32.const 192))
         (call $print-number (call $take-down-of (i32.const 192)))
         (call $print-number (call $unwatch (i32.const 192) (i32.const 1)))
         (call $call (i32.const 1) (i64.extend_i32_u (i32.const 0x10000)) (i64.extend_i32_u (call $second NAME))
           (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 2128))
         (call $print-number (call $answered))
         (call $print-number (i32.load8_u (i32.const 2140)))
         (call $must (call $is-empty))",
        // `noproc` is case 5.
        "5\n0\n2\n5\n",
    );
}

#[test]
fn no_group_has_an_invalid_name() {
    check_no_names(
        "(call $print-number (call $enter NAME (i32.const 16)))
         (call $print-number (call $quit NAME (i32.const 16)))
         (call $members NAME (i32.const 2096))
         (call $print-number (i32.load (i32.const 2100)))
         (call $which-groups (i32.const 2096))
         (call $print-number (i32.load (i32.const 2100)))",
        // `bad-name` is case 1.
        "1\n0\n0\n0\n",
    );
}

#[test]
fn an_invalid_group_name_is_monitored_as_an_empty_group() {
    // The contract has no error here: a group that can have no members never changes.
    check_no_names(
        "(call $monitor-group NAME (i32.const 2104))
         (call $print-number (i32.load (i32.const 2124)))
         (drop (call $enter NAME (i32.const 16)))
         (call $must (call $is-empty))
         (drop (call $demonitor-group (i64.load (i32.const 2104)) (i64.load (i32.const 2112))))
         (call $print %\"goes on\")",
        "0\ngoes on\n",
    );
}

#[test]
fn timers_to_an_invalid_name_reach_no_process() {
    // A timer of main's own that fires later must be the only one to come.
    let to = "(i32.const 1) (i64.const 0x10000) (i64.extend_i32_u (call $second NAME))";
    check_no_names(
        &format!(
            "(call $start-timer (i64.const 0) {to} (i32.const 3) (i32.const 2208))
             (call $send-after (i64.const 0) {to} (i32.const 4) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0)
               (i32.const 0) (i32.const 0) (i32.const 2224))
             (call $start-timer (i64.const 5000000) (i32.const 0) (i64.load (i32.const 16)) (i64.load (i32.const 24))
               (i32.const 5) (i32.const 2240))
             (drop (call $take-any))
             (call $must (call $same (i32.const 112) (i32.const 2240)))
             (call $must (call $is-empty))
             (call $print %\"goes on\")"
        ),
        "goes on\n",
    );
}

#[test]
fn a_spawn_with_an_invalid_name_fails() {
    // Option 2 is the name. The contract leaves the error open.
    check_no_names(
        "(i32.store8 (i32.const 2208) (i32.const 2))
         (call $put-pair NAME (i32.const 2216))
         (call $print-number (i32.ne (i32.const -1)
           (call $try-start-with %\"run\" (i32.const 2208) (i32.const 1) (i32.const 272))))",
        "1\n",
    );
}

#[test]
fn a_name_of_255_bytes_is_a_name_like_any_other() {
    let name = format!("(i32.const 0x10000) (i32.const {NAME_BYTES_MAX})");
    let body = format!(
        "(func (export \"run\")
           (memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 0x10000))
           (call $self (i32.const 16))
           (call $watch-name {name} (i32.const 192))
           (call $print-number (call $take-down-of (i32.const 192)))
           (call $print-target)
           (call $start %\"stays\" (i32.const 272))
           (call $must (i32.eq (i32.const -1) (call $name {name} (i32.const 272))))
           (call $watch-name {name} (i32.const 192))
           (call $signal (i32.const 272) (i32.const 3))
           (call $print-number (call $take-down-of (i32.const 192)))
           (call $print-target)
           (call $must (i32.eq (i32.const -1) (call $enter {name} (i32.const 16)))))
         ;; In a down-signal: the target's case and the length of its name.
         (func $print-target
           (call $print-number (i32.load8_u (i32.const 128)))
           (call $print-number (i32.load (i32.const 140))))"
    );
    for (_, guest) in both_kinds("run stays", &body) {
        Atoll::run(guest)
            .outcome()
            .code(0)
            .stdout("5\n1\n255\n4\n1\n255\n")
            .stderr("");
    }
}

/// The mailbox limit in the tests that follow.
const MAILBOX_BYTES_MAX: u32 = 1 << 20;

/// A guest with a process that monitors an unknown name a number of times. Then it receives its down-signals, and traps if
/// their texts alone exceed its mailbox limit.
fn hoards_down_signals(bytes: u32, count: u32) -> String {
    let pages = bytes.div_ceil(1 << 16);
    format!(
        "(func (export \"hoards\")
           (local $count i32) (local $sum i32) (local $text i32)
           (local.set $text (i32.shl (memory.grow (i32.const {pages})) (i32.const 16)))
           (memory.fill (local.get $text) (i32.const 97) (i32.const {bytes}))
           (loop $again
             (call $watch-name (local.get $text) (i32.const {bytes}) (i32.const 192))
             (br_if $again (i32.lt_u
               (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {count}))))
           (loop $next
             (drop (call $take-down))
             (if (i32.load8_u (i32.const 128))
               (then (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 140))))))
             (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
           (call $must (i32.le_u (local.get $sum) (i32.const {MAILBOX_BYTES_MAX}))))
         (func (export \"run\")
           (call $start %\"hoards\" (i32.const 272))
           (call $watch (i32.const 272) (i32.const 192))
           (call $print-number (call $take-down-of (i32.const 192))))"
    )
}

#[track_caller]
fn run_with_small_mailbox(guest: impl AsRef<[u8]>) -> Outcome {
    Atoll::run(guest)
        .options(["--max-mailbox", "1MiB", "--max-message", "1MiB"])
        .outcome()
        .code(0)
}

#[test]
fn the_names_in_down_signals_count_as_bytes_of_the_mailbox() {
    // 8000 names of 255 bytes are 2 MB, so a mailbox of 1 MiB can't hold as many, even if an event weighs nothing else.
    let body = hoards_down_signals(NAME_BYTES_MAX, 8000);
    for (_, guest) in both_kinds("run hoards", &body) {
        // `exhausted` is case 8.
        run_with_small_mailbox(guest)
            .stdout("8\n")
            .crash("hoards", "exhausted: mailbox");
    }
}

#[test]
fn down_signals_do_not_keep_an_invalid_name() {
    // So often that the texts would be 4 to 64 times the mailbox limit. The host may end the process. If it does not keep the
    // text, it may also let the process go on.
    let cases = [
        (NAME_BYTES_MAX + 1, 16_384),
        (4096, 8000),
        (65_536, 1000),
        (1 << 20, 64),
    ];
    for (bytes, count) in cases {
        let body = hoards_down_signals(bytes, count);
        for (kind, guest) in both_kinds("run hoards", &body) {
            if bytes > 4096 && kind == "a module" {
                continue;
            }
            let outcome = run_with_small_mailbox(guest);
            let reasons: Vec<_> = outcome.crashes().into_iter().map(|it| it.reason).collect();
            let ended = match &reasons[..] {
                [] => outcome.stdout == "0\n",
                [reason] => reason == "exhausted: mailbox" || reason == "exhausted: message",
                _ => false,
            };
            assert!(
                ended,
                "{kind}, {bytes} bytes: the mailbox held more than it may\n{outcome}"
            );
        }
    }
}

#[test]
fn endless_monitors_of_an_unknown_name_end_the_process() {
    let monitors = |bytes: u32| {
        format!(
            "(loop $again
               (call $watch-name (i32.const 0x10000) (i32.const {bytes}) (i32.const 192)) (br $again))"
        )
    };
    let bodies = [1, NAME_BYTES_MAX, NAME_BYTES_MAX + 1, 4096].map(monitors);
    let offenders: Vec<Offender<'_>> = ["short", "longest", "too-long", "far-too-long"]
        .into_iter()
        .zip(&bodies)
        .map(|(name, body)| Offender {
            name,
            body,
            reason: "exhausted: mailbox",
        })
        .collect();
    let pieces = Guest {
        imports: TIES,
        body: TIE_FUNCTIONS,
        ..Guest::default()
    };
    check_with(&pieces, &["--max-mailbox", "1MiB"], &offenders);
}

/// Starts timers of an hour to a text of this length at 0x10000, this often.
fn starts_timers(start: &str, bytes: u32, count: u32) -> String {
    let start = start.replace(
        "TO",
        &format!("(i64.const 3600000000000) (i32.const 1) (i64.const 0x10000) (i64.const {bytes})"),
    );
    format!(
        "(local $count i32)
         (memory.fill (i32.const 0x10000) (i32.const 97) (i32.const 0x10000))
         (loop $again
           {start}
           (br_if $again (i32.lt_u
             (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const {count}))))"
    )
}

const SIGNAL: &str = "(call $start-timer TO (i32.const 3) (i32.const 192))";
const MESSAGE: &str =
    "(call $send-after TO (i32.const 4) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 192))";

#[test]
fn names_in_timers_count_as_bytes_of_timers() {
    // Timers have the same bound as a mailbox: 1000 names of 255 bytes are more than 64 KiB.
    let bodies = [SIGNAL, MESSAGE].map(|start| starts_timers(start, NAME_BYTES_MAX, 1000));
    let [signals, messages] = &bodies;
    let offender = |name, body| Offender {
        name,
        body,
        reason: "exhausted: resources",
    };
    let pieces = Guest {
        imports: TIES,
        body: TIE_FUNCTIONS,
        ..Guest::default()
    };
    let offenders = [offender("signals", signals), offender("messages", messages)];
    check_with(&pieces, &["--max-mailbox", "64KiB"], &offenders);
}

#[test]
fn timers_to_invalid_names_do_not_fill_the_host() {
    // 150,000 texts of 4096 bytes are 600 MB. Without them the timers are some tens of MB, if the host does not end the
    // process before.
    let body = format!(
        "(func (export \"hoards\")
           {}
           (call $parent (i32.const 256))
           (call $post (i32.const 256) (i32.const 7))
           (call $stays))
         (func (export \"run\")
           (call $start %\"hoards\" (i32.const 272))
           (call $watch (i32.const 272) (i32.const 192))
           ;; The process reports that all timers are started, or has been ended.
           (drop (call $take-any))
           (call $print %\"ready\")
           (drop (call $take-any)))",
        starts_timers(SIGNAL, 4096, 150_000)
    );
    for (kind, guest) in both_kinds("run hoards", &body) {
        let mut running = Atoll::run(guest)
            .options(["--max-mailbox", "64KiB"])
            .start();
        running.until_stdout("ready\n");
        let peak_mib = running.peak_memory_bytes() >> 20;
        assert!(
            peak_mib < 400,
            "{kind}: the host has held {peak_mib} MiB for 64 KiB that it may hold"
        );
    }
}

/// A server that does this before it answers a request (with tag 51).
fn forging_server(forge: &str) -> String {
    format!(
        "(func (export \"forges\")
           (drop (call $take-any))
           {forge}
           (call $answer (i32.const 51) %\"answer\")
           (call $stays))"
    )
}

/// A server, or a process that it tells, may use a request's reference to send a plain message (tag 50) that carries it.
const FORGE: &str = "
    (call $send (i64.load (i32.const 112)) (i64.load (i32.const 120)) (i32.const 50)
      (i32.const 1) (i64.load (i32.const 144)) (i64.load (i32.const 152)) (i32.const 0) %\"forged\")";
const FORGE_BY_NAME: &str = "
    (call $must (call $send-named %\"caller\" (i32.const 50)
      (i32.const 1) (i64.load (i32.const 144)) (i64.load (i32.const 152)) (i32.const 0) %\"forged\"))";

/// A main that calls the server and then receives the rest: only the plain message, with its reference. The request has to
/// end as expected (0: answered, 1: timed out, 2: down), and then this condition must hold.
fn asking_main(milliseconds: i64, outcome: u32, holds: &str) -> String {
    format!(
        "(func (export \"run\")
           (call $self (i32.const 16))
           (call $must (i32.eq (i32.const -1) (call $name %\"caller\" (i32.const 16))))
           (call $start %\"forges\" (i32.const 272))
           (call $must (i32.eq (i32.const {outcome})
             (call $request (i32.const 272) (i32.const 4) %\"payload\" (i64.const {milliseconds}))))
           (call $must {holds})
           (call $print-number (call $take-any))
           (call $print-number (i32.load8_u (i32.const 136)))
           (call $print (i32.load (i32.const 164)) (i32.load (i32.const 168)))
           (call $must (call $is-empty)))"
    )
}

/// The output of the four mains below for the plain message: its tag, whether there is a reference, and its payload.
const FORGED: &str = "50\n1\nforged\n";
/// The answer comes from `reply`.
const IS_ANSWERED: &str = "(i32.and
    (i32.eq (i32.load (i32.const 2152)) (i32.const 51))
    (i64.eq (i64.load32_u (i32.load (i32.const 2188))) (i64.const 0x77736e61)))";

#[test]
fn a_call_takes_no_plain_message_for_its_answer() {
    let main = asking_main(-1, 0, IS_ANSWERED);
    for forge in [FORGE, FORGE_BY_NAME] {
        let body = format!("{} {main}", forging_server(forge));
        signals::prints(&body, FORGED);
        let component = tied_component("run forges", &body);
        Atoll::run(component)
            .outcome()
            .code(0)
            .stdout(FORGED)
            .stderr("");
    }
}

#[test]
fn a_call_takes_no_plain_message_of_a_third_process_for_its_answer() {
    // The server tells another process of the request, and answers when that process has reported that it has sent.
    let server = format!(
        "(func (export \"forges\")
           (drop (call $take-any))
           (memory.copy (i32.const 2208) (i32.const 112) (i32.const 48))
           (call $start %\"accomplice\" (i32.const 288))
           (call $post-bytes (i32.const 288) (i32.const 6) (i32.const 2208) (i32.const 48))
           (call $take (i32.const 7))
           (memory.copy (i32.const 112) (i32.const 2208) (i32.const 48))
           (call $answer (i32.const 51) %\"answer\")
           (call $stays))
         (func (export \"accomplice\")
           (call $parent (i32.const 256))
           (drop (call $take-any))
           (memory.copy (i32.const 112) (i32.load (i32.const 164)) (i32.const 48))
           {FORGE}
           (call $post (i32.const 256) (i32.const 7)))"
    );
    let body = format!("{server} {}", asking_main(-1, 0, IS_ANSWERED));
    signals::prints(&body, FORGED);
}

#[test]
fn a_plain_message_does_not_keep_a_call_from_hearing_of_the_end() {
    // The server ends after it has sent the plain message, with `normal`, case 0.
    let server = forging_server(&format!("{FORGE} (return)"));
    let main = asking_main(-1, 2, "(i32.eqz (i32.load8_u (i32.const 2140)))");
    signals::prints(&format!("{server} {main}"), FORGED);
}

#[test]
fn a_plain_message_does_not_keep_a_call_from_timing_out() {
    let server = forging_server(&format!("{FORGE} (call $stays)"));
    let main = asking_main(20, 1, "(i32.const 1)");
    signals::prints(&format!("{server} {main}"), FORGED);
}
