;; Processes whose names, labels, functions and reasons control a terminal or deceive a reader: escape sequences, line ends,
;; marks that change the direction of a text, faked reports.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "exit" (func $exit (param i32 i32 i32)))
  (import "atoll-rt:process/names@0.2.0" "register" (func $register (param i32 i32 i64 i64 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (data (i32.const 2048) "\1b[2J\1b]0;t\07\0d\0acrash: process \e2\80\aee\c2\9bvil\e2\80\a8li\e2\81\a9ne\e2\80\8b")
  (data (i32.const 3072) "\1b[31m\0a\e2\80\aefunction")
  (func $"\1b[32mname\0a\e2\80\aetraps" (unreachable))
  (func (export "\1b[31m\0a\e2\80\aefunction")
    (call $self (i32.const 16))
    (call $register (i32.const 2048) (i32.const 49) (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 64))
    ;; A trap with a text of its own.
    (call $exit (i32.const 7) (i32.const 2048) (i32.const 49)))
  (func (export "run")
    ;; Option 6 is the label.
    (i32.store8 (i32.const 512) (i32.const 6))
    (i32.store (i32.const 520) (i32.const 2048))
    (i32.store (i32.const 524) (i32.const 49))
    (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3072) (i32.const 17) (i32.const 0) (i32.const 0)
      (i32.const 512) (i32.const 1) (i32.const 256))
    (call $at-work)
    (call $"\1b[32mname\0a\e2\80\aetraps")))
