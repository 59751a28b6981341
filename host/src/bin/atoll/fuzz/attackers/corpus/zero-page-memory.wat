;; Writes behind the end of its memory of no pages. Each access must trap. If one does not, the next process in that slot may
;; begin with the written bytes.
(module
  (memory (export "memory") 0 1)
  ;; The host makes a process that changes a table from nothing each time, and gives its slot to others.
  (table $table 1 funcref)
  (func (export "changes-table") (table.set $table (i32.const 0) (ref.null func)))
  (func (export "run") (local $at i32)
    (loop $next
      (i64.store (local.get $at) (i64.const 0x5a5a5a5a5a5a5a5a))
      (br_if $next (i32.lt_u
        (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65536))))))
