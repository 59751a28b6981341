;; Takes all memory that its limit allows, touches every page of it, and ends, again and again.
(module
  (memory (export "memory") 1)
  (func (export "run") (local $at i32)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (loop $touch
      (i32.store8 (local.get $at) (i32.const 90))
      (br_if $touch (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 4096))) (i32.mul (memory.size) (i32.const 65536)))))
    (unreachable)))
