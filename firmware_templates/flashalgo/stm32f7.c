/* Flash algorithm of the STM32F74x and F75x: what a debug probe runs in RAM to erase and program flash.
 * Functions and return values (0 is good) follow Arm's CMSIS-Pack description of flash algorithms.
 * Registers and sequences: RM0385, "Embedded flash memory (FLASH)". Position independent, no data. */
#include <stdint.h>

#define FLASH_KEYR (*(volatile uint32_t *)0x40023C04u)
#define FLASH_SR (*(volatile uint32_t *)0x40023C0Cu)
#define FLASH_CR (*(volatile uint32_t *)0x40023C10u)

#define SR_EOP (1u << 0)
#define SR_ERRORS 0xF2u /* OPERR, WRPERR, PGAERR, PGPERR, ERSERR */
#define SR_BSY (1u << 16)

#define CR_PG (1u << 0)
#define CR_SER (1u << 1)
#define CR_MER (1u << 2)
#define CR_SNB(sector) ((sector) << 3)
#define CR_PSIZE_32 (2u << 8)
#define CR_STRT (1u << 16)
#define CR_LOCK (1u << 31)

#define FLASH_START 0x08000000u

/* The host gives up on a controller that stays busy, so there is no count here. */
static int finish(void) {
    __asm volatile("dsb" ::: "memory");
    while (FLASH_SR & SR_BSY) {
    }
    uint32_t errors = FLASH_SR & SR_ERRORS;
    FLASH_SR = SR_ERRORS | SR_EOP; /* write 1 to clear */
    return errors != 0;
}

static int erase(uint32_t what) {
    FLASH_CR = CR_PSIZE_32 | what;
    FLASH_CR = CR_PSIZE_32 | what | CR_STRT;
    int failed = finish();
    FLASH_CR = CR_PSIZE_32;
    return failed;
}

/* RM0385, table "Flash memory organization": four sectors of 32 KB, one of 128 KB, three of 256 KB. */
static uint32_t sector_at(uint32_t address) {
    uint32_t unit = (address - FLASH_START) >> 15;
    if (unit < 4) {
        return unit;
    }
    return unit < 8 ? 4 : 4 + (unit >> 3);
}

int Init(uint32_t address, uint32_t clock_hz, uint32_t operation) {
    (void)address, (void)clock_hz, (void)operation;
    if (FLASH_CR & CR_LOCK) {
        FLASH_KEYR = 0x45670123u;
        FLASH_KEYR = 0xCDEF89ABu;
    }
    FLASH_SR = SR_ERRORS | SR_EOP;
    return (FLASH_CR & CR_LOCK) != 0;
}

int UnInit(uint32_t operation) {
    (void)operation;
    FLASH_CR |= CR_LOCK;
    return 0;
}

int EraseChip(void) {
    return erase(CR_MER);
}

int EraseSector(uint32_t address) {
    return erase(CR_SER | CR_SNB(sector_at(address)));
}

/* `size` is a multiple of 4: pyOCD's page size and phrase size see to that. */
int ProgramPage(uint32_t address, uint32_t size, const uint32_t *data) {
    volatile uint32_t *flash = (volatile uint32_t *)address;
    int failed = 0;
    for (uint32_t words = size / 4; words > 0 && !failed; words--) {
        FLASH_CR = CR_PSIZE_32 | CR_PG;
        *flash++ = *data++;
        failed = finish();
    }
    FLASH_CR = CR_PSIZE_32;
    return failed;
}
