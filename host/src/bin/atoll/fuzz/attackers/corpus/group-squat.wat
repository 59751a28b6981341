;; Monitors a group that others use, 65,536 times. Processes that monitor it later must not end.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/groups@0.2.0" "monitor" (func $monitor-group (param i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (data (i32.const 32) "workers")
  (func (export "run") (local $count i32)
    (loop $next
      (call $monitor-group (i32.const 32) (i32.const 7) (i32.const 512))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 65536))))
    (call $at-work)
    (loop $for-ever
      (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 512))
      (br $for-ever))))
