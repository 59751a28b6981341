;; Has 3000 processes with names of 255 bytes. Asks without end for the list of all names, and for the list of all groups.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "atoll-rt:process/names@0.2.0" "registered" (func $registered (param i32)))
  (import "atoll-rt:process/groups@0.2.0" "join" (func $join (param i32 i32 i64 i64 i32)))
  (import "atoll-rt:process/groups@0.2.0" "which-groups" (func $which-groups (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "receive" (func $receive (param i32 i64 i64 i32 i64 i32)))
  (memory (export "memory") 8)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  ;; Tells the process that started it that it is at work: tag 9.
  (func $at-work
    (call $argument (i32.const 8))
    (call $tell (i32.load (i32.const 8)) (i32.const 9)))
  (func $tell (param $pid i32) (param $tag i32)
    (call $send (i64.load (local.get $pid)) (i64.load offset=8 (local.get $pid)) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
  (data (i32.const 32) "waits")
  (func (export "waits")
    (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 512)))
  (func (export "run") (local $count i32)
    (memory.fill (i32.const 4096) (i32.const 97) (i32.const 255))
    (call $self (i32.const 16))
    ;; Letters that only this attacker uses, and another pair for each name.
    (i32.store (i32.const 4100) (i32.or (i32.const 0x40404040) (i32.and (i32.const 0x1f1f1f1f) (i32.load (i32.const 24)))))
    ;; Option 2 is the name.
    (i32.store8 (i32.const 512) (i32.const 2))
    (i32.store (i32.const 520) (i32.const 4096))
    (i32.store (i32.const 524) (i32.const 255))
    (loop $next
      (i32.store8 (i32.const 4096) (i32.or (i32.const 64) (i32.and (local.get $count) (i32.const 63))))
      (i32.store8 (i32.const 4097) (i32.or (i32.const 64) (i32.shr_u (local.get $count) (i32.const 6))))
      (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 32) (i32.const 5) (i32.const 0) (i32.const 0)
        (i32.const 512) (i32.const 1) (i32.const 256))
      (if (i32.lt_u (local.get $count) (i32.const 1000))
        (then
          (call $join (i32.const 4096) (i32.const 255) (i64.load (i32.const 16)) (i64.load (i32.const 24)) (i32.const 64))))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 3000))))
    (call $at-work)
    (loop $for-ever
      (call $registered (i32.const 64))
      (call $which-groups (i32.const 64))
      (br $for-ever))))
