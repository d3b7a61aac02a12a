/* STM32H743 revision V (RM0433): HSE through PLL1 to 480 MHz with VOS0. */
#include "rtt.h"
#include "stm32.h"

#define H7_HSI_HZ 64000000u
#define GPIOA 0x58020000u
#define RCC_CR REG(0x58024400)
#define RCC_CFGR REG(0x58024410)
#define RCC_D1CFGR REG(0x58024418)
#define RCC_D2CFGR REG(0x5802441C)
#define RCC_D3CFGR REG(0x58024420)
#define RCC_PLLCKSELR REG(0x58024428)
#define RCC_PLLCFGR REG(0x5802442C)
#define RCC_PLL1DIVR REG(0x58024430)
#define RCC_AHB4ENR REG(0x580244E0)
#define RCC_APB1LENR REG(0x580244E8)
#define RCC_APB4ENR REG(0x580244F4)
#define PWR_CSR1 REG(0x58024804)
#define PWR_CR3 REG(0x5802480C)
#define PWR_D3CR REG(0x58024818)
#define SYSCFG_PWRCR REG(0x5800042C)
#define FLASH_ACR REG(0x52002000)

#define CR_HSEON (1u << 16)
#define CR_HSERDY (1u << 17)
#define CR_HSEBYP (1u << 18)
#define CR_PLL1ON (1u << 24)
#define CR_PLL1RDY (1u << 25)
#define CFGR_SW_PLL1 3u
#define CR3_SUPPLY 7u /* BYPASS, LDOEN, SCUEN */
#define CR3_LDOEN (1u << 1)
#define CSR1_ACTVOSRDY (1u << 13)
#define D3CR_VOSRDY (1u << 13)
#define D3CR_VOS1 (3u << 14)
#define ACR_WRHIGHFREQ (2u << 4)

#if TH_USART == 3
#define USART 0x40004800u
#define USART_ENABLE (1u << 18)
#else
#error "hal_stm32h7.c knows USART3"
#endif

/* RM0433, "System supply startup" and "VOS0 activation/deactivation sequence", then PLL1 and the
 * bus dividers before the switch. Any step that does not come leaves the chip on HSI. */
static void start_clock(void) {
    PWR_CR3 = (PWR_CR3 & ~CR3_SUPPLY) | CR3_LDOEN;
    if (!stm32_wait(&PWR_CSR1, CSR1_ACTVOSRDY, CSR1_ACTVOSRDY)) {
        return;
    }
    PWR_D3CR |= D3CR_VOS1;
    if (!stm32_wait(&PWR_D3CR, D3CR_VOSRDY, D3CR_VOSRDY)) {
        return;
    }
    RCC_APB4ENR |= 1u << 1; /* SYSCFG */
    (void)RCC_APB4ENR;
    SYSCFG_PWRCR |= 1u; /* ODEN: VOS1 becomes VOS0 */
    if (!stm32_wait(&PWR_D3CR, D3CR_VOSRDY, D3CR_VOSRDY)) {
        return;
    }
    RCC_CR |= (TH_HSE_BYPASS ? CR_HSEBYP : 0u);
    RCC_CR |= CR_HSEON;
    if (!stm32_wait(&RCC_CR, CR_HSERDY, CR_HSERDY)) {
        return;
    }
    RCC_PLLCKSELR = 2u | (TH_PLL_M << 4);             /* HSE / M */
    RCC_PLLCFGR = (3u << 2) | (1u << 16);             /* input 8 to 16 MHz, wide VCO, output P on */
    RCC_PLL1DIVR = (TH_PLL_N - 1u) | ((2u - 1u) << 9) /* P = 2 */
                   | (1u << 16) | (1u << 24);
    RCC_CR |= CR_PLL1ON;
    if (!stm32_wait(&RCC_CR, CR_PLL1RDY, CR_PLL1RDY)) {
        return;
    }
    FLASH_ACR = TH_FLASH_WAIT_STATES | ACR_WRHIGHFREQ;
    if (!stm32_wait(&FLASH_ACR, 15u, TH_FLASH_WAIT_STATES)) {
        return;
    }
    RCC_D1CFGR = (8u << 0) | (4u << 4);  /* core / 1, AXI and AHB / 2, APB3 / 2 */
    RCC_D2CFGR = (4u << 4) | (4u << 8);  /* APB1 / 2, APB2 / 2 */
    RCC_D3CFGR = (4u << 4);              /* APB4 / 2 */
    RCC_CFGR = (RCC_CFGR & ~7u) | CFGR_SW_PLL1;
    (void)stm32_wait(&RCC_CFGR, 7u << 3, CFGR_SW_PLL1 << 3);
}

void hal_init(void) {
    rtt_init();
    start_clock();
    core_enable_icache();
    core_enable_dcache();
    core_start_cycle_counter();
    RCC_AHB4ENR |= (1u << (TH_TX_PORT - 'A')) | (1u << (TH_RX_PORT - 'A'));
    RCC_APB1LENR |= USART_ENABLE;
    (void)RCC_APB1LENR;
    stm32_serial_pins(GPIOA);
    uint32_t usart_clock = stm32_apb_clock(stm32_ahb_clock(hal_clock_hz(), RCC_D1CFGR), RCC_D2CFGR >> 4);
    REG(USART + USART_BRR) = (usart_clock + TH_BAUD / 2) / TH_BAUD;
    REG(USART + USART_CR1) = CR1_UE | CR1_RE | CR1_TE | CR1_FIFOEN;
}

uint32_t hal_clock_hz(void) {
    uint32_t source = (RCC_PLLCKSELR & 3u) == 2 ? TH_HSE_HZ : H7_HSI_HZ, m = (RCC_PLLCKSELR >> 4) & 63u;
    uint32_t n = (RCC_PLL1DIVR & 511u) + 1, p = ((RCC_PLL1DIVR >> 9) & 127u) + 1;
    int on_pll = ((RCC_CFGR >> 3) & 7u) == CFGR_SW_PLL1 && m;
    return stm32_ahb_clock(on_pll ? source / m * n / p : H7_HSI_HZ, RCC_D1CFGR >> 8);
}

uint32_t hal_caches(void) {
    return core_caches(); /* no flash accelerator beside the caches */
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
