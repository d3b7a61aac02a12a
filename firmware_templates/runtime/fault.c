/* The last words of a crashed firmware: which instruction, and what the core says of it. */
#include "hal.h"
#include "mailbox.h"
#include "wire.h"

#include <stddef.h>

/* Called by the vector table's handler (startup). `frame` is what the core stacked: R0-R3, R12, LR, PC,
 * PSR; NULL if the stack pointer had left the stack. */
void th_fault(const uint32_t *frame, uint32_t exc_return) __attribute__((noreturn));

#ifdef __arm__ /* ARMv7-M ARM, B3.2: fault status registers */
#define SCB(address) (*(volatile uint32_t *)(uintptr_t)(address))

void th_fault(const uint32_t *frame, uint32_t exc_return) {
    volatile struct th_mailbox *box = &th_mailbox;
    box->state = STATE_FAULT;
    box->fault.exc_return = exc_return;
    box->fault.cfsr = SCB(0xE000ED28);
    box->fault.hfsr = SCB(0xE000ED2C);
    box->fault.mmfar = SCB(0xE000ED34);
    box->fault.bfar = SCB(0xE000ED38);
    if (frame != NULL) {
        box->fault.lr = frame[5];
        box->fault.pc = frame[6];
        box->fault.psr = frame[7];
        box->fault.sp = (uint32_t)(uintptr_t)frame;
    }
    wire_begin(WIRE_FAULT, 0, 10 * 4);
    wire_put_u32(box->fault.pc);
    wire_put_u32(box->fault.lr);
    wire_put_u32(box->fault.psr);
    wire_put_u32(box->fault.sp);
    wire_put_u32(box->fault.cfsr);
    wire_put_u32(box->fault.hfsr);
    wire_put_u32(box->fault.mmfar);
    wire_put_u32(box->fault.bfar);
    wire_put_u32(box->fault.exc_return);
    wire_put_u32(box->layer);
    wire_end();
    hal_exit(70);
}
#endif
