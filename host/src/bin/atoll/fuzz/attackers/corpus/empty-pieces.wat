;; Writes a million empty pieces, again and again. The host looks for the first piece that has bytes.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 124)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (func (export "run")
    (call $at-work)
    (loop $for-ever
      (drop (call $fd_write (i32.const 1) (i32.const 65536) (i32.const 1000000) (i32.const 512)))
      (br $for-ever))))
