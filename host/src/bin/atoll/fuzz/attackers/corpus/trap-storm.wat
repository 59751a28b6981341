;; Ends badly at once, in a way that depends on its pid: by a trap, by overflowing the stack, by an access outside of its
;; memory, by dividing by zero, with an exit code, or with a reason.
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "exit" (func $exit (param i32 i32 i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func $recurses (call $recurses))
  (func (export "run") (local $way i32)
    (call $self (i32.const 16))
    (local.set $way (i32.rem_u (i32.load (i32.const 24)) (i32.const 6)))
    (if (i32.eq (local.get $way) (i32.const 0)) (then (unreachable)))
    (if (i32.eq (local.get $way) (i32.const 1)) (then (call $recurses)))
    (if (i32.eq (local.get $way) (i32.const 2)) (then (drop (i32.load (i32.const -4)))))
    (if (i32.eq (local.get $way) (i32.const 3)) (then (drop (i32.div_u (i32.const 1) (i32.load (i32.const 8192))))))
    (if (i32.eq (local.get $way) (i32.const 4)) (then (call $proc_exit (i32.const 77))))
    (call $exit (i32.const 10) (i32.const 0) (i32.const 1000))))
