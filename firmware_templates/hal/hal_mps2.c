/* Arm MPS2 as QEMU has it: mps2-an386 (Cortex-M4) and mps2-an500 (Cortex-M7).
 * UART0 is a CMSDK APB UART (Arm DDI 0479, 4.3); the run ends by semihosting. */
#include "cortex_m.h"
#include "hal.h"

#define UART_DATA REG(0x40004000)
#define UART_STATE REG(0x40004004)
#define UART_CTRL REG(0x40004008)
#define UART_INTCLEAR REG(0x4000400C)
#define UART_BAUDDIV REG(0x40004010)
#define NVIC_ISER REG(0xE000E100)
#define NVIC_ICPR REG(0xE000E280)
#define UART0_RX_IRQ (1u << 0) /* AN386 and AN500, interrupt map */
#define STATE_TX_FULL (1u << 0)
#define STATE_RX_FULL (1u << 1)

#define SYS_EXIT_EXTENDED 0x20u
#define ADP_STOPPED_APPLICATION_EXIT 0x20026u

void hal_init(void) {
    UART_BAUDDIV = 16; /* the smallest that is allowed; QEMU does not pace the line */
    /* The receive interrupt only ends a WFI, so that waiting costs the host nothing; it is never taken. */
    __asm volatile("cpsid i" ::: "memory");
    UART_CTRL = 3 | (1u << 3); /* transmit and receive; receive interrupt */
    NVIC_ISER = UART0_RX_IRQ;
    (void)UART_DATA; /* QEMU looks for bytes once a read has told it that there is room, not before */
}

uint32_t hal_clock_hz(void) {
    return 0; /* no register tells; time means nothing here, instructions are counted */
}

uint32_t hal_caches(void) {
    return HAL_UNREADABLE; /* QEMU has no caches */
}

uint32_t hal_wait_states(void) {
    return HAL_UNREADABLE;
}

struct hal_counters hal_compare_counters(void) {
    return (struct hal_counters){0, 0};
}

uint32_t hal_cycles(void) {
    return 0; /* QEMU's DWT reads as zero */
}

void hal_putc(uint8_t byte) {
    while (UART_STATE & STATE_TX_FULL) {
    }
    UART_DATA = byte;
}

int hal_getc(void) {
    if (!(UART_STATE & STATE_RX_FULL)) {
        __asm volatile("wfi" ::: "memory");
        UART_INTCLEAR = 3;
        NVIC_ICPR = UART0_RX_IRQ;
    }
    return (UART_STATE & STATE_RX_FULL) ? (int)(UART_DATA & 0xFFu) : -1;
}

void hal_exit(int status) {
    const uint32_t block[2] = {ADP_STOPPED_APPLICATION_EXIT, (uint32_t)status};
    register uint32_t operation __asm("r0") = SYS_EXIT_EXTENDED;
    register const uint32_t *argument __asm("r1") = block;
    __asm volatile("bkpt 0xAB" : "+r"(operation) : "r"(argument) : "memory");
    for (;;) {
    }
}
