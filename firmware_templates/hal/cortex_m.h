/* Core registers that every Cortex-M4 and M7 has: caches, cycle counter. ARMv7-M ARM, B3.2 and C1.8. */
#ifndef TINYHIL_CORTEX_M_H
#define TINYHIL_CORTEX_M_H

#include "hal.h"

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

static inline void core_barrier(void) {
    __asm volatile("dsb\n\tisb" ::: "memory");
}

#define DEMCR REG(0xE000EDFC)
#define DWT_CTRL REG(0xE0001000)
#define DWT_CYCCNT REG(0xE0001004)
#define DWT_LAR REG(0xE0001FB0) /* Cortex-M7 only; M4 ignores the write */

static inline void core_start_cycle_counter(void) {
    DEMCR |= 1u << 24; /* TRCENA */
    DWT_LAR = 0xC5ACCE55;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u; /* CYCCNTENA */
}

/* SysTick on the core's own clock (ARMv7-M ARM, B3.3): 24 bits, counting down. */
#define SYST_CSR REG(0xE000E010)
#define SYST_RVR REG(0xE000E014)
#define SYST_CVR REG(0xE000E018)
#define SYST_MASK 0xFFFFFFu

/* Both counters over one stretch of some thousand cycles: they count the same clock, so they must agree.
 * No interrupt is enabled, and SysTick is off again afterwards. */
static inline struct hal_counters core_compare_counters(void) {
    struct hal_counters start, end;
    SYST_RVR = SYST_MASK;
    SYST_CVR = 0;
    SYST_CSR = 5u; /* CLKSOURCE: processor; ENABLE */
    core_barrier();
    start.ticks = SYST_CVR;
    start.cycles = DWT_CYCCNT;
    for (uint32_t i = 0; i < 2000; i++) {
        __asm volatile("nop");
    }
    end.ticks = SYST_CVR;
    end.cycles = DWT_CYCCNT;
    SYST_CSR = 0;
    return (struct hal_counters){end.cycles - start.cycles, (start.ticks - end.ticks) & SYST_MASK};
}

#define SCB_CCR REG(0xE000ED14)
#define SCB_CCSIDR REG(0xE000ED80)
#define SCB_CSSELR REG(0xE000ED84)
#define SCB_ICIALLU REG(0xE000EF50)
#define SCB_DCISW REG(0xE000EF60)
#define CCR_DC (1u << 16)
#define CCR_IC (1u << 17)

static inline void core_enable_icache(void) {
    core_barrier();
    SCB_ICIALLU = 0;
    core_barrier();
    SCB_CCR |= CCR_IC;
    core_barrier();
}

/* Every line is invalidated first: after power-up the cache holds anything. */
static inline void core_enable_dcache(void) {
    SCB_CSSELR = 0; /* level 1, data */
    core_barrier();
    uint32_t size = SCB_CCSIDR;
    uint32_t sets = ((size >> 13) & 0x7FFFu) + 1, ways = ((size >> 3) & 0x3FFu) + 1;
    uint32_t set_shift = (size & 7u) + 4;
    uint32_t way_shift = ways > 1 ? (uint32_t)__builtin_clz(ways - 1) : 0;
    for (uint32_t set = 0; set < sets; set++) {
        for (uint32_t way = 0; way < ways; way++) {
            SCB_DCISW = (way << way_shift) | (set << set_shift);
        }
    }
    core_barrier();
    SCB_CCR |= CCR_DC;
    core_barrier();
}

/* Bit 0 I-cache, bit 1 D-cache, as hal_caches wants them. */
static inline uint32_t core_caches(void) {
    uint32_t ccr = SCB_CCR;
    return ((ccr & CCR_IC) ? 1u : 0u) | ((ccr & CCR_DC) ? 2u : 0u);
}

#endif
