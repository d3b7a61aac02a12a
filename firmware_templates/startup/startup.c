/* Start of every Cortex-M firmware: vector table, FPU, memory, fault handlers.
 * No interrupt is ever enabled, so the table ends after the system exceptions. */
#include <stdint.h>
#include <string.h>

/* Placed by the linker script. */
extern uint32_t _stack_start, _stack_end;
extern uint32_t _sidata, _sdata, _edata, _sbss, _ebss;
extern uint32_t _instrumentation_start, _instrumentation_end;
extern void (*const _init_array_start[])(void), (*const _init_array_end[])(void);

int main(void);
void hal_exit(int status) __attribute__((noreturn));

/* Tells what happened and ends; supplied by the runtime. `frame` is the stacked R0-R3, R12, LR, PC,
 * PSR, or NULL if the stack pointer had left the stack. `exc_return` is the LR of the handler. */
void th_fault(const uint32_t *frame, uint32_t exc_return) __attribute__((noreturn));

#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08)
#define SCB_SHCSR (*(volatile uint32_t *)0xE000ED24)

#define MPU_CTRL (*(volatile uint32_t *)0xE000ED94)
#define MPU_RBAR (*(volatile uint32_t *)0xE000ED9C)
#define MPU_RASR (*(volatile uint32_t *)0xE000EDA0)

#define SHCSR_MEMFAULTENA (1u << 16)
#define SHCSR_BUSFAULTENA (1u << 17)
#define SHCSR_USGFAULTENA (1u << 18)

/* The stack is the lowest thing in its memory. 32 KB below it are made inaccessible, so that an overflow
 * faults even where a bus swallows such writes (QEMU's does). All else keeps its default attributes. */
static void guard_stack(void) {
    MPU_RBAR = ((uint32_t)(uintptr_t)&_stack_start - 0x8000u) | (1u << 4); /* VALID, region 0 */
    MPU_RASR = (1u << 28) | (14u << 1) | 1u;                               /* XN, no access, 2^15 bytes */
    MPU_CTRL = (1u << 2) | 1u;                                             /* PRIVDEFENA, ENABLE */
    __asm volatile("dsb\n\tisb" ::: "memory");
}

/* Linker symbols are single words to the compiler, so memory is reached through plain addresses. */
static uint32_t bytes_between(const uint32_t *start, const uint32_t *end) {
    return (uint32_t)((uintptr_t)end - (uintptr_t)start);
}

void th_start(void) __attribute__((noreturn, used));
void Reset_Handler(void) __attribute__((naked, noreturn));
void Fault_Handler(void) __attribute__((naked, noreturn));
extern const void *const th_vectors[16];

void th_start(void) {
    SCB_VTOR = (uint32_t)(uintptr_t)th_vectors;
    SCB_SHCSR |= SHCSR_MEMFAULTENA | SHCSR_BUSFAULTENA | SHCSR_USGFAULTENA;
    guard_stack();
    memcpy(&_sdata, &_sidata, bytes_between(&_sdata, &_edata));
    memset(&_sbss, 0, bytes_between(&_sbss, &_ebss));
    memset(&_instrumentation_start, 0, bytes_between(&_instrumentation_start, &_instrumentation_end));
    for (void (*const *init)(void) = _init_array_start; init < _init_array_end; init++) {
        (*init)();
    }
    hal_exit(main());
}

/* The FPU goes on before any C runs: a compiler may use its registers in any function. The stack
 * pointer is set here too, for loaders that jump to the entry point instead of taking a reset. */
void Reset_Handler(void) {
    __asm volatile(
        "ldr r0, =_stack_end      \n"
        "msr msp, r0              \n"
        "ldr r0, =0xE000ED88      \n" /* CPACR */
        "ldr r1, [r0]             \n"
        "orr r1, r1, #0x00F00000  \n" /* CP10 and CP11: full access */
        "str r1, [r0]             \n"
        "dsb                      \n"
        "isb                      \n"
        "b th_start               \n");
}

/* All faults come here. If the stack pointer left the stack, the frame is lost, and the stack is
 * taken again from its top so that th_fault can run at all. */
void Fault_Handler(void) {
    __asm volatile(
        "mov r1, lr               \n"
        "tst lr, #4               \n"
        "ite eq                   \n"
        "mrseq r0, msp            \n"
        "mrsne r0, psp            \n"
        "ldr r2, =_stack_start    \n"
        "ldr r3, =_stack_end      \n"
        "cmp r0, r2               \n"
        "blo 1f                   \n"
        "cmp r0, r3               \n"
        "blo 2f                   \n"
        "1: movs r0, #0           \n"
        "msr msp, r3              \n"
        "2: b th_fault            \n");
}

__attribute__((section(".vectors"), used)) const void *const th_vectors[16] = {
    &_stack_end,
    (const void *)Reset_Handler,
    (const void *)Fault_Handler, /* NMI */
    (const void *)Fault_Handler, /* HardFault */
    (const void *)Fault_Handler, /* MemManage */
    (const void *)Fault_Handler, /* BusFault */
    (const void *)Fault_Handler, /* UsageFault */
    0, 0, 0, 0,
    (const void *)Fault_Handler, /* SVCall */
    (const void *)Fault_Handler, /* DebugMonitor */
    0,
    (const void *)Fault_Handler, /* PendSV */
    (const void *)Fault_Handler, /* SysTick */
};
