/* COBS frames with CRC-32, encoded and decoded byte by byte, so that a frame is never held twice. */
#include "wire.h"

#include "hal.h"
#include "instrumentation.h"

#define HEADER 5u  /* type, sequence number, payload length */
#define TRAILER 4u /* CRC-32 */

/* CRC-32 (IEEE 802.3, reflected), four bits at a time: 64 bytes of table instead of 1 KB. */
static uint32_t crc_step(uint32_t crc, uint8_t byte) {
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    crc ^= byte;
    crc = (crc >> 4) ^ table[crc & 15u];
    return (crc >> 4) ^ table[crc & 15u];
}

uint16_t wire_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | (bytes[1] << 8));
}

uint32_t wire_u32(const uint8_t *bytes) {
    return wire_u16(bytes) | ((uint32_t)wire_u16(bytes + 2) << 16);
}

uint64_t wire_u64(const uint8_t *bytes) {
    return wire_u32(bytes) | ((uint64_t)wire_u32(bytes + 4) << 32);
}

/* ---- receiving ---- */

INSTRUMENTATION static struct {
    uint8_t bytes[HEADER + WIRE_PAYLOAD_MAX + TRAILER];
    uint32_t used;
    uint8_t code;      /* the COBS code of the running block; 0 before the first */
    uint8_t remaining; /* bytes until the next code */
    uint8_t overflow;  /* longer than any frame: skip to the next delimiter */
} rx;

static void rx_store(uint8_t byte) {
    if (rx.used < sizeof rx.bytes) {
        rx.bytes[rx.used++] = byte;
    } else {
        rx.overflow = 1;
    }
}

static int rx_check(struct wire_frame *frame) {
    if (rx.overflow || rx.remaining || rx.used < HEADER + TRAILER) {
        return 0;
    }
    uint32_t body = rx.used - TRAILER, crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < body; i++) {
        crc = crc_step(crc, rx.bytes[i]);
    }
    if ((crc ^ 0xFFFFFFFFu) != wire_u32(rx.bytes + body) || wire_u16(rx.bytes + 3) != body - HEADER) {
        return 0;
    }
    frame->type = rx.bytes[0];
    frame->seq = wire_u16(rx.bytes + 1);
    frame->length = wire_u16(rx.bytes + 3);
    frame->payload = rx.bytes + HEADER;
    return 1;
}

int wire_take(uint8_t byte, struct wire_frame *frame) {
    if (byte == 0) {
        int good = rx_check(frame);
        rx.used = 0;
        rx.code = rx.remaining = rx.overflow = 0;
        return good;
    }
    if (rx.remaining) {
        rx.remaining--;
        rx_store(byte);
        return 0;
    }
    if (rx.code != 0 && rx.code != 0xFF) {
        rx_store(0); /* the zero that ended the block before */
    }
    rx.code = byte;
    rx.remaining = (uint8_t)(byte - 1);
    return 0;
}

/* ---- sending ---- */

INSTRUMENTATION static struct {
    uint8_t block[254];
    uint8_t used;
    uint32_t crc;
} tx;

static void tx_flush(void) {
    hal_putc((uint8_t)(tx.used + 1));
    for (uint32_t i = 0; i < tx.used; i++) {
        hal_putc(tx.block[i]);
    }
    tx.used = 0;
}

static void tx_stuff(uint8_t byte) {
    if (tx.used == sizeof tx.block) {
        tx_flush();
    }
    if (byte == 0) {
        tx_flush();
    } else {
        tx.block[tx.used++] = byte;
    }
}

void wire_put(const void *data, uint32_t size) {
    const uint8_t *bytes = data;
    for (uint32_t i = 0; i < size; i++) {
        tx.crc = crc_step(tx.crc, bytes[i]);
        tx_stuff(bytes[i]);
    }
}

void wire_put_u16(uint16_t value) {
    const uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    wire_put(bytes, sizeof bytes);
}

void wire_put_u32(uint32_t value) {
    wire_put_u16((uint16_t)value);
    wire_put_u16((uint16_t)(value >> 16));
}

void wire_put_u64(uint64_t value) {
    wire_put_u32((uint32_t)value);
    wire_put_u32((uint32_t)(value >> 32));
}

void wire_begin(uint8_t type, uint16_t seq, uint16_t length) {
    hal_putc(0); /* ends whatever was on the line: text, or a frame that a fault cut short */
    tx.used = 0;
    tx.crc = 0xFFFFFFFFu;
    wire_put(&type, 1);
    wire_put_u16(seq);
    wire_put_u16(length);
}

void wire_end(void) {
    wire_put_u32(tx.crc ^ 0xFFFFFFFFu);
    tx_flush();
    hal_putc(0);
}
