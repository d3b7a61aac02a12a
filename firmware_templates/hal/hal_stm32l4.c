/* STM32L4R5 (RM0432): HSI16 through the PLL to 120 MHz, voltage range 1 boost. */
#include "rtt.h"
#include "stm32.h"

#define GPIOA 0x48000000u
#define RCC_CR REG(0x40021000)
#define RCC_CFGR REG(0x40021008)
#define RCC_PLLCFGR REG(0x4002100C)
#define RCC_AHB2ENR REG(0x4002104C)
#define RCC_APB1ENR1 REG(0x40021058)
#define RCC_APB1ENR2 REG(0x4002105C)
#define PWR_CR1 REG(0x40007000)
#define PWR_CR2 REG(0x40007004)
#define PWR_SR2 REG(0x40007014)
#define PWR_CR5 REG(0x40007080)
#define FLASH_ACR REG(0x40022000)

#define CR_HSION (1u << 8)
#define CR_HSIRDY (1u << 10)
#define CR_PLLON (1u << 24)
#define CR_PLLRDY (1u << 25)
#define PLLCFGR_HSI16 2u
#define PLLCFGR_REN (1u << 24)
#define CFGR_SW_HSI16 1u
#define CFGR_SW_PLL 3u
#define CFGR_HPRE_2 (8u << 4)
#define CR1_VOS_MASK (3u << 9)
#define CR1_VOS_RANGE1 (1u << 9)
#define CR2_IOSV (1u << 9) /* VddIO2, the supply of port G, is valid */
#define SR2_VOSF (1u << 10)
#define CR5_R1MODE (1u << 8)
#define ACR_PRFTEN (1u << 8)
#define ACR_ICEN (1u << 9)
#define ACR_DCEN (1u << 10)
#define LPUART1 0x40008000u
#define MSI_HZ 4000000u /* after reset */

/* RM0432, "Dynamic voltage scaling management": range 1 boost and wait states first, then the PLL,
 * reached through half speed for a microsecond. The chip starts on MSI at 4 MHz; HSI16 comes first. */
static void start_clock(void) {
    RCC_CR |= CR_HSION;
    (void)stm32_wait(&RCC_CR, CR_HSIRDY, CR_HSIRDY);
    RCC_CFGR = CFGR_SW_HSI16;
    (void)stm32_wait(&RCC_CFGR, 3u << 2, CFGR_SW_HSI16 << 2);
    PWR_CR1 = (PWR_CR1 & ~CR1_VOS_MASK) | CR1_VOS_RANGE1;
    if (!stm32_wait(&PWR_SR2, SR2_VOSF, 0)) {
        return;
    }
    PWR_CR5 &= ~CR5_R1MODE;
    FLASH_ACR = TH_FLASH_WAIT_STATES | ACR_PRFTEN | ACR_ICEN | ACR_DCEN;
    if (!stm32_wait(&FLASH_ACR, 15u, TH_FLASH_WAIT_STATES)) {
        return;
    }
    RCC_PLLCFGR = PLLCFGR_HSI16 | ((TH_PLL_M - 1u) << 4) | (TH_PLL_N << 8) | PLLCFGR_REN; /* R = 2 */
    RCC_CR |= CR_PLLON;
    if (!stm32_wait(&RCC_CR, CR_PLLRDY, CR_PLLRDY)) {
        return;
    }
    RCC_CFGR = CFGR_HPRE_2 | CFGR_SW_HSI16;
    RCC_CFGR = CFGR_HPRE_2 | CFGR_SW_PLL;
    if (!stm32_wait(&RCC_CFGR, 3u << 2, CFGR_SW_PLL << 2)) {
        RCC_CFGR = CFGR_SW_HSI16;
        return;
    }
    for (volatile uint32_t loops = 0; loops < 60; loops++) {
    }
    RCC_CFGR = CFGR_SW_PLL;
}

void hal_init(void) {
    RCC_APB1ENR1 |= 1u << 28; /* PWR */
    (void)RCC_APB1ENR1;
    rtt_init();
    start_clock();
    core_start_cycle_counter();
    PWR_CR2 |= CR2_IOSV;
    RCC_AHB2ENR |= (1u << (TH_TX_PORT - 'A')) | (1u << (TH_RX_PORT - 'A'));
    RCC_APB1ENR2 |= 1u; /* LPUART1, clocked by APB1, which runs at the core's speed */
    (void)RCC_APB1ENR2;
    stm32_serial_pins(GPIOA);
    REG(LPUART1 + USART_BRR) = (uint32_t)((256ull * hal_clock_hz() + TH_BAUD / 2) / TH_BAUD);
    REG(LPUART1 + USART_CR1) = CR1_UE | CR1_RE | CR1_TE | CR1_FIFOEN;
}

uint32_t hal_clock_hz(void) {
    uint32_t pll = RCC_PLLCFGR, m = ((pll >> 4) & 15u) + 1, r = 2 * (((pll >> 25) & 3u) + 1);
    uint32_t switched = (RCC_CFGR >> 2) & 3u; /* SWS: MSI, HSI16, HSE, PLL */
    uint32_t hz = switched == 3 ? HSI_HZ / m * ((pll >> 8) & 127u) / r : switched == 1 ? HSI_HZ : MSI_HZ;
    return stm32_ahb_clock(hz, RCC_CFGR >> 4);
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

void hal_putc(uint8_t byte) {
    if (!rtt_putc(byte)) {
        usart_putc(LPUART1, byte);
    }
}

int hal_getc(void) {
    int byte = rtt_getc();
    return rtt_attached ? byte : usart_getc(LPUART1);
}

void hal_exit(int status) {
    (void)status;
    for (;;) {
    }
}
