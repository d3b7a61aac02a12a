/* The harness on the device: says hello, takes inputs, runs the network, answers for what it did.
 * The host leads; every request is answered once, and may be asked again under the same number. */
#include "hal.h"
#include "instrumentation.h"
#include "mailbox.h"
#include "memory.h"
#include "tinyhil_network.h"
#include "wire.h"

#include <string.h>

extern const char th_build_id[]; /* names this build: ties what runs to the ELF that was meant */

#ifndef TINYHIL_MAX_LAYERS
#define TINYHIL_MAX_LAYERS 512u
#endif

#define RUN_PAINT_STACK 1u
#define HELLO_LAYER_MARKS 1u

INSTRUMENTATION volatile struct th_mailbox th_mailbox;

INSTRUMENTATION static const struct th_network *network; /* the one that the last hello asked for */

INSTRUMENTATION static struct {
    uint8_t greeted;
    uint16_t run_seq; /* request number of the last run: asked again, it is answered, not repeated */
    uint32_t mark_cycles;
    struct hal_counters counters; /* compared once, at start */
} session;

/* ---- layer marks ---- */

#ifdef TINYHIL_LAYER_MARKS
INSTRUMENTATION static struct {
    uint32_t count;
    uint32_t cycles[TINYHIL_MAX_LAYERS];
} ring;

void th_layer_mark(uint32_t index) {
    th_mailbox.layer = index;
    if (index < TINYHIL_MAX_LAYERS) {
        ring.cycles[index] = hal_cycles();
        ring.count = index + 1;
    }
}

/* What one mark costs, so that the host can tell how far marks disturb the layers between them. */
static uint32_t measure_mark(void) {
    uint32_t start = hal_cycles();
    for (uint32_t i = 0; i < 16; i++) {
        th_layer_mark(0);
    }
    uint32_t cycles = (hal_cycles() - start) / 16;
    ring.count = 0;
    th_mailbox.layer = LAYER_UNKNOWN;
    return cycles;
}
#endif

/* ---- one inference ---- */

/* An emulator's recorder counts what runs between the entries of these two. They differ only in an
 * operand that nobody reads: two equal functions could be merged into one. */
void th_run_begin(void);
void th_run_end(void);

__attribute__((noinline)) void th_run_begin(void) {
    __asm volatile("" : : "i"(1) : "memory");
}

__attribute__((noinline)) void th_run_end(void) {
    __asm volatile("" : : "i"(2) : "memory");
}

INSTRUMENTATION static uint32_t run_start;

/* One copy for painted and plain runs, so that both count the same instructions. */
__attribute__((noinline)) static int timed_run(void) {
    int (*const infer)(void) = network->run;
    run_start = hal_cycles();
    th_run_begin();
    int status = infer();
    th_run_end();
    th_mailbox.cycles = hal_cycles() - run_start;
    return status;
}

static void run(uint32_t flags) {
    th_mailbox.state = STATE_RUNNING;
#ifdef TINYHIL_LAYER_MARKS
    ring.count = 0;
#endif
    th_mailbox.run_status = (flags & RUN_PAINT_STACK) ? memory_call(timed_run) : timed_run();
    th_mailbox.runs++;
    th_mailbox.layer = LAYER_UNKNOWN;
    th_mailbox.state = STATE_READY;
}

/* ---- answers ---- */

