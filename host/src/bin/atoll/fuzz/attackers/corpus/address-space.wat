;; Has 5700 processes, each with three memories of 257 MiB that are not touched, or as many as there is room for. They take
;; all address space for memories. All of them end before the attacker reports that it is at work. A process with a new size
;; of memory must then find room.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (memory $first (export "memory") 4)
  (memory $a 0) (memory $b 0) (memory $c 0)
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
    (if (i32.eq (i32.const -1) (memory.grow $a (i32.const 4112))) (then
      (if (i32.eq (i32.const -1) (memory.grow $a (i32.const 1040))) (then
        (if (i32.eq (i32.const -1) (memory.grow $a (i32.const 272))) (then
          (if (i32.eq (i32.const -1) (memory.grow $a (i32.const 80))) (then
            (drop (memory.grow $a (i32.const 18)))))))))))
    (if (i32.eq (i32.const -1) (memory.grow $b (i32.const 4112))) (then
      (if (i32.eq (i32.const -1) (memory.grow $b (i32.const 1040))) (then
        (if (i32.eq (i32.const -1) (memory.grow $b (i32.const 272))) (then
          (if (i32.eq (i32.const -1) (memory.grow $b (i32.const 80))) (then
            (drop (memory.grow $b (i32.const 18)))))))))))
    (if (i32.eq (i32.const -1) (memory.grow $c (i32.const 4112))) (then
      (if (i32.eq (i32.const -1) (memory.grow $c (i32.const 1040))) (then
        (if (i32.eq (i32.const -1) (memory.grow $c (i32.const 272))) (then
          (if (i32.eq (i32.const -1) (memory.grow $c (i32.const 80))) (then
            (drop (memory.grow $c (i32.const 18)))))))))))
    (call $at-work)
    (call $wait))
  (func (export "run") (local $count i32)
    (call $self (i32.const 16))
    (loop $next
      (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5) (i32.const 16) (i32.const 16)
        (i32.const 0) (i32.const 0) (i32.const 65536))
      (if (i32.eqz (i32.load8_u (i32.const 65536)))
        (then
          (call $wait)
          ;; Its pid is stored.
          (i64.store offset=131072 (i32.shl (local.get $count) (i32.const 4)) (i64.load (i32.const 65544)))
          (i64.store offset=131080 (i32.shl (local.get $count) (i32.const 4)) (i64.load (i32.const 65552)))))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 5700))))
    (loop $next
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (call $tell (i32.add (i32.const 131072) (i32.shl (local.get $count) (i32.const 4))) (i32.const 1))
      (br_if $next (local.get $count)))
    (call $at-work)
    (call $wait)))
