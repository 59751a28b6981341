;; A component that has the host copy strings of 100 MB and look them up, eight times.
(component
  (import "atoll-rt:process/names@0.2.0" (instance $names
    (export "unregister" (func (param "name" string) (result bool)))))
  ;; It can't run as the module that it wraps.
  (import "wasi:random/random@0.2.0" (instance))
  (core module $memory (memory (export "memory") 1600))
  (core instance $memory (instantiate $memory))
  (core func $unregister (canon lower (func $names "unregister") (memory (core memory $memory "memory"))))
  (core module $attacker
    (import "host" "unregister" (func $unregister (param i32 i32) (result i32)))
    (func (export "run") (local $count i32)
      (loop $next
        (drop (call $unregister (i32.const 0) (i32.const 100000000)))
        (br_if $next (i32.lt_u
          (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 8))))))
  (core instance $attacker (instantiate $attacker
    (with "host" (instance (export "unregister" (func $unregister))))))
  (func (export "run") (canon lift (core func $attacker "run"))))
