;; Makes spawns without end that fail: programs whose instances can't be made, unknown programs, unknown functions.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (data (i32.const 32) "bad-data")
  (data (i32.const 48) "bad-table")
  (data (i32.const 64) "nobody")
  (func $try (param $program i32) (param $bytes i32) (param $function-bytes i32)
    (call $spawn (i32.ne (local.get $bytes) (i32.const 0)) (local.get $program) (local.get $bytes)
      (i32.const 64) (local.get $function-bytes) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 256))
    (if (i32.eqz (i32.load8_u (i32.const 256))) (then (unreachable))))
  (func (export "run")
    (call $at-work)
    (loop $for-ever
      (call $try (i32.const 32) (i32.const 8) (i32.const 0))
      (call $try (i32.const 48) (i32.const 9) (i32.const 0))
      (call $try (i32.const 64) (i32.const 6) (i32.const 0))
      (call $try (i32.const 0) (i32.const 0) (i32.const 6))
      (br $for-ever))))
