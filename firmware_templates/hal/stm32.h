/* What the STM32 families share: pins, waiting, the USART of F7, H7 and L4.
 * Board values (TH_TX_PORT, TH_TX_PIN, TH_USART, TH_BAUD, ...) come from boards/NAME.toml. */
#ifndef TINYHIL_STM32_H
#define TINYHIL_STM32_H

#include "cortex_m.h"
#include "hal.h"

#define HSI_HZ 16000000u

/* Waits until (register & mask) == value; 0 if that does not happen within some 100 ms, so that a
 * missing crystal gives a slow board that can still say so, not a silent one. */
static inline int stm32_wait(volatile uint32_t *reg, uint32_t mask, uint32_t value) {
    for (uint32_t tries = 200000; tries > 0; tries--) {
        if ((*reg & mask) == value) {
            return 1;
        }
    }
    return 0;
}

/* Dividers as the clock registers code them: AHB in 4 bits (512 at most, never 32), APB in 3. */
static inline uint32_t stm32_ahb_clock(uint32_t hz, uint32_t code) {
    uint32_t shift = (code & 8u) ? (code & 7u) + 1 : 0;
    return hz >> (shift > 4 ? shift + 1 : shift);
}

static inline uint32_t stm32_apb_clock(uint32_t hz, uint32_t code) {
    return (code & 4u) ? hz >> ((code & 3u) + 1) : hz;
}

/* F4 and F7: the core clock, from RCC_CFGR and RCC_PLLCFGR. No register tells the crystal's frequency. */
static inline uint32_t stm32_core_clock(uint32_t cfgr, uint32_t pllcfgr, uint32_t hse_hz) {
    uint32_t switched = (cfgr >> 2) & 3u; /* SWS: HSI, HSE, PLL */
    uint32_t hz = switched == 1 ? hse_hz : HSI_HZ;
    if (switched == 2) {
        uint32_t m = pllcfgr & 63u, n = (pllcfgr >> 6) & 511u, p = 2 * (((pllcfgr >> 16) & 3u) + 1);
        hz = ((pllcfgr & (1u << 22)) ? hse_hz : HSI_HZ) / m * n / p;
    }
    return stm32_ahb_clock(hz, cfgr >> 4);
}

#define GPIO_PORT_BASE(gpioa, letter) ((gpioa) + 0x400u * (uint32_t)((letter) - 'A'))

/* Alternate function, very high speed, pull-up: an unconnected RX then reads as idle. */
static inline void stm32_pin(uint32_t port, uint32_t pin, uint32_t function) {
    uint32_t two = pin * 2, four = (pin & 7u) * 4;
    volatile uint32_t *afr = &REG(port + (pin < 8 ? 0x20u : 0x24u));
    *afr = (*afr & ~(15u << four)) | (function << four);
    REG(port + 0x08u) |= 3u << two;                                      /* OSPEEDR */
    REG(port + 0x0Cu) = (REG(port + 0x0Cu) & ~(3u << two)) | (1u << two); /* PUPDR */
    REG(port + 0x00u) = (REG(port + 0x00u) & ~(3u << two)) | (2u << two); /* MODER */
}

static inline void stm32_serial_pins(uint32_t gpioa) {
    stm32_pin(GPIO_PORT_BASE(gpioa, TH_TX_PORT), TH_TX_PIN, TH_PIN_FUNCTION);
    stm32_pin(GPIO_PORT_BASE(gpioa, TH_RX_PORT), TH_RX_PIN, TH_PIN_FUNCTION);
}

/* USART with separate data registers (F7, H7, L4; RM0385, "USART registers"). */
#define USART_CR1 0x00u
#define USART_BRR 0x0Cu
#define USART_ISR 0x1Cu
#define USART_ICR 0x20u
#define USART_RDR 0x24u
#define USART_TDR 0x28u
#define CR1_UE (1u << 0)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define CR1_FIFOEN (1u << 29) /* H7 and L4+ */
#define ISR_RXNE (1u << 5)
#define ISR_TXE (1u << 7)
#define ICR_ALL_ERRORS 0xFu

static inline void usart_putc(uint32_t usart, uint8_t byte) {
    while (!(REG(usart + USART_ISR) & ISR_TXE)) {
    }
    REG(usart + USART_TDR) = byte;
}

static inline int usart_getc(uint32_t usart) {
    if (REG(usart + USART_ISR) & ISR_RXNE) {
        return (int)(REG(usart + USART_RDR) & 0xFFu);
    }
    REG(usart + USART_ICR) = ICR_ALL_ERRORS; /* an overrun would block reception; the CRC sees it */
    return -1;
}

#endif