static void send_hello(uint16_t seq) {
    uint32_t id_size = (uint32_t)strlen(th_build_id);
    uint32_t ports = (uint32_t)network->input_count + network->output_count;
    wire_begin(WIRE_HELLO | WIRE_ANSWER, seq, (uint16_t)(60 + 4 * ports + id_size));
    wire_put_u32(WIRE_SCHEMA);
    wire_put_u32(hal_clock_hz());
#ifdef __arm__
    wire_put_u32(*(volatile uint32_t *)0xE000ED00); /* CPUID */
#else
    wire_put_u32(0);
#endif
    wire_put_u32(hal_caches());
    wire_put_u32(hal_wait_states());
    wire_put_u32(session.counters.cycles);
    wire_put_u32(session.counters.ticks);
    wire_put_u32((uint32_t)th_mailbox.init_status);
#ifdef TINYHIL_LAYER_MARKS
    wire_put_u32(HELLO_LAYER_MARKS);
#else
    wire_put_u32(0);
#endif
    wire_put_u32(session.mark_cycles);
    wire_put_u64((uint64_t)(uintptr_t)network->arena);
    wire_put_u32(network->arena_size);
    wire_put_u32(network->layer_count);
    wire_put_u16(network->input_count);
    wire_put_u16(network->output_count);
    for (uint32_t i = 0; i < network->input_count; i++) {
        wire_put_u32(network->inputs[i].size);
    }
    for (uint32_t i = 0; i < network->output_count; i++) {
        wire_put_u32(network->outputs[i].size);
    }
    wire_put(th_build_id, id_size);
    wire_end();
}

static void refuse(const struct wire_frame *request, uint32_t why) {
    wire_begin(WIRE_REFUSED, request->seq, 8);
    wire_put_u32(why);
    wire_put_u32(request->type);
    wire_end();
}

static void accept(const struct wire_frame *request) {
    wire_begin(request->type | WIRE_ANSWER, request->seq, 0);
    wire_end();
}

static void send_result(uint16_t seq) {
    wire_begin(WIRE_RUN | WIRE_ANSWER, seq, 12);
    wire_put_u32((uint32_t)th_mailbox.run_status);
    wire_put_u32(th_mailbox.cycles);
#ifdef TINYHIL_LAYER_MARKS
    wire_put_u32(ring.count);
#else
    wire_put_u32(0);
#endif
    wire_end();
}

static void send_memory(uint16_t seq) {
    struct memory_report report = memory_scan();
    wire_begin(WIRE_MEMORY | WIRE_ANSWER, seq, 20);
    wire_put_u32(report.arena_low);
    wire_put_u32(report.arena_high);
    wire_put_u32(report.stack);
    wire_put_u32(report.stack_size);
    wire_put_u32(report.overruns);
    wire_end();
}

/* Cycles from the start of the run to each mark; 32-bit subtraction survives one wrap. */
static int send_layers(const struct wire_frame *request) {
#ifdef TINYHIL_LAYER_MARKS
    uint32_t first = wire_u32(request->payload), count = wire_u32(request->payload + 4);
    if (first > ring.count || count > ring.count - first || count > WIRE_PAYLOAD_MAX / 4) {
        return 0;
    }
    wire_begin(WIRE_LAYERS | WIRE_ANSWER, request->seq, (uint16_t)(4 * count));
    for (uint32_t i = first; i < first + count; i++) {
        wire_put_u32(ring.cycles[i] - run_start);
    }
    wire_end();
    return 1;
#else
    (void)request;
    return 0;
#endif
}

/* ---- requests ---- */

static int copy_input(const struct wire_frame *request) {
    uint32_t port = wire_u32(request->payload), offset = wire_u32(request->payload + 4);
    uint32_t size = request->length - 8u;
    if (port >= network->input_count || offset > network->inputs[port].size ||
        size > network->inputs[port].size - offset) {
        return 0;
    }
    memcpy((uint8_t *)network->inputs[port].data + offset, request->payload + 8, size);
    return 1;
}

static int load_input(const struct wire_frame *request) {
    uint32_t port = wire_u32(request->payload);
    if (port >= network->input_count) {
        return 0;
    }
    const void *source = (const void *)(uintptr_t)wire_u64(request->payload + 4);
    memcpy(network->inputs[port].data, source, network->inputs[port].size);
    return 1;
}

