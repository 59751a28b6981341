// The counter: the smallest process with a state of its own.
//
// A process holds a count. The message INC adds one to it. GET is a question; the counter answers with the count. The main
// process spawns the counter, adds three, asks, and prints `count is 3`:
//
//     main                            counter
//      |  -- spawn "counter" -------->   |    a process of its own, with a memory of its own
//      |  -- INC, INC, INC ---------->   |
//      |  -- GET (reference) -------->   |    a new reference, to tell this answer from every other message
//      |  <----- COUNT (reference) --    |    payload: the count
//
// The functions and types named `atoll_rt_process_…` are those of the contract in `wit/`, through the bindings in
// `guests/c/bindings`. Build and run the program from the top of the repository:
//
//     clang-19 --target=wasm32-wasi -mexec-model=reactor -Os -Iguests/c/bindings
//         -Wl,--stack-first -Wl,-z,stack-size=65536
//         guests/c/counter-c/main.c guests/c/bindings/*.c -o counter-c.wasm
//     atoll run counter-c.wasm

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "process.h"

// The generated names carry package and interface. Short names make the program easier to read.
typedef atoll_rt_process_types_pid_t pid;
typedef atoll_rt_process_types_reference_t reference;
typedef atoll_rt_process_types_event_t event;
typedef atoll_rt_process_types_message_t message;

// The tags of messages.
enum { INC = 1, GET = 2, COUNT = 3 };

// How long main waits for the answer. Only a counter that has ended would take so long.
static const uint64_t ANSWER_TIMEOUT_NS = 5000000000;

// Ends the program: when the main process ends, all others end with it. `exit` flushes the printed text.
static void fail(const char *why) {
    fprintf(stderr, "counter-c: %s\n", why);
    exit(1);
}

static void send_message(pid to, uint32_t tag, const reference *reference, const void *payload, size_t payload_bytes) {
    atoll_rt_process_mailbox_envelope_t envelope = {.tag = tag, .format = ATOLL_RT_PROCESS_TYPES_FORMAT_RAW};
    if (reference != NULL) {
        envelope.reference.is_some = true;
        envelope.reference.val = *reference;
    }
    // The bindings have no `const`, but the host only reads a payload: the receiver gets a copy.
    process_list_u8_t bytes = {.ptr = (uint8_t *)payload, .len = payload_bytes};
    atoll_rt_process_mailbox_send(&to, &envelope, &bytes);
}

// The counter process. Its state is a variable, which other processes reach only by messages. It runs until the main process
// ends.
__attribute__((export_name("counter"))) void counter(void) {
    atoll_rt_process_mailbox_selector_t any = {.tag = ATOLL_RT_PROCESS_MAILBOX_SELECTOR_ANY};
    uint32_t count = 0;
    for (;;) {
        event event;
        atoll_rt_process_mailbox_receive(&any, NULL, &event);  // Without a timeout, receive always returns an event.
        if (event.tag == ATOLL_RT_PROCESS_TYPES_EVENT_MESSAGE) {
            message *message = &event.val.message;
            if (message->tag == INC) {
                count += 1;
            } else if (message->tag == GET) {
                // The answer carries the question's reference.
                reference *asked = message->reference.is_some ? &message->reference.val : NULL;
                send_message(message->sender, COUNT, asked, &count, sizeof count);
            }
        }
        // The payload of every event lies in this process's memory, and the process lives long, so it must be freed.
        atoll_rt_process_mailbox_event_free(&event);
    }
}

static pid spawn_counter(void) {
    process_string_t function;
    process_string_set(&function, "counter");
    process_list_u8_t no_argument = {0};
    atoll_rt_process_spawning_list_spawn_option_t no_options = {0};
    pid counter;
    atoll_rt_process_spawning_spawn_error_t error;
    // NULL stands for this program.
    if (!atoll_rt_process_spawning_spawn(NULL, &function, &no_argument, &no_options, &counter, &error)) {
        fail("could not spawn the counter");
    }
    return counter;
}

static uint32_t ask(pid counter) {
    reference reference;
    atoll_rt_process_mailbox_make_reference(&reference);
    send_message(counter, GET, &reference, NULL, 0);

    // Takes the event with this reference, even if other events wait in front of it.
    atoll_rt_process_mailbox_selector_t answer = {
        .tag = ATOLL_RT_PROCESS_MAILBOX_SELECTOR_REFERENCE,
        .val = {.reference = reference},
    };
    uint64_t timeout_ns = ANSWER_TIMEOUT_NS;
    event event;
    if (!atoll_rt_process_mailbox_receive(&answer, &timeout_ns, &event)) {
        fail("the counter does not answer");
    }
    uint32_t count;
    if (event.tag != ATOLL_RT_PROCESS_TYPES_EVENT_MESSAGE || event.val.message.payload.len != sizeof count) {
        fail("the answer is not a count");
    }
    memcpy(&count, event.val.message.payload.ptr, sizeof count);
    atoll_rt_process_mailbox_event_free(&event);
    return count;
}

// The main process: the world's `run`.
void exports_process_run(void) {
    pid counter = spawn_counter();
    for (int i = 0; i < 3; i++) {
        send_message(counter, INC, NULL, NULL, 0);
    }
    printf("count is %" PRIu32 "\n", ask(counter));
    fflush(stdout);  // A reactor flushes nothing at its end.
}
