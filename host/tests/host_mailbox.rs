//! Mailboxes of the host, as an embedding program uses them: futures that are dropped before they are ready, and answers to
//! requests.
//!
//! A future that waits for mail is dropped whenever an embedding program waits for several things at once. What it must not
//! do then is lose a message, or change what a later one does. No test asserts a length of time: where a time-out has to be
//! over, a later one of the same system is waited for.

use atoll_rt::{Config, Event, HostMailbox, Message, Outgoing, Pid, Selector, Spawn, System};
use std::time::Duration;

/// Functions that answer a message, each in its way, until it is one with tag 9.
const GUEST: &str = r#"(module
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send" (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "reply" (func $reply (param i64 i64 i64 i64 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Waits for a message that is not the last one. Its sender is at 16, its tag at 32, its reference at 48, the payload's
  ;; address and length at 68.
  (func $next (result i32)
    (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 0))
    (i32.ne (i32.load (i32.const 32)) (i32.const 9)))
  ;; Sends the payload back, with a tag.
  (func $send-back (param $tag i32)
    (call $send (i64.load (i32.const 16)) (i64.load (i32.const 24)) (local.get $tag)
      (i32.load8_u (i32.const 40)) (i64.load (i32.const 48)) (i64.load (i32.const 56))
      (i32.const 0) (i32.load (i32.const 68)) (i32.load (i32.const 72))))
  (func $answer (param $tag i32)
    (call $reply (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i64.load (i32.const 48)) (i64.load (i32.const 56))
      (local.get $tag) (i32.const 0) (i32.load (i32.const 68)) (i32.load (i32.const 72))))
  ;; Sends a message back, with its tag.
  (func (export "echoes")
    (loop $again
      (if (call $next) (then (call $send-back (i32.load (i32.const 32))) (br $again)))))
  ;; Answers by `reply` (tag 51), as a server answers `call`, and sends a plain message after it (tag 52).
  (func (export "answers")
    (loop $again
      (if (call $next) (then (call $answer (i32.const 51)) (call $send-back (i32.const 52)) (br $again)))))
  ;; Sends a thousand messages, with tags from 0 to 999, to who asks.
  (func (export "counts") (local $tag i32)
    (loop $again
      (if (call $next)
        (then
          (local.set $tag (i32.const 0))
          (loop $more
            (call $send-back (local.get $tag))
            (br_if $more (i32.lt_u
              (local.tee $tag (i32.add (local.get $tag) (i32.const 1))) (i32.const 1000))))
          (br $again)))))
  (func (export "run")))"#;

/// How many messages the function `counts` sends.
const COUNT: u32 = 1000;
/// Shorter than any wait for [`LATER`].
const SOON: Duration = Duration::from_millis(10);
/// When this is over, so is [`SOON`].
const LATER: Duration = Duration::from_millis(50);
/// Never comes in a test.
const NEVER: Duration = Duration::from_secs(3600);

/// A system with a process of the guest's, and two mailboxes of the host.
struct Scene {
    system: System,
    guest: Pid,
    mailbox: HostMailbox,
    other: HostMailbox,
}

impl Scene {
    fn new(function: &str) -> Scene {
        let system = System::new(Config {
            schedulers: 1,
            cache: false,
            ..Config::default()
        })
        .expect("the system starts");
        let program = system
            .load("guest", GUEST.as_bytes())
            .expect("the guest loads");
        let guest = system
            .spawn(Spawn::new(&program).function(function))
            .expect("it is spawned");
        let mailbox = system.open_mailbox().expect("there is room");
        let other = system.open_mailbox().expect("there is room");
        Scene {
            system,
            guest,
            mailbox,
            other,
        }
    }

    /// Polls a timed receive of the mailbox once, and drops it.
    async fn drop_receive(&mut self, timeout: Duration) {
        let receive = self.mailbox.receive(Selector::Any, Some(timeout));
        let dropped = tokio::time::timeout(Duration::ZERO, receive).await;
        assert!(dropped.is_err(), "nothing has been sent: {dropped:?}");
    }

    /// Waits until what was to be over soon is.
    async fn pass(&mut self) {
        let nothing = self.other.receive(Selector::Any, Some(LATER)).await;
        assert_eq!(nothing, None);
    }

    /// Ends the system, on a thread that may block.
    async fn end(self) {
        let system = self.system;
        let ended = tokio::task::spawn_blocking(move || system.shutdown()).await;
        ended.expect("the system ends in order");
    }

    /// Sends a message to the mailbox when the mailbox already waits for it, and checks that it is what the wait is for.
    async fn check_waits(&mut self, timeout: Option<Duration>) {
        let pid = self.mailbox.pid();
        let other = &self.other;
        let sends = async { other.send(pid, Outgoing::new(7, b"sent later")) };
        // Polled in this order: the receive waits before anything is sent.
        let (received, ()) = tokio::join!(self.mailbox.receive(Selector::Any, timeout), sends);
        let message = message(received);
        assert_eq!((message.tag, &message.payload[..]), (7, &b"sent later"[..]));
    }
}

#[track_caller]
fn message(event: Option<Event>) -> Message {
    match event {
        Some(Event::Message(message)) => message,
        other => panic!("{other:?} is no message"),
    }
}

