;; The same in a second memory, which lies elsewhere than the first.
(module
  (memory $first (export "memory") 1)
  (memory $second 0 1)
  ;; The host makes a process that changes a table from nothing each time, and gives its slot to others.
  (table $table 1 funcref)
  (func (export "changes-table") (table.set $table (i32.const 0) (ref.null func)))
  (func (export "run") (local $at i32)
    (loop $next
      (i64.store $second (local.get $at) (i64.const 0x5a5a5a5a5a5a5a5a))
      (br_if $next (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))))
