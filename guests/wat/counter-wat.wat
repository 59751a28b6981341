;; The counter, written by hand. It shows the form of a compiler's output, and how little a process needs.
;;
;; A process holds a count. The message INC (tag 1) adds one to it. GET (tag 2) is a question; the counter answers with COUNT
;; (tag 3), whose payload is the count in four bytes. The main process spawns the counter, sends INC three times, asks, and
;; prints `count is 3`. Run the file as it is: `atoll run guests/wat/counter-wat.wat`.
;;
;; The imports are the functions of the contract in `wit/` in their canonical-ABI lowering: records are flattened into
;; parameters, an option is a flag before its value, and a list is an address and a length. If a result does not fit into one
;; value, the host writes it where the last parameter points. The host asks `cabi_realloc` for the memory of lists inside a
;; result.
;;
;; Every process has a memory of its own, laid out like this:
;;
;;        0  text and names (data segment)
;;      128  a new process's pid, or why there is none (24 bytes)
;;      160  the reference of main's question (16 bytes)
;;      192  the event that was received last (80 bytes)
;;      288  the payload of an answer (4 bytes)
;;      304  what fd_write is to write: address, length; and behind it how much it wrote
;;      320  the line that is printed, filled from its end (32 bytes)
;;     1024  the heap, from which cabi_realloc takes
(module
  ;; send(pid node, pid id, tag, is there a reference, its node, its id, format, payload, payload length)
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  ;; receive(selector's case, its two values, is there a timeout, nanoseconds, where to put the event)
  (import "atoll-rt:process/mailbox@0.2.0" "receive"
    (func $receive (param i32 i64 i64 i32 i64 i32)))
  ;; make-reference(where to put it)
  (import "atoll-rt:process/mailbox@0.2.0" "make-reference"
    (func $make-reference (param i32)))
  ;; spawn(is there a program, its name, length, function, length, argument, length, options, how many, result)
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  ;; fd_write(file, what to write, how many pieces, where to put how much was written) -> 0, or an error
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 0) "counter")
  (data (i32.const 16) "count is ")

  ;; Where the next block of cabi_realloc begins.
  (global $heap-next (mut i32) (i32.const 1024))

  ;; The host calls this for the memory of a payload. This is the simplest allocator: it advances from block to block and
  ;; never frees; $take-event resets it. Atoll asks for new blocks only, so the old block does not matter.
  (func $cabi_realloc (export "cabi_realloc")
    (param $old i32) (param $old-bytes i32) (param $align i32) (param $new-bytes i32) (result i32)
    (local $block i32) (local $end i64) (local $memory-bytes i64)
    ;; Round up to a multiple of the alignment, which is a power of two.
    (local.set $block
      (i32.and
        (i32.add (global.get $heap-next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    ;; In 64 bits, so that a huge length can't wrap round to a small address.
    (local.set $end
      (i64.add (i64.extend_i32_u (local.get $block)) (i64.extend_i32_u (local.get $new-bytes))))
    (local.set $memory-bytes (i64.shl (i64.extend_i32_u (memory.size)) (i64.const 16)))
    (if (i64.gt_u (local.get $end) (local.get $memory-bytes))
      (then
        ;; Grow by the missing pages of 64 KiB. A process that gets no memory can't go on.
        (if (i32.eq (i32.const -1)
              (memory.grow
                (i32.wrap_i64
                  (i64.shr_u
                    (i64.add (i64.sub (local.get $end) (local.get $memory-bytes)) (i64.const 65535))
                    (i64.const 16)))))
          (then (unreachable)))))
    (global.set $heap-next (i32.wrap_i64 (local.get $end)))
    (local.get $block))

  ;; Waits for the first fitting event and leaves it at 192. Returns its tag, or 0 if it is not a message. Its payload is
  ;; valid until the next call, which resets the heap.
  (func $take-event (param $selector i32) (param $first i64) (param $second i64) (result i32)
    (global.set $heap-next (i32.const 1024))
    (call $receive (local.get $selector) (local.get $first) (local.get $second)
      (i32.const 0) (i64.const 0)   ;; no timeout
      (i32.const 192))
    ;; The event begins 8 bytes in, with its case: 0 is a message. The message's tag comes after its sender.
    (if (result i32) (i32.eqz (i32.load8_u (i32.const 200)))
      (then (i32.load (i32.const 224)))
      (else (i32.const 0))))

  ;; The counter process. It ends when the main process does.
  (func $counter (export "counter")
    (local $count i32) (local $tag i32)
    (loop $next
      (local.set $tag (call $take-event (i32.const 0) (i64.const 0) (i64.const 0)))   ;; selector 0: any event
      (if (i32.eq (local.get $tag) (i32.const 1))
        (then (local.set $count (i32.add (local.get $count) (i32.const 1)))))
      (if (i32.eq (local.get $tag) (i32.const 2))
        (then
          (i32.store (i32.const 288) (local.get $count))
          ;; To the sender of the question, with the question's reference if it has one.
          (call $send
            (i64.load (i32.const 208)) (i64.load (i32.const 216))
            (i32.const 3)
            (i32.load8_u (i32.const 232)) (i64.load (i32.const 240)) (i64.load (i32.const 248))
            (i32.const 0)   ;; format: raw
            (i32.const 288) (i32.const 4))))
      (br $next)))

  ;; Sends a message without reference and payload to the process whose pid is at 136.
  (func $send-inc
    (call $send
      (i64.load (i32.const 136)) (i64.load (i32.const 144))
      (i32.const 1)
      (i32.const 0) (i64.const 0) (i64.const 0)
      (i32.const 0)
      (i32.const 0) (i32.const 0)))

  ;; Asks the process whose pid is at 136 for its count.
  (func $ask (result i32)
    (call $make-reference (i32.const 160))
    (call $send
      (i64.load (i32.const 136)) (i64.load (i32.const 144))
      (i32.const 2)
      (i32.const 1) (i64.load (i32.const 160)) (i64.load (i32.const 168))
      (i32.const 0)
      (i32.const 0) (i32.const 0))
    ;; Selector 3: the event with this reference, even if other events wait in front of it.
    (if (i32.ne (i32.const 3)
          (call $take-event (i32.const 3) (i64.load (i32.const 160)) (i64.load (i32.const 168))))
      (then (unreachable)))
    ;; The payload's address is at 260, its length at 264.
    (i32.load (i32.load (i32.const 260))))

  ;; Prints "count is " and the number: digits from the last to the first, then the text in front of them.
  (func $print-count (param $count i32)
    (local $start i32)
    (i32.store8 (i32.const 351) (i32.const 10))   ;; the end of the line
    (local.set $start (i32.const 351))
    (loop $digit
      (local.set $start (i32.sub (local.get $start) (i32.const 1)))
      (i32.store8 (local.get $start)
        (i32.add (i32.const 48) (i32.rem_u (local.get $count) (i32.const 10))))   ;; 48 is "0"
      (br_if $digit (local.tee $count (i32.div_u (local.get $count) (i32.const 10)))))
    (local.set $start (i32.sub (local.get $start) (i32.const 9)))
    (memory.copy (local.get $start) (i32.const 16) (i32.const 9))
    (i32.store (i32.const 304) (local.get $start))
    (i32.store (i32.const 308) (i32.sub (i32.const 352) (local.get $start)))
    ;; File 1 is standard output. Such a short line is written as a whole or not at all.
    (if (call $fd_write (i32.const 1) (i32.const 304) (i32.const 1) (i32.const 312))
      (then (unreachable))))

  ;; The main process.
  (func $run (export "run")
    (call $spawn
      (i32.const 0) (i32.const 0) (i32.const 0)   ;; no program: this one
      (i32.const 0) (i32.const 7)                 ;; function "counter"
      (i32.const 0) (i32.const 0)                 ;; no argument
      (i32.const 0) (i32.const 0)                 ;; no options
      (i32.const 128))
    ;; The result begins with 0 for a pid, which is at 136 then, and with 1 for an error.
    (if (i32.load8_u (i32.const 128)) (then (unreachable)))
    (call $send-inc)
    (call $send-inc)
    (call $send-inc)
    (call $print-count (call $ask))))
