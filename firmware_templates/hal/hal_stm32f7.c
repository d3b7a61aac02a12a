/* STM32F74x and F76x (RM0385, RM0410): HSE through the PLL to 216 MHz with over-drive. */
#include "rtt.h"
#include "stm32.h"

#define GPIOA 0x40020000u
#define RCC_CR REG(0x40023800)
#define RCC_PLLCFGR REG(0x40023804)
#define RCC_CFGR REG(0x40023808)
#define RCC_AHB1ENR REG(0x40023830)
#define RCC_APB1ENR REG(0x40023840)
#define RCC_APB2ENR REG(0x40023844)
#define PWR_CR1 REG(0x40007000)
#define PWR_CSR1 REG(0x40007004)
#define FLASH_ACR REG(0x40023C00)

#define CR_HSEON (1u << 16)
#define CR_HSERDY (1u << 17)
#define CR_HSEBYP (1u << 18)
#define CR_PLLON (1u << 24)
#define CR_PLLRDY (1u << 25)
#define PLLCFGR_HSE (1u << 22)
#define CFGR_SW_PLL 2u
#define PWR_VOS_SCALE1 (3u << 14)
#define PWR_OD (1u << 16)   /* ODEN in CR1, ODRDY in CSR1 */
#define PWR_ODSW (1u << 17) /* ODSWEN in CR1, ODSWRDY in CSR1 */
#define ACR_PRFTEN (1u << 8)
#define ACR_ARTEN (1u << 9)

#if TH_USART == 1
#define USART 0x40011000u
#define USART_CLOCK_HZ stm32_apb_clock(hal_clock_hz(), RCC_CFGR >> 13) /* APB2 */
#elif TH_USART == 3
#define USART 0x40004800u
#define USART_CLOCK_HZ stm32_apb_clock(hal_clock_hz(), RCC_CFGR >> 10) /* APB1 */
#else
#error "hal_stm32f7.c knows USART1 and USART3"
#endif

/* RM0385, "Entering Over-drive mode": VOS while the PLL is off, then PLL, over-drive, wait states,
 * and last the switch. Any step that does not come leaves the chip on HSI, and hal_clock_hz says so. */
static void start_clock(void) {
    RCC_APB1ENR |= 1u << 28; /* PWR */
    (void)RCC_APB1ENR;
    PWR_CR1 |= PWR_VOS_SCALE1;
    RCC_CR |= (TH_HSE_BYPASS ? CR_HSEBYP : 0u);
    RCC_CR |= CR_HSEON;
    if (!stm32_wait(&RCC_CR, CR_HSERDY, CR_HSERDY)) {
        return;
    }
    /* SYSCLK = HSE / M * N / 2; Q = 9 gives a legal 48 MHz branch, which is not used */
    RCC_PLLCFGR = TH_PLL_M | (TH_PLL_N << 6) | (0u << 16) | PLLCFGR_HSE | (9u << 24) | (2u << 28);
    RCC_CR |= CR_PLLON;
    PWR_CR1 |= PWR_OD;
    if (!stm32_wait(&PWR_CSR1, PWR_OD, PWR_OD)) {
        return;
    }
    PWR_CR1 |= PWR_ODSW;
    if (!stm32_wait(&PWR_CSR1, PWR_ODSW, PWR_ODSW) || !stm32_wait(&RCC_CR, CR_PLLRDY, CR_PLLRDY)) {
        return;
    }
    FLASH_ACR = TH_FLASH_WAIT_STATES | ACR_PRFTEN | ACR_ARTEN;
    if (!stm32_wait(&FLASH_ACR, 15u, TH_FLASH_WAIT_STATES)) {
        return;
    }
    RCC_CFGR = (5u << 10) | (4u << 13); /* AHB / 1, APB1 / 4, APB2 / 2 */
    RCC_CFGR |= CFGR_SW_PLL;
    (void)stm32_wait(&RCC_CFGR, 3u << 2, CFGR_SW_PLL << 2);
}

void hal_init(void) {
    rtt_init();
    start_clock();
    core_enable_icache();
    core_enable_dcache();
    core_start_cycle_counter();
    RCC_AHB1ENR |= (1u << (TH_TX_PORT - 'A')) | (1u << (TH_RX_PORT - 'A'));
    RCC_APB2ENR |= TH_USART == 1 ? 1u << 4 : 0u;
    RCC_APB1ENR |= TH_USART == 3 ? 1u << 18 : 0u;
    (void)RCC_APB1ENR;
    stm32_serial_pins(GPIOA);
    REG(USART + USART_BRR) = (USART_CLOCK_HZ + TH_BAUD / 2) / TH_BAUD;
    REG(USART + USART_CR1) = CR1_UE | CR1_RE | CR1_TE;
}

uint32_t hal_clock_hz(void) {
    return stm32_core_clock(RCC_CFGR, RCC_PLLCFGR, TH_HSE_HZ);
}

uint32_t hal_caches(void) {
    return core_caches() | ((FLASH_ACR & ACR_ARTEN) ? 4u : 0u);
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

void hal_putc(uint8_t byte) {
    if (!rtt_putc(byte)) {
        usart_putc(USART, byte);
    }
}

int hal_getc(void) {
    int byte = rtt_getc();
    return rtt_attached ? byte : usart_getc(USART);
}

void hal_exit(int status) {
    (void)status;
    for (;;) {
    }
}
