//! The text before every guest: imports, a memory, and functions that keep cases short.
//!
//! In a case, `%"some text"` stands for the two operands `(i32.const ADDRESS) (i32.const LENGTH)` of that text, which is put into
//! memory. The memory of two pages has the following layout. A case may use the free parts.
//!
//! ```text
//!        16  this process's own pid (16 bytes), after `$start`
//!        32  the operands of `fd_write`, and the number of bytes written
//!        64  the result of the last spawn (24 bytes): error flag at 64, pid or error at 72
//!        96  the last received event (80 bytes): sender at 112, tag at 128, is there a reference at 136, the
//!            reference at 144, format at 160, payload's address at 164, its length at 168
//!       176  the argument's address and length
//!       192  the last reference made (16 bytes)
//!       208  a small payload to send (16 bytes)
//!       256  free, for pids: `$neighbour`'s is kept at 256, an offender's at 272
//!       512  a line to print
//!      1024  free
//!      4096  texts
//!     32768  the heap, which starts anew with each received event
//! ```

use std::fmt::Write;

const TEXTS_AT: usize = 4096;

const CONTRACT: &str = r#"
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "exit" (func $exit (param i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "is-alive" (func $is-alive (param i64 i64) (result i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "yield-now" (func $yield-now))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "make-reference" (func $make-reference (param i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
"#;

const WASI: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"#;

const MEMORY: &str = r#"(memory (export "memory") 2)"#;

const REALLOC: &str = r#"
  ;; Continues after the last allocation, and grows the memory when it is used up.
  (func $cabi_realloc (export "cabi_realloc")
    (param i32 i32) (param $alignment i32) (param $bytes i32) (result i32)
    (local $block i32) (local $missing i32)
    (local.set $block
      (i32.and
        (i32.sub (i32.add (global.get $heap) (local.get $alignment)) (i32.const 1))
        (i32.sub (i32.const 0) (local.get $alignment))))
    (global.set $heap (i32.add (local.get $block) (local.get $bytes)))
    (local.set $missing
      (i32.sub (i32.shr_u (i32.add (global.get $heap) (i32.const 65535)) (i32.const 16)) (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then (unreachable)))))
    (local.get $block))
"#;

const FUNCTIONS: &str = r#"
  (global $heap (mut i32) (i32.const 32768))

  (func $copy-id (param $from i32) (param $to i32)
    (i64.store (local.get $to) (i64.load (local.get $from)))
    (i64.store offset=8 (local.get $to) (i64.load offset=8 (local.get $from))))

  ;; Spawns a function of a program (of this one, if its name is empty) with this process's pid as its argument.
  ;; Puts the new pid into the slot and answers -1, or else the error's case.
  (func $try-start-in
    (param $program i32) (param $program-bytes i32) (param $function i32) (param $function-bytes i32)
    (param $slot i32) (result i32)
    (call $self (i32.const 16))
    (call $spawn
      (i32.ne (local.get $program-bytes) (i32.const 0)) (local.get $program) (local.get $program-bytes)
      (local.get $function) (local.get $function-bytes) (i32.const 16) (i32.const 16)
      (i32.const 0) (i32.const 0) (i32.const 64))
    (call $spawned (local.get $slot)))

  ;; Reads the result of a spawn in the same way.
  (func $spawned (param $slot i32) (result i32)
    (if (result i32) (i32.load8_u (i32.const 64))
      (then (i32.load8_u (i32.const 72)))
      (else (call $copy-id (i32.const 72) (local.get $slot)) (i32.const -1))))

  (func $try-start (param $function i32) (param $function-bytes i32) (param $slot i32) (result i32)
    (call $try-start-in (i32.const 0) (i32.const 0)
      (local.get $function) (local.get $function-bytes) (local.get $slot)))

  ;; The same for a case that expects no error.
  (func $start (param $function i32) (param $function-bytes i32) (param $slot i32)
    (if (i32.ne (i32.const -1)
          (call $try-start (local.get $function) (local.get $function-bytes) (local.get $slot)))
      (then (unreachable))))

  ;; Spawns a function of this program with options: elements of 24 bytes.
  (func $try-start-with
    (param $function i32) (param $function-bytes i32) (param $options i32) (param $count i32) (param $slot i32)
    (result i32)
    (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (local.get $function) (local.get $function-bytes)
      (i32.const 0) (i32.const 0) (local.get $options) (local.get $count) (i32.const 64))
    (call $spawned (local.get $slot)))

  ;; Puts the pid in this process's argument into the slot.
  (func $parent (param $slot i32)
    (call $argument (i32.const 176))
    (call $copy-id (i32.load (i32.const 176)) (local.get $slot)))

  (func $post-bytes (param $slot i32) (param $tag i32) (param $at i32) (param $bytes i32)
    (call $send (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (local.get $at) (local.get $bytes)))

  (func $post (param $slot i32) (param $tag i32)
    (call $post-bytes (local.get $slot) (local.get $tag) (i32.const 0) (i32.const 0)))

  ;; Waits for any event and answers its tag.
  (func $take-any (result i32)
    (global.set $heap (i32.const 32768))
    (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 96))
    (i32.load (i32.const 128)))

  ;; Waits for a message with this tag.
  (func $take (param $tag i32)
    (global.set $heap (i32.const 32768))
    (call $receive (i32.const 1) (i64.extend_i32_u (local.get $tag)) (i64.const 0)
      (i32.const 0) (i64.const 0) (i32.const 96)))

  ;; Takes a message with this tag, if there is one. Answers whether there was.
  (func $poll (param $tag i32) (result i32)
    (global.set $heap (i32.const 32768))
    (call $receive (i32.const 1) (i64.extend_i32_u (local.get $tag)) (i64.const 0)
      (i32.const 1) (i64.const 0) (i32.const 96))
    (i32.load8_u (i32.const 96)))

  ;; Waits until the process has ended.
  (func $await-end (param $slot i32)
    (loop $again
      (if (call $is-alive (i64.load (local.get $slot)) (i64.load offset=8 (local.get $slot)))
        (then (call $yield-now) (br $again)))))

  ;; Answers every message (tag 2) with the number of messages so far.
  (func $neighbour (export "neighbour")
    (local $count i32)
    (loop $next
      (drop (call $take-any))
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (i32.store (i32.const 208) (local.get $count))
      (call $post-bytes (i32.const 112) (i32.const 2) (i32.const 208) (i32.const 4))
      (br $next)))

  ;; Asks a neighbour (tag 1), and returns its answer.
  (func $ask (param $slot i32) (result i32)
    (call $post (local.get $slot) (i32.const 1))
    (call $take (i32.const 2))
    (i32.load (i32.load (i32.const 164))))

  (func $must (param $condition i32)
    (if (i32.eqz (local.get $condition)) (then (unreachable))))
"#;

const PRINTING: &str = r#"
  ;; Prints a text of at most 500 bytes and the end of the line.
  (func $print (param $at i32) (param $bytes i32)
    (memory.copy (i32.const 512) (local.get $at) (local.get $bytes))
    (i32.store8 offset=512 (local.get $bytes) (i32.const 10))
    (call $must (i32.eqz
      (call $write (i32.const 512) (i32.add (local.get $bytes) (i32.const 1))))))

  ;; Writes bytes to standard output and answers the error's number.
  (func $write (param $at i32) (param $bytes i32) (result i32)
    (i32.store (i32.const 32) (local.get $at))
    (i32.store (i32.const 36) (local.get $bytes))
    (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))

  (func $print-number (param $number i32)
    (local $at i32)
    (local.set $at (i32.const 1023))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (br_if $digit (local.tee $number (i32.div_u (local.get $number) (i32.const 10)))))
    (call $print (local.get $at) (i32.sub (i32.const 1023) (local.get $at))))
"#;

/// A guest's text in parts, for cases that need other parts than usual.
pub struct Guest<'a> {
    /// May it print and exit through WASI? Otherwise it imports nothing but the contract.
    pub wasi: bool,
    /// Imports besides those of the contract and of printing.
    pub imports: &'a str,
    /// The memory.
    pub memory: &'a str,
    /// The `cabi_realloc`.
    pub realloc: &'a str,
    /// The functions.
    pub body: &'a str,
}

impl Default for Guest<'_> {
    fn default() -> Self {
        Guest {
            wasi: true,
            imports: "",
            memory: MEMORY,
            realloc: REALLOC,
            body: "",
        }
    }
}

impl Guest<'_> {
    /// The complete text.
    pub fn text(&self) -> String {
        let mut texts = Texts::default();
        let body = texts.replace_texts(self.body);
        let mut module = String::from("(module");
        let (wasi, printing) = if self.wasi {
            (WASI, PRINTING)
        } else {
            ("", "")
        };
        for piece in [
            CONTRACT,
            wasi,
            self.imports,
            self.memory,
            FUNCTIONS,
            printing,
            self.realloc,
            &body,
            &texts.segment(),
            ")",
        ] {
            module += piece;
            module.push('\n');
        }
        module
    }
}

/// A guest that uses the contract and can print.
pub fn guest(body: &str) -> String {
    Guest {
        body,
        ..Guest::default()
    }
    .text()
}

/// A guest that imports nothing but the contract.
pub fn bare_guest(body: &str) -> String {
    Guest {
        wasi: false,
        body,
        ..Guest::default()
    }
    .text()
}

/// The texts of a guest between `%"` and `"`, in order.
#[derive(Default)]
struct Texts(String);

impl Texts {
    /// Replaces texts by their operands. A text has no escapes.
    fn replace_texts(&mut self, body: &str) -> String {
        let mut placed = String::new();
        let mut rest = body;
        while let Some((before, text)) = rest.split_once("%\"") {
            let (text, after) = text.split_once('"').expect("a text has an end");
            let at = TEXTS_AT + self.0.len();
            let _ = write!(
                placed,
                "{before}(i32.const {at}) (i32.const {})",
                text.len()
            );
            self.0 += text;
            rest = after;
        }
        placed + rest
    }

    fn segment(&self) -> String {
        format!("(data (i32.const {TEXTS_AT}) \"{}\")", self.0)
    }
}
