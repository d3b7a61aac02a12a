/* STM32F405, F407, F429 (RM0090) and F412 (RM0402): HSE or HSI through the PLL to full speed. */
#include "rtt.h"
#include "stm32.h"

#define GPIOA 0x40020000u
#define RCC_CR REG(0x40023800)
#define RCC_PLLCFGR REG(0x40023804)
#define RCC_CFGR REG(0x40023808)
#define RCC_AHB1ENR REG(0x40023830)
#define RCC_APB1ENR REG(0x40023840)
#define PWR_CR REG(0x40007000)
#define PWR_CSR REG(0x40007004)
#define FLASH_ACR REG(0x40023C00)

#define CR_HSEON (1u << 16)
#define CR_HSERDY (1u << 17)
#define CR_HSEBYP (1u << 18)
#define CR_PLLON (1u << 24)
#define CR_PLLRDY (1u << 25)
#define PLLCFGR_HSE (1u << 22)
#define CFGR_SW_PLL 2u
#define PWR_OD (1u << 16)   /* ODEN in CR, ODRDY in CSR */
#define PWR_ODSW (1u << 17) /* ODSWEN in CR, ODSWRDY in CSR */
#define ACR_PRFTEN (1u << 8)
#define ACR_ICEN (1u << 9)
#define ACR_DCEN (1u << 10)

#ifndef TH_PWR_OVERDRIVE
#define TH_PWR_OVERDRIVE 0 /* only the F42x and F43x have it */
#endif

/* APB prescalers as the register wants them: 1 -> 0, 2 -> 4, 4 -> 5 */
#define PPRE(divider) ((divider) == 1 ? 0u : (divider) == 2 ? 4u : 5u)

/* This USART has one data register and its own layout (RM0090, "USART registers"). */
#define USART_SR 0x00u
#define USART_DR 0x04u
#define F4_USART_BRR 0x08u
#define F4_USART_CR1 0x0Cu
#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)
#if TH_USART == 2
#define USART 0x40004400u
#define USART_ENABLE (1u << 17)
#elif TH_USART == 3
#define USART 0x40004800u
#define USART_ENABLE (1u << 18)
#else
#error "hal_stm32f4.c knows USART2 and USART3"
#endif

/* RM0090, "Entering Over-drive mode": after the PLL is on and before the core runs from it. */
static int start_overdrive(void) {
    PWR_CR |= PWR_OD;
    if (!stm32_wait(&PWR_CSR, PWR_OD, PWR_OD)) {
        return 0;
    }
    PWR_CR |= PWR_ODSW;
    return stm32_wait(&PWR_CSR, PWR_ODSW, PWR_ODSW);
}

/* RM0090, "Clocks": wait states before the faster clock. Any step that does not come leaves the chip
 * on HSI, and hal_clock_hz says so. */
static void start_clock(void) {
    RCC_APB1ENR |= 1u << 28; /* PWR */
    (void)RCC_APB1ENR;
    PWR_CR |= TH_PWR_VOS;
    if (TH_HSE_HZ != 0) {
        RCC_CR |= (TH_HSE_BYPASS ? CR_HSEBYP : 0u);
        RCC_CR |= CR_HSEON;
        if (!stm32_wait(&RCC_CR, CR_HSERDY, CR_HSERDY)) {
            return;
        }
    }
    /* SYSCLK = source / M * N / 2; Q = 7 and R = 2 are legal, their branches are not used */
    RCC_PLLCFGR = TH_PLL_M | (TH_PLL_N << 6) | (0u << 16) | (TH_HSE_HZ ? PLLCFGR_HSE : 0u) | (7u << 24) | (2u << 28);
    RCC_CR |= CR_PLLON;
    if (TH_PWR_OVERDRIVE && !start_overdrive()) {
        return;
    }
    FLASH_ACR = TH_FLASH_WAIT_STATES | ACR_PRFTEN | ACR_ICEN | ACR_DCEN;
    if (!stm32_wait(&RCC_CR, CR_PLLRDY, CR_PLLRDY) || !stm32_wait(&FLASH_ACR, 15u, TH_FLASH_WAIT_STATES)) {
        return;
    }
    RCC_CFGR = (PPRE(TH_APB1_DIVIDER) << 10) | (PPRE(TH_APB2_DIVIDER) << 13);
    RCC_CFGR |= CFGR_SW_PLL;
    (void)stm32_wait(&RCC_CFGR, 3u << 2, CFGR_SW_PLL << 2);
}

void hal_init(void) {
    rtt_init();
    start_clock();
    core_start_cycle_counter();
    RCC_AHB1ENR |= (1u << (TH_TX_PORT - 'A')) | (1u << (TH_RX_PORT - 'A'));
    RCC_APB1ENR |= USART_ENABLE;
    (void)RCC_APB1ENR;
    stm32_serial_pins(GPIOA);
    uint32_t usart_clock = stm32_apb_clock(hal_clock_hz(), RCC_CFGR >> 10);
    REG(USART + F4_USART_BRR) = (usart_clock + TH_BAUD / 2) / TH_BAUD;
    REG(USART + F4_USART_CR1) = (1u << 13) | CR1_RE | CR1_TE; /* UE is bit 13 here */
}

uint32_t hal_clock_hz(void) {
    return stm32_core_clock(RCC_CFGR, RCC_PLLCFGR, TH_HSE_HZ);
}

uint32_t hal_caches(void) {
    uint32_t on = ACR_PRFTEN | ACR_ICEN | ACR_DCEN;
    return (FLASH_ACR & on) == on ? 4u : 0u; /* the core has no caches, the flash interface has */
}

uint32_t hal_wait_states(void) {
    return FLASH_ACR & 15u;
}

struct hal_counters hal_compare_counters(void) {
    return core_compare_counters();
}

uint32_t hal_cycles(void) {
    return DWT_CYCCNT;
}

static void f4_putc(uint8_t byte) {
    while (!(REG(USART + USART_SR) & SR_TXE)) {
    }
    REG(USART + USART_DR) = byte;
}

static int f4_getc(void) {
    /* reading SR and then DR also clears an overrun; the CRC sees the lost byte */
    uint32_t status = REG(USART + USART_SR);
    return (status & SR_RXNE) ? (int)(REG(USART + USART_DR) & 0xFFu) : -1;
}

void hal_putc(uint8_t byte) {
    if (!rtt_putc(byte)) {
        f4_putc(byte);
    }
}

int hal_getc(void) {
    int byte = rtt_getc();
    return rtt_attached ? byte : f4_getc();
}

void hal_exit(int status) {
    (void)status;
    for (;;) {
    }
}
