;; Grows 35,200 untouched memories past 16 MiB, sixteen in each of 2200 processes. Each move may cost the kernel two more
;; mappings, and the kernel allows a program 65,530.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (memory $first (export "memory") 1)
  (memory 0) (memory 0) (memory 0) (memory 0) (memory 0) (memory 0) (memory 0) (memory 0)
  (memory 0) (memory 0) (memory 0) (memory 0) (memory 0) (memory 0) (memory 0) (memory 0)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (data (i32.const 32) "grows")
  ;; Waits for any event.
  (func $wait
    (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 512)))
  (func (export "grows")
    (drop (memory.grow 1 (i32.const 256))) (drop (memory.grow 1 (i32.const 1)))
    (drop (memory.grow 2 (i32.const 256))) (drop (memory.grow 2 (i32.const 1)))
    (drop (memory.grow 3 (i32.const 256))) (drop (memory.grow 3 (i32.const 1)))
    (drop (memory.grow 4 (i32.const 256))) (drop (memory.grow 4 (i32.const 1)))
    (drop (memory.grow 5 (i32.const 256))) (drop (memory.grow 5 (i32.const 1)))
    (drop (memory.grow 6 (i32.const 256))) (drop (memory.grow 6 (i32.const 1)))
    (drop (memory.grow 7 (i32.const 256))) (drop (memory.grow 7 (i32.const 1)))
    (drop (memory.grow 8 (i32.const 256))) (drop (memory.grow 8 (i32.const 1)))
    (drop (memory.grow 9 (i32.const 256))) (drop (memory.grow 9 (i32.const 1)))
    (drop (memory.grow 10 (i32.const 256))) (drop (memory.grow 10 (i32.const 1)))
    (drop (memory.grow 11 (i32.const 256))) (drop (memory.grow 11 (i32.const 1)))
    (drop (memory.grow 12 (i32.const 256))) (drop (memory.grow 12 (i32.const 1)))
    (drop (memory.grow 13 (i32.const 256))) (drop (memory.grow 13 (i32.const 1)))
    (drop (memory.grow 14 (i32.const 256))) (drop (memory.grow 14 (i32.const 1)))
    (drop (memory.grow 15 (i32.const 256))) (drop (memory.grow 15 (i32.const 1)))
    (drop (memory.grow 16 (i32.const 256))) (drop (memory.grow 16 (i32.const 1)))
    (call $at-work)
    (call $wait))
  (func (export "run") (local $count i32)
    (call $self (i32.const 16))
    (loop $next
      (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 16)
        (i32.const 0) (i32.const 0) (i32.const 256))
      ;; Waits until the process has grown its memories, if it could be spawned.
      (if (i32.eqz (i32.load8_u (i32.const 256))) (then (call $wait)))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 2200))))
    (call $at-work)
    (call $wait)))