static int send_output(const struct wire_frame *request) {
    uint32_t port = wire_u32(request->payload), offset = wire_u32(request->payload + 4);
    uint32_t size = wire_u32(request->payload + 8);
    if (port >= network->output_count || size > WIRE_PAYLOAD_MAX || offset > network->outputs[port].size ||
        size > network->outputs[port].size - offset) {
        return 0;
    }
    wire_begin(WIRE_READ | WIRE_ANSWER, request->seq, (uint16_t)size);
    wire_put((const uint8_t *)network->outputs[port].data + offset, size);
    wire_end();
    return 1;
}

/* The network that a hello names by its place in the list, the first if it names none. */
static const struct th_network *asked_for(const struct wire_frame *hello) {
    const struct th_network *found = &th_network;
    for (uint32_t i = hello->length ? wire_u32(hello->payload) : 0; i > 0 && found != 0; i--) {
        found = found->next;
    }
    return found;
}

static int has_length(const struct wire_frame *request) {
    switch (request->type) {
    case WIRE_HELLO:
        return request->length == 0 || request->length == 4;
    case WIRE_RUN:
        return request->length == 4;
    case WIRE_LAYERS:
        return request->length == 8;
    case WIRE_LOAD:
    case WIRE_READ:
        return request->length == 12;
    case WIRE_INPUT:
        return request->length >= 8;
    default:
        return request->length == 0;
    }
}

static void answer(const struct wire_frame *request) {
    int done = 1;
    if (!has_length(request)) {
        refuse(request, REFUSED_UNKNOWN);
        return;
    }
    if (request->type == WIRE_HELLO) {
        const struct th_network *found = asked_for(request);
        if (found == 0) {
            refuse(request, REFUSED_RANGE);
            return;
        }
        network = found;
        session.greeted = 1;
        session.run_seq = 0;
        send_hello(request->seq);
        return;
    }
    if (!session.greeted) {
        refuse(request, REFUSED_NO_HELLO);
        return;
    }
    switch (request->type) {
    case WIRE_PAINT:
        memory_paint_arena();
        accept(request);
        break;
    case WIRE_INPUT:
        if ((done = copy_input(request))) {
            accept(request);
        }
        break;
    case WIRE_LOAD:
        if ((done = load_input(request))) {
            accept(request);
        }
        break;
    case WIRE_RUN:
        if (th_mailbox.init_status != 0) {
            refuse(request, REFUSED_NOT_READY);
            return;
        }
        if (request->seq != session.run_seq) {
            run(wire_u32(request->payload));
            session.run_seq = request->seq;
        }
        send_result(request->seq);
        break;
    case WIRE_READ:
        done = send_output(request);
        break;
    case WIRE_LAYERS:
        done = send_layers(request);
        break;
    case WIRE_MEMORY:
        send_memory(request->seq);
        break;
    case WIRE_EXIT:
        accept(request);
        hal_exit(0);
    default:
        refuse(request, REFUSED_UNKNOWN);
        return;
    }
    if (!done) {
        refuse(request, REFUSED_RANGE);
    }
}

int main(void) {
    hal_init();
    th_mailbox.build_id = th_build_id;
    th_mailbox.layer = LAYER_UNKNOWN;
    session.counters = hal_compare_counters();
#ifdef TINYHIL_LAYER_MARKS
    session.mark_cycles = measure_mark();
#endif
    memory_init();
    network = &th_network;
    send_hello(0); /* number 0: nobody asked, so this is a reset */
    for (network = &th_network; network != 0 && th_mailbox.init_status == 0; network = network->next) {
        th_mailbox.init_status = network->init ? memory_call(network->init) : 0;
    }
    network = &th_network;
    th_mailbox.state = STATE_READY;
    th_mailbox.magic = MAILBOX_MAGIC;
    for (;;) {
        struct wire_frame request;
        int byte = hal_getc();
        if (byte >= 0 && wire_take((uint8_t)byte, &request)) {
            answer(&request);
        }
    }
}
