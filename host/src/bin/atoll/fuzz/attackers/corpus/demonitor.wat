;; Collects 100,000 messages and 100,000 group signals in its own mailbox, and removes the group's monitor with one call.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/groups@0.2.0" "monitor" (func $monitor-group (param i32 i32 i32)))
  (import "atoll-rt:process/groups@0.2.0" "demonitor" (func $demonitor-group (param i64 i64) (result i32)))
  (import "atoll-rt:process/groups@0.2.0" "join" (func $join (param i32 i32 i64 i64 i32)))
  (import "atoll-rt:process/groups@0.2.0" "leave" (func $leave (param i32 i32 i64 i64) (result i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "run") (local $count i32)
    (call $self (i32.const 16))
    (loop $next
      (call $tell (i32.const 16) (i32.const 1))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 100000))))
    ;; A group of its own, whose name is its id in ASCII.
    (i64.store (i32.const 32) (i64.and (i64.load (i32.const 24)) (i64.const 0x3f3f3f3f3f3f3f3f)))
    (call $monitor-group (i32.const 32) (i32.const 8) (i32.const 512))
    (loop $next
      (call $join (i32.const 32) (i32.const 8) (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 64))
      (drop (call $leave (i32.const 32) (i32.const 8) (i64.load (i32.const 16)) (i64.load (i32.const 24))))
      (br_if $next (local.tee $count (i32.sub (local.get $count) (i32.const 2)))))
    (call $at-work)
    (drop (call $demonitor-group (i64.load (i32.const 512)) (i64.load (i32.const 520))))))
