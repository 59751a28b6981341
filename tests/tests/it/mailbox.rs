//! The guarantees of the mailbox: order, selection, timeouts, the sender, and unchanged payloads.

use crate::prints;
use atoll_tests::{Atoll, guest};

/// Main has this body, and its own pid at 16.
#[track_caller]
fn check(body: &str, stdout: &str) {
    prints(&format!("(call $self (i32.const 16)) {body}"), stdout);
}

/// Sends a message with each of these tags to itself.
fn post(tags: &[u32]) -> String {
    tags.iter()
        .map(|tag| format!("(call $post (i32.const 16) (i32.const {tag}))"))
        .collect()
}

/// Receives with this selector, polling, and prints the tag, or `none`.
fn poll(selector: &str) -> String {
    format!(
        "(call $receive {selector} (i32.const 1) (i64.const 0) (i32.const 96))
         (if (i32.load8_u (i32.const 96))
           (then (call $print-number (i32.load (i32.const 128))))
           (else (call $print %\"none\")))"
    )
}

const ANY: &str = "(i32.const 0) (i64.const 0) (i64.const 0)";

fn tag(tag: u32) -> String {
    format!("(i32.const 1) (i64.const {tag}) (i64.const 0)")
}

fn kinds(bits: u32) -> String {
    format!("(i32.const 4) (i64.const {bits}) (i64.const 0)")
}

#[test]
fn messages_come_in_the_order_in_which_they_were_sent() {
    let body = post(&[3, 1, 2]) + &poll(ANY).repeat(4);
    check(&body, "3\n1\n2\nnone\n");
}

#[test]
fn a_tag_selects_and_leaves_the_others_in_order() {
    let selected: String = [tag(3), tag(2), tag(9), tag(1)]
        .iter()
        .map(|tag| poll(tag))
        .collect();
    let body = post(&[1, 2, 1, 3, 2]) + &selected + &poll(ANY).repeat(3);
    check(&body, "3\n2\nnone\n1\n1\n2\nnone\n");
}

#[test]
fn only_the_low_half_of_a_joined_number_is_the_tag() {
    // Some toolchains sign-extend the tag.
    let body = post(&[0xffff_fff0])
        + &poll("(i32.const 1) (i64.const -16) (i64.const 0)")
        + &post(&[0xffff_fff0])
        + &poll("(i32.const 1) (i64.const 0xfffffff0) (i64.const 0)");
    check(&body, "4294967280\n4294967280\n");
}

#[test]
fn tags_select_the_first_of_several() {
    let tags = "(i32.const 2) (i64.const 1024) (i64.const 3)";
    let none = "(i32.const 2) (i64.const 1024) (i64.const 0)";
    let body = format!(
        "(i32.store (i32.const 1024) (i32.const 5)) (i32.store (i32.const 1028) (i32.const 7))
         (i32.store (i32.const 1032) (i32.const 6)) {} {} {} {}",
        post(&[1, 6, 5, 8, 7]),
        poll(none),
        poll(tags).repeat(4),
        poll(ANY).repeat(3),
    );
    check(&body, "none\n6\n5\n7\nnone\n1\n8\nnone\n");
}

#[test]
fn kinds_select_messages_only_by_the_kind_of_messages() {
    let body = post(&[1, 2, 3])
        + &[0, 0b0010, 0b0100, 0b1000, 0b1110, 0b1_0000]
            .map(|bits| poll(&kinds(bits)))
            .concat()
        + &[0b0001, 0b1111, 0xff]
            .map(|bits| poll(&kinds(bits)))
            .concat();
    check(&body, "none\nnone\nnone\nnone\nnone\nnone\n1\n2\n3\n");
}

#[test]
fn a_reference_selects_its_answer() {
    let send = |tag: u32, reference: u32| {
        format!(
            "(call $send (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const {tag})
               (i32.const 1) (i64.load (i32.const {reference})) (i64.load offset=8 (i32.const {reference}))
               (i32.const 0) (i32.const 0) (i32.const 0))"
        )
    };
    let select = |reference: u32| {
        poll(&format!(
            "(i32.const 3) (i64.load (i32.const {reference})) (i64.load offset=8 (i32.const {reference}))"
        ))
    };
    // Two references: the process asks for one before there is an answer, and one was never made.
    let body = [
        "(call $make-reference (i32.const 1024)) (call $make-reference (i32.const 1040))"
            .to_owned(),
        post(&[1]),
        send(2, 1040),
        send(3, 1024),
        send(4, 1040),
        select(1024),
        "(call $must (i32.eq (i32.load8_u (i32.const 136)) (i32.const 1)))
         (call $must (i64.eq (i64.load (i32.const 144)) (i64.load (i32.const 1024))))
         (call $must (i64.eq (i64.load (i32.const 152)) (i64.load (i32.const 1032))))"
            .to_owned(),
        select(1024),
        select(1040),
        select(1056),
        poll(ANY),
        "(call $must (i32.eqz (i32.load8_u (i32.const 136))))".to_owned(),
        select(1040),
        poll(ANY),
    ]
    .concat();
    check(&body, "3\nnone\n2\nnone\n1\n4\nnone\n");
}

#[test]
fn references_are_unique_and_small_enough_for_javascript() {
    let body = "(local $count i32)
        (loop $next
          (call $copy-id (i32.const 192) (i32.const 1024))
          (call $make-reference (i32.const 192))
          (call $must (i64.ne (i64.load (i32.const 200)) (i64.load (i32.const 1032))))
          (call $must (i64.lt_u (i64.load (i32.const 192)) (i64.const 0x20000000000000)))
          (call $must (i64.lt_u (i64.load (i32.const 200)) (i64.const 0x20000000000000)))
          (call $must (i64.lt_u (i64.load (i32.const 16)) (i64.const 0x20000000000000)))
          (call $must (i64.lt_u (i64.load (i32.const 24)) (i64.const 0x20000000000000)))
          (br_if $next (i32.lt_u
            (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000))))
        (call $print-number (local.get $count))";
    prints(
        &body.replacen("(loop", "(call $self (i32.const 16)) (loop", 1),
        "10000\n",
    );
}

#[test]
fn timeouts_run_out() {
    // 0 and 1 ns, 1 ms; each with an empty mailbox, then with a message that does not fit.
    let wait = |timeout_ns: u64| {
        format!(
            "(call $receive {} (i32.const 1) (i64.const {timeout_ns}) (i32.const 96))
             (call $print-number (i32.load8_u (i32.const 96)))",
            tag(7)
        )
    };
    let all: String = [0, 1, 1_000_000].map(wait).concat();
    check(
        &format!("{all} {} {all}", post(&[1, 2])),
        "0\n0\n0\n0\n0\n0\n",
    );
}

#[test]
fn a_timeout_that_never_runs_out_waits_for_a_message() {
    let body = "(func (export \"child\")
          (call $parent (i32.const 256))
          (call $post (i32.const 256) (i32.const 7)))
        (func (export \"run\")
          (call $start %\"child\" (i32.const 256))
          (call $receive (i32.const 1) (i64.const 7) (i64.const 0) (i32.const 1) (i64.const -1) (i32.const 96))
          (call $print-number (i32.load (i32.const 128))))";
    Atoll::run(guest(body)).outcome().code(0).stdout("7\n");
}

#[test]
fn a_message_that_is_there_is_taken_whatever_the_timeout() {
    let take = |timeout_ns: u64| {
        format!(
            "{} (call $receive {ANY} (i32.const 1) (i64.const {timeout_ns}) (i32.const 96))
             (call $print-number (i32.load8_u (i32.const 96)))",
            post(&[1])
        )
    };
    check(&[0, 1, u64::MAX].map(take).concat(), "1\n1\n1\n");
}

#[test]
fn a_wait_that_ran_out_leaves_no_timer_to_the_next() {
    // Many short waits, some of which end by a message, and then one that has to wait for its message.
    let body = "(func (export \"echo\")
          (loop $next
            (drop (call $take-any))
            (call $post (i32.const 112) (i32.const 2))
            (br $next)))
        (func (export \"run\")
          (local $count i32)
          (call $start %\"echo\" (i32.const 256))
          (loop $next
            (call $receive (i32.const 1) (i64.const 9) (i64.const 0) (i32.const 1) (i64.const 1000) (i32.const 96))
            (call $must (i32.eqz (i32.load8_u (i32.const 96))))
            (call $post (i32.const 256) (i32.const 1))
            (call $receive (i32.const 1) (i64.const 2) (i64.const 0)
              (i32.const 1) (i64.const 60000000000) (i32.const 96))
            (call $must (i32.load8_u (i32.const 96)))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 1000))))
          (call $print-number (local.get $count)))";
    for schedulers in ["1", "2"] {
        Atoll::run(guest(body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("1000\n");
    }
}

#[test]
fn a_message_names_its_sender() {
    // The child sends its own pid in the payload. Main compares it with the envelope's pid and with the result of the spawn.
    let body = "(func (export \"child\")
          (call $parent (i32.const 256))
          (call $self (i32.const 272))
          (call $post-bytes (i32.const 256) (i32.const 1) (i32.const 272) (i32.const 16)))
        (func $same (param $a i32) (param $b i32) (result i32)
          (i32.and
            (i64.eq (i64.load (local.get $a)) (i64.load (local.get $b)))
            (i64.eq (i64.load offset=8 (local.get $a)) (i64.load offset=8 (local.get $b)))))
        (func (export \"run\")
          (call $start %\"child\" (i32.const 256))
          (call $take (i32.const 1))
          (call $must (call $same (i32.const 112) (i32.const 256)))
          (call $must (call $same (i32.load (i32.const 164)) (i32.const 256)))
          (call $must (i32.eqz (call $same (i32.const 16) (i32.const 256))))
          (call $self (i32.const 272))
          (call $must (call $same (i32.const 16) (i32.const 272)))
          (call $print %\"same\"))";
    Atoll::run(guest(body)).outcome().code(0).stdout("same\n");
}

#[test]
fn format_and_payload_arrive_as_they_were_sent() {
    // Sizes around the host's inline payload and up to a MiB. The format must arrive, too.
    let body = "(func $byte (param $at i32) (result i32)
          (i32.shr_u (i32.mul (local.get $at) (i32.const 0x9e3779b1)) (i32.const 24)))
        (func $check (param $bytes i32) (param $format i32)
          (local $at i32) (local $payload i32)
          (call $send (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 1)
            (i32.const 0) (i64.const 0) (i64.const 0) (local.get $format) (i32.const 0x200000) (local.get $bytes))
          (call $take (i32.const 1))
          (call $must (i32.eq (i32.load8_u (i32.const 160)) (local.get $format)))
          (call $must (i32.eq (i32.load (i32.const 168)) (local.get $bytes)))
          (local.set $payload (i32.load (i32.const 164)))
          (block $end
            (loop $next
              (br_if $end (i32.ge_u (local.get $at) (local.get $bytes)))
              (call $must (i32.eq
                (i32.load8_u (i32.add (local.get $payload) (local.get $at)))
                (call $byte (local.get $at))))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br $next))))
        (func (export \"run\")
          (local $at i32)
          (call $self (i32.const 16))
          (drop (memory.grow (i32.const 62)))
          (loop $next
            (i32.store8 offset=0x200000 (local.get $at) (call $byte (local.get $at)))
            (br_if $next (i32.lt_u
              (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 1048576))))
          CHECKS
          (call $print %\"right\"))";
    let checks: String = [0, 1, 31, 32, 33, 4096, 65536, 1 << 20]
        .iter()
        .flat_map(|bytes| {
            [0, 1].map(|format| format!("(call $check (i32.const {bytes}) (i32.const {format}))"))
        })
        .collect();
    Atoll::run(guest(&body.replace("CHECKS", &checks)))
        .outcome()
        .code(0)
        .stdout("right\n");
}

#[test]
fn sends_to_dead_processes_have_no_effect() {
    // A process that has ended, one that never existed, ids beyond all bounds, and a valid id of another node.
    let body = "(func (export \"child\"))
        (func $lost (param $node i64) (param $id i64)
          (call $must (i32.eqz (call $is-alive (local.get $node) (local.get $id))))
          (call $send (local.get $node) (local.get $id) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0)
            (i32.const 0) (i32.const 0) (i32.const 10)))
        (func (export \"run\")
          (call $start %\"child\" (i32.const 256))
          (call $await-end (i32.const 256))
          (call $lost (i64.load (i32.const 256)) (i64.load (i32.const 264)))
          (call $lost (i64.load (i32.const 16)) (i64.const 0))
          (call $lost (i64.load (i32.const 16)) (i64.const 1))
          (call $lost (i64.load (i32.const 16)) (i64.const -1))
          (call $lost (i64.const 0) (i64.const 0))
          (call $lost (i64.const -1) (i64.const -1))
          (call $lost (i64.add (i64.load (i32.const 16)) (i64.const 1)) (i64.load (i32.const 24)))
          (call $must (call $is-alive (i64.load (i32.const 16)) (i64.load (i32.const 24))))
          (call $print-number (call $poll (i32.const 1))))";
    Atoll::run(guest(body)).outcome().code(0).stdout("0\n");
}

#[test]
fn order_holds_between_two_processes_on_several_schedulers() {
    // Tags count up. Main takes them with any, and by tag, in turn.
    let body = "(func (export \"counter\")
          (local $tag i32)
          (call $parent (i32.const 256))
          (loop $next
            (call $post (i32.const 256) (local.get $tag))
            (br_if $next (i32.lt_u
              (local.tee $tag (i32.add (local.get $tag) (i32.const 1))) (i32.const 20000)))))
        (func (export \"run\")
          (local $tag i32)
          (call $start %\"counter\" (i32.const 256))
          (loop $next
            (call $must (i32.eq (call $take-any) (local.get $tag)))
            (call $take (i32.add (local.get $tag) (i32.const 1)))
            (br_if $next (i32.lt_u
              (local.tee $tag (i32.add (local.get $tag) (i32.const 2))) (i32.const 20000))))
          (call $print-number (local.get $tag)))";
    for schedulers in ["1", "2", "4"] {
        Atoll::run(guest(body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("20000\n");
    }
}

#[test]
fn many_senders_and_one_receiver_lose_nothing() {
    let body = "(func (export \"sender\")
          (local $count i32)
          (call $parent (i32.const 256))
          (loop $next
            (call $post (i32.const 256) (i32.const 1))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100)))))
        (func (export \"run\")
          (local $count i32)
          (loop $next
            (call $start %\"sender\" (i32.const 256))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100))))
          (local.set $count (i32.const 0))
          (loop $next
            (drop (call $take-any))
            (br_if $next (i32.lt_u
              (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 10000))))
          (call $print-number (local.get $count))
          (call $print-number (call $poll (i32.const 1))))";
    for schedulers in ["1", "4"] {
        Atoll::run(guest(body))
            .options(["--schedulers", schedulers])
            .outcome()
            .code(0)
            .stdout("10000\n0\n");
    }
}