#[tokio::test]
async fn a_receive_waits_after_a_timed_one_was_dropped() {
    // At once, and when the time of the one that was dropped is over.
    for timeout in [None, Some(NEVER)] {
        let mut scene = Scene::new("echoes");
        scene.drop_receive(SOON).await;
        scene.check_waits(timeout).await;
        scene.drop_receive(SOON).await;
        scene.pass().await;
        scene.check_waits(timeout).await;
        // Nor is that so for one later only.
        scene.check_waits(timeout).await;
        scene.end().await;
    }
}

#[tokio::test]
async fn a_receive_waits_while_the_time_of_a_dropped_one_runs_out() {
    let mut scene = Scene::new("echoes");
    scene.drop_receive(SOON).await;
    let pid = scene.mailbox.pid();
    let other = &mut scene.other;
    let sends_later = async {
        assert_eq!(other.receive(Selector::Any, Some(LATER)).await, None);
        other.send(pid, Outgoing::new(7, b""));
    };
    let (received, ()) = tokio::join!(scene.mailbox.receive(Selector::Any, None), sends_later);
    assert_eq!(message(received).tag, 7);
    scene.end().await;
}

#[tokio::test]
async fn a_timed_receive_times_out_after_others_were_dropped() {
    let mut scene = Scene::new("echoes");
    for _ in 0..10 {
        scene.drop_receive(NEVER).await;
    }
    let nothing = scene.mailbox.receive(Selector::Any, Some(SOON)).await;
    assert_eq!(nothing, None);
    scene.check_waits(None).await;
    scene.end().await;
}

#[tokio::test]
async fn what_arrives_after_a_receive_was_dropped_is_received_later() {
    let mut scene = Scene::new("echoes");
    for (tag, timeout) in [(1, SOON), (2, NEVER), (3, LATER)] {
        scene.drop_receive(timeout).await;
        scene
            .mailbox
            .send(scene.guest, Outgoing::new(tag, b"payload"));
        let received = scene.mailbox.receive(Selector::Tag(tag), None).await;
        assert_eq!(&message(received).payload[..], b"payload");
    }
    scene.end().await;
}

/// Takes all that `counts` sends by receives that are dropped again and again, and checks that nothing is lost and that the
/// order is right.
async fn check_nothing_is_lost(timeout: Option<Duration>, selector: fn(u32) -> Selector) {
    let mut scene = Scene::new("counts");
    // One receive is dropped for sure; how many are while the guest sends depends on the machine.
    scene.drop_receive(NEVER).await;
    scene.mailbox.send(scene.guest, Outgoing::new(1, b"some"));
    let mut next = 0;
    while next < COUNT {
        tokio::select! {
            // The receive is polled first, and dropped if it is not ready.
            biased;
            received = scene.mailbox.receive(selector(next), timeout) => {
                assert_eq!(message(received).tag, next);
                next += 1;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    let nothing = scene
        .mailbox
        .receive(Selector::Any, Some(Duration::ZERO))
        .await;
    assert_eq!(nothing, None);
    scene.end().await;
}

#[tokio::test]
async fn nothing_is_lost_by_receives_that_are_dropped() {
    check_nothing_is_lost(None, |_| Selector::Any).await;
    check_nothing_is_lost(None, Selector::Tag).await;
}

#[tokio::test]
async fn nothing_is_lost_by_timed_receives_that_are_dropped() {
    check_nothing_is_lost(Some(NEVER), |_| Selector::Any).await;
    check_nothing_is_lost(Some(NEVER), Selector::Tag).await;
}

#[tokio::test]
async fn a_message_that_is_there_is_received_by_the_first_poll() {
    // So a time-out that has run out already does not keep anybody from it.
    let mut scene = Scene::new("echoes");
    let pid = scene.mailbox.pid();
    scene.other.send(pid, Outgoing::new(7, b""));
    let receive = scene.mailbox.receive(Selector::Any, Some(NEVER));
    let received = tokio::time::timeout(Duration::ZERO, receive).await;
    assert_eq!(message(received.expect("it is there")).tag, 7);
    scene.end().await;
}

#[tokio::test]
async fn a_guests_reply_to_a_request_of_the_host_arrives() {
    // `make_reference` says that an answer can be received by it. The plain message that comes after the reply shows that
    // a reply that has not come by then never will.
    let mut scene = Scene::new("answers");
    for question in ["first", "second"] {
        let reference = scene.mailbox.make_reference();
        let request = Outgoing::new(1, question.as_bytes()).reference(reference);
        scene.mailbox.send(scene.guest, request);
        let by_reference = Selector::Reference(reference);
        let answer = message(scene.mailbox.receive(by_reference.clone(), None).await);
        assert_eq!((answer.tag, answer.reference), (51, Some(reference)));
        assert_eq!(&answer.payload[..], question.as_bytes());
        // A plain message that carries the reference is received by it as well.
        let plain = message(scene.mailbox.receive(by_reference, None).await);
        assert_eq!((plain.tag, plain.sender), (52, scene.guest));
    }
    scene.end().await;
}

#[tokio::test]
async fn a_reply_to_what_no_mailbox_asked_is_dropped() {
    // The reference is another mailbox's: what is answered goes to whoever sent it, who has not made it.
    let mut scene = Scene::new("answers");
    let reference = scene.other.make_reference();
    let request = Outgoing::new(1, b"").reference(reference);
    scene.mailbox.send(scene.guest, request);
    let first = message(scene.mailbox.receive(Selector::Any, None).await);
    assert_eq!(first.tag, 52);
    scene.end().await;
}
