;; The bare guest of the benchmarks: one page of memory, no C library, only the contract and a clock. So the benchmarks
;; measure the host. Its twin on the guest SDK does the same and more; the difference is the cost of the SDK.
;;
;; A benchmark is an exported function. Its argument has 24 bytes, little-endian:
;;
;;     offset 0   u32  n       how often
;;     offset 4   u32  m       how large, or how many
;;     offset 8   u64  node    \ the process to report to: the driver's mailbox
;;     offset 16  u64  id      /
;;
;; When the function has finished, it sends one message with tag 1 to that process: the duration of the work in nanoseconds
;; (u64), without the preparation.
;;
;;     spawn-exit           n times: spawn a process, and wait for the message that it sends before it ends
;;     spawn-batch          spawn n processes that end at once, and one more that is waited for
;;     spawn-monitor-seq    n times: spawn a process that ends at once, monitored, and wait for its down-signal
;;     spawn-monitor-batch  the same, but all are spawned before the first down-signal is waited for
;;     ping-pong            n round trips of a payload of m bytes (60000 at most) with a process of its own
;;     ring                 m processes in a ring; a token goes n hops
;;     selrecv-value        n requests, each answer received by its tag, while m other messages wait
;;     selrecv-reference    the same, each answer received by a new reference
;;     fib                  fib(n), the naive way
;;     idle                 needs no argument: waits until any message comes, and ends
;;     run                  does nothing
;;
;; Any error (no such argument, a spawn that fails) is a trap.
;;
;; The tags of the messages:
;;
;;     1  a report, or what stands for one among these processes
;;     2  ball: the payload that goes to and fro
;;     3  stop
;;     4  next: the payload is the pid of a ring node's neighbour
;;     5  token: the payload is how many hops it has still to go (u32)
;;     6  junk: stays in the mailbox
;;     16 and more: requests that are told apart by their tags, and the answers to them
;;
;; The memory. All memory that a process with a small payload touches lies in the first 4 KiB.
;;
;;        0  the functions' names (data segment)
;;       64  this process's own pid (16 bytes)
;;       80  the argument: its address, its length
;;       96  the benchmark's argument, copied here from the scratch buffer (24 bytes)
;;      128  what spawn answered (24 bytes): error flag at 128, pid at 136
;;      192  the event received last (80 bytes): is it there at 192, its kind at 200 (0 message, 2 down-signal); of a
;;           message, sender at 208, tag at 224, reference at 232 (is there one), 240 and 248, payload's address at 260,
;;           its length at 264
;;      288  a small payload to send (8 bytes)
;;      296  an option of a spawn (24 bytes): which at 296, the reference of a monitor at 304 and 312
;;      320  what the clock said (8 bytes), and what it said when the work began (8 bytes)
;;     1024  the scratch buffer, to the end of the page
(module
  (import "atoll-rt:process/lifecycle@0.2.0" "self" (func $self (param i32)))
  (import "atoll-rt:process/lifecycle@0.2.0" "argument" (func $argument (param i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "send"
    (func $send (param i64 i64 i32 i32 i64 i64 i32 i32 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "receive"
    (func $receive (param i32 i64 i64 i32 i64 i32)))
  (import "atoll-rt:process/mailbox@0.2.0" "make-reference" (func $make-reference (param i32)))
  (import "atoll-rt:process/spawning@0.2.0" "spawn"
    (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock-time-get (param i32 i64 i32) (result i32)))

  (memory (export "memory") 1 1)
  (data (i32.const 0) "child")
  (data (i32.const 8) "leaf")
  (data (i32.const 16) "echo")
  (data (i32.const 24) "ring-node")

  ;; The host's lists go to the scratch buffer, always to the same address. They are valid until the next call of the host.
  (func $cabi_realloc (export "cabi_realloc")
    (param $old i32) (param $old-bytes i32) (param $align i32) (param $new-bytes i32) (result i32)
    (if (i32.gt_u (local.get $new-bytes) (i32.const 64512)) (then (unreachable)))
    (i32.const 1024))

  ;; Copies the benchmark's argument to a fixed place: n at 96, m at 100, the pid to report to at 104.
  (func $read-argument
    (call $argument (i32.const 80))
    (if (i32.ne (i32.load (i32.const 84)) (i32.const 24)) (then (unreachable)))
    (memory.copy (i32.const 96) (i32.load (i32.const 80)) (i32.const 24)))

  ;; A message without reference, in raw format.
  (func $send-message (param $node i64) (param $id i64) (param $tag i32) (param $payload i32) (param $bytes i32)
    (call $send
      (local.get $node) (local.get $id) (local.get $tag)
      (i32.const 0) (i64.const 0) (i64.const 0)
      (i32.const 0)
      (local.get $payload) (local.get $bytes)))

  ;; The monotonic clock, in nanoseconds.
  (func $now (result i64)
    (if (call $clock-time-get (i32.const 1) (i64.const 1) (i32.const 320)) (then (unreachable)))
    (i64.load (i32.const 320)))

  (func $begin
    (i64.store (i32.const 328) (call $now)))

  ;; Reports the time since $begin.
  (func $report
    (i64.store (i32.const 288) (i64.sub (call $now) (i64.load (i32.const 328))))
    (call $send-message
      (i64.load (i32.const 104)) (i64.load (i32.const 112))
      (i32.const 1) (i32.const 288) (i32.const 8)))

  ;; Waits for any event.
  (func $receive-any
    (call $receive (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 192)))

  ;; Waits for a message with this tag.
  (func $receive-tagged (param $tag i32)
    (call $receive
      (i32.const 1) (i64.extend_i32_u (local.get $tag)) (i64.const 0)
      (i32.const 0) (i64.const 0) (i32.const 192)))

  ;; Makes the reference at 304.
  (func $new-reference
    (call $make-reference (i32.const 304)))

  ;; Waits for an event with the reference at 304.
  (func $receive-referenced
    (call $receive
      (i32.const 3) (i64.load (i32.const 304)) (i64.load (i32.const 312))
      (i32.const 0) (i64.const 0) (i32.const 192)))

  ;; Spawns a function of this program, with this many options (0 or 1) from 296 on. Then the pid is at 136.
  (func $start-with (param $name i32) (param $name-bytes i32) (param $argument i32) (param $argument-bytes i32)
    (param $options i32)
    (call $spawn
      (i32.const 0) (i32.const 0) (i32.const 0)
      (local.get $name) (local.get $name-bytes)
      (local.get $argument) (local.get $argument-bytes)
      (i32.const 296) (local.get $options)
      (i32.const 128))
    (if (i32.load8_u (i32.const 128)) (then (unreachable))))

  (func $start (param $name i32) (param $name-bytes i32) (param $argument i32) (param $argument-bytes i32)
    (call $start-with
      (local.get $name) (local.get $name-bytes) (local.get $argument) (local.get $argument-bytes) (i32.const 0)))

  ;; The entry that a program must have.
  (func $run (export "run"))

  ;; ---- idle

  (func $idle (export "idle")
    (call $receive-any))

  ;; ---- spawn-exit, spawn-batch

  ;; Its argument is the pid that waits for the message.
  (func $child (export "child")
    (local $parent i32)
    (call $argument (i32.const 80))
    (local.set $parent (i32.load (i32.const 80)))
    (call $send-message
      (i64.load (local.get $parent)) (i64.load offset=8 (local.get $parent))
      (i32.const 1) (i32.const 0) (i32.const 0)))

  (func $leaf (export "leaf"))

  (func $start-child
    (call $start (i32.const 0) (i32.const 5) (i32.const 64) (i32.const 16)))

  (func $spawn-exit (export "spawn-exit")
    (local $left i32)
    (call $read-argument)
    (call $self (i32.const 64))
    (local.set $left (i32.load (i32.const 96)))
    (call $begin)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (call $start-child)
        (call $receive-any)
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $report))

  ;; With one scheduler the last process runs after all the others. With more, a few of the others may still run: too few to
  ;; matter.
  (func $spawn-batch (export "spawn-batch")
    (local $left i32)
    (call $read-argument)
    (call $self (i32.const 64))
    (local.set $left (i32.load (i32.const 96)))
    (call $begin)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (call $start (i32.const 8) (i32.const 4) (i32.const 0) (i32.const 0))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $start-child)
    (call $receive-any)
    (call $report))

  ;; ---- spawn-monitor-seq, spawn-monitor-batch

  ;; Spawns a process that ends at once, monitored by the reference at 304.
  (func $start-monitored
    (call $new-reference)
    (i32.store8 (i32.const 296) (i32.const 1))
    (call $start-with (i32.const 8) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 1)))

  (func $must-be-down
    (if (i32.ne (i32.load8_u (i32.const 200)) (i32.const 2)) (then (unreachable))))

  (func $spawn-monitor-seq (export "spawn-monitor-seq")
    (local $left i32)
    (call $read-argument)
    (local.set $left (i32.load (i32.const 96)))
    (call $begin)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (call $start-monitored)
        (call $receive-referenced)
        (call $must-be-down)
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $report))

  (func $spawn-monitor-batch (export "spawn-monitor-batch")
    (local $left i32)
    (call $read-argument)
    (local.set $left (i32.load (i32.const 96)))
    (call $begin)
    (block $spawned
      (loop $again
        (br_if $spawned (i32.eqz (local.get $left)))
        (call $start-monitored)
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (local.set $left (i32.load (i32.const 96)))
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        ;; Selector 4: events of some kinds; 4 is the flag of down-signals.
        (call $receive (i32.const 4) (i64.const 4) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 192))
        (call $must-be-down)
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $report))

  ;; ---- ping-pong

  ;; Sends every message back to its sender, unchanged, until it is told to stop.
  (func $echo (export "echo")
    (loop $next
      (call $receive-any)
      (if (i32.ne (i32.load (i32.const 224)) (i32.const 3))
        (then
          (call $send
            (i64.load (i32.const 208)) (i64.load (i32.const 216)) (i32.load (i32.const 224))
            (i32.load8_u (i32.const 232)) (i64.load (i32.const 240)) (i64.load (i32.const 248))
            (i32.const 0)
            (i32.load (i32.const 260)) (i32.load (i32.const 264)))
          (br $next)))))

  ;; Then the pid is at 136.
  (func $start-echo
    (call $start (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 0)))

  ;; The ball lies in the scratch buffer. At first it is zeros, then the payload that came back.
  (func $ping-pong (export "ping-pong")
    (local $left i32) (local $bytes i32) (local $node i64) (local $id i64)
    (call $read-argument)
    (local.set $left (i32.load (i32.const 96)))
    (local.set $bytes (i32.load (i32.const 100)))
    (if (i32.gt_u (local.get $bytes) (i32.const 60000)) (then (unreachable)))
    (memory.fill (i32.const 1024) (i32.const 0) (i32.const 24))   ;; the bytes of the argument
    (call $start-echo)
    (local.set $node (i64.load (i32.const 136)))
    (local.set $id (i64.load (i32.const 144)))
    (call $begin)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (call $send-message
          (local.get $node) (local.get $id) (i32.const 2) (i32.const 1024) (local.get $bytes))
        (call $receive-any)
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $report)
    (call $send-message (local.get $node) (local.get $id) (i32.const 3) (i32.const 0) (i32.const 0)))

  ;; ---- ring

  ;; Its argument is the pid that waits for the token's arrival.
  (func $ring-node (export "ring-node")
    (local $root-node i64) (local $root-id i64) (local $next-node i64) (local $next-id i64) (local $payload i32)
    (call $argument (i32.const 80))
    (local.set $payload (i32.load (i32.const 80)))
    (local.set $root-node (i64.load (local.get $payload)))
    (local.set $root-id (i64.load offset=8 (local.get $payload)))
    ;; Selector 1, tag 4: the neighbour first, even if other messages have come meanwhile.
    (call $receive (i32.const 1) (i64.const 4) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 192))
    (local.set $payload (i32.load (i32.const 260)))
    (local.set $next-node (i64.load (local.get $payload)))
    (local.set $next-id (i64.load offset=8 (local.get $payload)))
    (block $stop
      (loop $again
        (call $receive-any)
        (br_if $stop (i32.eq (i32.load (i32.const 224)) (i32.const 3)))
        (local.set $payload (i32.load (i32.const 260)))
        (if (i32.load (local.get $payload))
          (then
            (i32.store (local.get $payload) (i32.sub (i32.load (local.get $payload)) (i32.const 1)))
            (call $send-message
              (local.get $next-node) (local.get $next-id) (i32.const 5) (local.get $payload) (i32.const 4)))
          (else
            (call $send-message
              (local.get $root-node) (local.get $root-id) (i32.const 1) (i32.const 0) (i32.const 0))))
        (br $again)))
    ;; Pass the stop on. It is lost when it comes back to the first node, which has ended.
    (call $send-message
      (local.get $next-node) (local.get $next-id) (i32.const 3) (i32.const 0) (i32.const 0)))

  (func $start-ring-node
    (call $start (i32.const 24) (i32.const 9) (i32.const 64) (i32.const 16)))

  ;; The process outside of the ring: it makes the ring, sends the token into it (the first hop), waits, and stops the ring.
  (func $ring (export "ring")
    (local $left i32) (local $hops i32)
    (local $first-node i64) (local $first-id i64) (local $last-node i64) (local $last-id i64)
    (call $read-argument)
    (call $self (i32.const 64))
    (local.set $hops (i32.load (i32.const 96)))
    (local.set $left (i32.load (i32.const 100)))
    (if (i32.eqz (local.get $left)) (then (unreachable)))
    (call $start-ring-node)
    (local.set $first-node (i64.load (i32.const 136)))
    (local.set $first-id (i64.load (i32.const 144)))
    (local.set $last-node (local.get $first-node))
    (local.set $last-id (local.get $first-id))
    (block $made
      (loop $again
        (br_if $made (i32.eqz (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $start-ring-node)
        (call $send-message
          (local.get $last-node) (local.get $last-id) (i32.const 4) (i32.const 136) (i32.const 16))
        (local.set $last-node (i64.load (i32.const 136)))
        (local.set $last-id (i64.load (i32.const 144)))
        (br $again)))
    ;; Close the ring.
    (i64.store (i32.const 136) (local.get $first-node))
    (i64.store (i32.const 144) (local.get $first-id))
    (call $send-message
      (local.get $last-node) (local.get $last-id) (i32.const 4) (i32.const 136) (i32.const 16))
    (call $begin)
    (if (local.get $hops)
      (then
        (i32.store (i32.const 288) (i32.sub (local.get $hops) (i32.const 1)))
        (call $send-message
          (local.get $first-node) (local.get $first-id) (i32.const 5) (i32.const 288) (i32.const 4))
        (call $receive-any)))
    (call $report)
    (call $send-message
      (local.get $first-node) (local.get $first-id) (i32.const 3) (i32.const 0) (i32.const 0)))

  ;; ---- selrecv-value, selrecv-reference

  ;; Sends itself m messages (from the argument), which stay in the mailbox.
  (func $fill-mailbox
    (local $left i32)
    (call $self (i32.const 64))
    (local.set $left (i32.load (i32.const 100)))
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (i32.store (i32.const 288) (local.get $left))
        (call $send-message
          (i64.load (i32.const 64)) (i64.load (i32.const 72)) (i32.const 6) (i32.const 288) (i32.const 4))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again))))

  (func $selrecv-value (export "selrecv-value")
    (local $left i32) (local $tag i32)
    (call $read-argument)
    (local.set $left (i32.load (i32.const 96)))
    (call $start-echo)
    (call $fill-mailbox)
    (call $begin)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $tag (i32.add (local.get $left) (i32.const 16)))
        (call $send-message
          (i64.load (i32.const 136)) (i64.load (i32.const 144)) (local.get $tag) (i32.const 0) (i32.const 0))
        (call $receive-tagged (local.get $tag))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $report)
    (call $stop-echo))

  (func $selrecv-reference (export "selrecv-reference")
    (local $left i32)
    (call $read-argument)
    (local.set $left (i32.load (i32.const 96)))
    (call $start-echo)
    (call $fill-mailbox)
    (call $begin)
    (block $done
      (loop $again
        (br_if $done (i32.eqz (local.get $left)))
        (call $new-reference)
        (call $send
          (i64.load (i32.const 136)) (i64.load (i32.const 144)) (i32.const 2)
          (i32.const 1) (i64.load (i32.const 304)) (i64.load (i32.const 312))
          (i32.const 0)
          (i32.const 0) (i32.const 0))
        (call $receive-referenced)
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $again)))
    (call $report)
    (call $stop-echo))

  ;; The echo whose pid is at 136.
  (func $stop-echo
    (call $send-message
      (i64.load (i32.const 136)) (i64.load (i32.const 144)) (i32.const 3) (i32.const 0) (i32.const 0)))

  ;; ---- fib

  (func $fib (param $n i64) (result i64)
    (if (result i64) (i64.lt_s (local.get $n) (i64.const 2))
      (then (local.get $n))
      (else
        (i64.add
          (call $fib (i64.sub (local.get $n) (i64.const 1)))
          (call $fib (i64.sub (local.get $n) (i64.const 2)))))))

  (func $run-fib (export "fib")
    (call $read-argument)
    (call $begin)
    (drop (call $fib (i64.load32_u (i32.const 96))))
    (call $report)))
