/* The wire: frames between this firmware and the host. docs/wire.md describes every message. */
#ifndef TINYHIL_WIRE_H
#define TINYHIL_WIRE_H

#include <stdint.h>

#define WIRE_SCHEMA 2u
#define WIRE_PAYLOAD_MAX 1024u

enum wire_type {
    /* from the host */
    WIRE_HELLO = 0x01,  /* who are you? */
    WIRE_PAINT = 0x02,  /* paint what is untouched of the arena with a fresh pattern */
    WIRE_INPUT = 0x03,  /* a piece of an input tensor */
    WIRE_LOAD = 0x04,   /* take an input tensor from an address */
    WIRE_RUN = 0x05,    /* one inference */
    WIRE_READ = 0x06,   /* send a piece of an output tensor */
    WIRE_LAYERS = 0x07, /* send layer marks of the last run */
    WIRE_MEMORY = 0x08, /* send what was touched */
    WIRE_EXIT = 0x09,   /* end (emulators) */
    /* to the host: the request's type with bit 7 set, or one of these */
    WIRE_ANSWER = 0x80,
    WIRE_FAULT = 0xF0,
    WIRE_REFUSED = 0xF1,
};

enum wire_refusal {
    REFUSED_UNKNOWN = 1,    /* no such message, or not of that length */
    REFUSED_NO_HELLO = 2,   /* not greeted since the last reset */
    REFUSED_RANGE = 3,      /* no such tensor, or beyond its end */
    REFUSED_NOT_READY = 4,  /* the network's init() failed */
};

struct wire_frame {
    uint8_t type;
    uint16_t seq;
    uint16_t length; /* of the payload */
    const uint8_t *payload;
};

/* Takes one received byte. Returns 1 when it completes a good frame, which stays valid until the
 * next call; damaged frames are dropped, the host asks again. */
int wire_take(uint8_t byte, struct wire_frame *frame);

/* Sends one frame: begin with the exact payload length, put the payload in pieces, end. */
void wire_begin(uint8_t type, uint16_t seq, uint16_t length);
void wire_put(const void *data, uint32_t size);
void wire_put_u16(uint16_t value);
void wire_put_u32(uint32_t value);
void wire_put_u64(uint64_t value);
void wire_end(void);

/* Little-endian numbers of a received payload. */
uint16_t wire_u16(const uint8_t *bytes);
uint32_t wire_u32(const uint8_t *bytes);
uint64_t wire_u64(const uint8_t *bytes);

#endif
