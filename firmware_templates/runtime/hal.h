/* What the runtime asks of a chip or an emulator. One implementation per family in hal/. */
#ifndef TINYHIL_HAL_H
#define TINYHIL_HAL_H

#include <stdint.h>

void hal_init(void);         /* clocks to full speed, caches on, UART, cycle counter */
uint32_t hal_cycles(void);   /* free-running cycle counter; 0 where there is none */
void hal_putc(uint8_t byte); /* blocks until the UART took it */
int hal_getc(void);          /* next byte, or -1 if none has come */
void hal_exit(int status) __attribute__((noreturn)); /* emulator: ends with status; chip: waits for reset */

/* The conditions of a measurement. Each is read back from the chip's registers when it is asked for:
 * what hal_init meant to set up is of no interest. */
#define HAL_UNREADABLE 0xFFFFFFFFu /* this target has no such register */

struct hal_counters {
    uint32_t cycles, ticks;
};

uint32_t hal_clock_hz(void);    /* core clock by the clock registers; 0 where there are none */
uint32_t hal_caches(void);      /* bit 0 I-cache, bit 1 D-cache, bit 2 flash accelerator; or unreadable */
uint32_t hal_wait_states(void); /* of the flash, or unreadable */
struct hal_counters hal_compare_counters(void); /* cycle counter and SysTick over one stretch; 0 and 0 if none */

#endif
