/* What the runtime asks of a chip or an emulator. One implementation per family in hal/. */
#ifndef TINYHIL_HAL_H
#define TINYHIL_HAL_H

#include <stdint.h>

void hal_init(void);         /* clocks to full speed, caches on, UART, cycle counter */
uint32_t hal_clock_hz(void); /* the core clock that hal_init has set up */
uint32_t hal_caches(void);   /* read back: bit 0 I-cache, bit 1 D-cache, bit 2 flash accelerator */
uint32_t hal_cycles(void);   /* free-running cycle counter; 0 where there is none */
void hal_putc(uint8_t byte); /* blocks until the UART took it */
int hal_getc(void);          /* next byte, or -1 if none has come */
void hal_exit(int status) __attribute__((noreturn)); /* emulator: ends with status; chip: waits for reset */

#endif
