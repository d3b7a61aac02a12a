/* The state of the firmware where a debug probe finds it without the wire: symbol `th_mailbox`. */
#ifndef TINYHIL_MAILBOX_H
#define TINYHIL_MAILBOX_H

#include <stdint.h>

#define MAILBOX_MAGIC 0x4C494854u /* "THIL" */

enum mailbox_state {
    STATE_BOOTING = 0,
    STATE_READY = 1,
    STATE_RUNNING = 2,
    STATE_FAULT = 3,
};

struct th_mailbox {
    uint32_t magic; /* written last while booting: before, nothing else is valid */
    uint32_t state;
    const char *build_id;
    int32_t init_status; /* what the network's init() returned */
    int32_t run_status;  /* what the last run() returned */
    uint32_t runs;       /* inferences since reset */
    uint32_t cycles;     /* of the last run; 0 where there is no counter */
    uint32_t layer;      /* the layer whose mark came last, or LAYER_UNKNOWN */
    struct {
        uint32_t pc, lr, psr, sp; /* all 0 if the stack was lost */
        uint32_t cfsr, hfsr, mmfar, bfar;
        uint32_t exc_return;
    } fault;
};

#define LAYER_UNKNOWN 0xFFFFFFFFu

extern volatile struct th_mailbox th_mailbox;

#endif
