;; Monitors invalid names, texts of 4096 bytes, until its mailbox is full.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/signals@0.2.0" "monitor" (func $monitor (param i32 i64 i64 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "run")
    (memory.fill (i32.const 4096) (i32.const 97) (i32.const 4096))
    (call $at-work)
    (loop $for-ever
      (call $monitor (i32.const 1) (i64.const 4096) (i64.const 4096) (i32.const 512))
      (br $for-ever))))
