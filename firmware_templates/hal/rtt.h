/* Real Time Transfer (SEGGER's RTT): the line to the host through two rings in RAM, which a debug probe reads
 * and writes while the core runs. For boards whose serial port leads nowhere. The layout is the public one,
 * so that any RTT client finds it; docs/wire.md. Included by one hardware layer, once. */
#ifndef TINYHIL_RTT_H
#define TINYHIL_RTT_H

#include "instrumentation.h"

#include <stdint.h>

#define RTT_BYTES 512u

struct rtt_ring {
    const char *name;
    uint8_t *data;
    uint32_t size;
    volatile uint32_t write; /* where its writer goes on */
    volatile uint32_t read;  /* where its reader goes on; both equal: empty */
    uint32_t flags;          /* what to do when it is full; only SEGGER's own library heeds them */
};

struct rtt_control {
    volatile char id[16]; /* "SEGGER RTT" once the rest is valid */
    int32_t up_count, down_count;
    struct rtt_ring up, down; /* to the host, from the host */
};

INSTRUMENTATION struct rtt_control th_rtt; /* the host takes its address from the ELF */
INSTRUMENTATION static uint8_t rtt_up[RTT_BYTES], rtt_down[RTT_BYTES];
INSTRUMENTATION static uint8_t rtt_attached; /* the host has written here: from now on this is the line */

static inline void rtt_barrier(void) {
    __asm volatile("dmb" ::: "memory");
}

static inline void rtt_init(void) {
    static const char reversed[] = "TTR REGGES"; /* the id itself stands in RAM only, where it is looked for */
    th_rtt.up_count = th_rtt.down_count = 1;
    th_rtt.up = (struct rtt_ring){"tinyhil", rtt_up, RTT_BYTES, 0, 0, 0};
    th_rtt.down = (struct rtt_ring){"tinyhil", rtt_down, RTT_BYTES, 0, 0, 0};
    rtt_barrier();
    for (uint32_t i = 0; i < sizeof reversed - 1; i++) {
        th_rtt.id[i] = reversed[sizeof reversed - 2 - i];
    }
    rtt_barrier();
}

/* Takes one byte for the host. A full ring is waited for if the host is there; else the byte is lost, as on
 * a wire. Returns whether RTT is the line: if not, the byte has yet to go over the other one. */
static inline int rtt_putc(uint8_t byte) {
    struct rtt_ring *up = &th_rtt.up;
    uint32_t write = up->write, next = (write + 1) % RTT_BYTES;
    while (next == up->read && rtt_attached) {
    }
    if (next != up->read) {
        rtt_up[write % RTT_BYTES] = byte;
        rtt_barrier(); /* the byte before the news of it */
        up->write = next;
    }
    return rtt_attached;
}

/* The next byte from the host, or -1. */
static inline int rtt_getc(void) {
    struct rtt_ring *down = &th_rtt.down;
    uint32_t read = down->read, write = down->write;
    if (read == write || write >= RTT_BYTES) { /* empty, or written over: old bytes must not be read again */
        return -1;
    }
    rtt_attached = 1;
    rtt_barrier();
    uint8_t byte = rtt_down[read % RTT_BYTES];
    down->read = (read + 1) % RTT_BYTES;
    return byte;
}

#endif
