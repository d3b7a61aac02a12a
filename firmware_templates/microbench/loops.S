/* Loops that isolate one timing rule each. tinyhil calibrate runs them on a board; the tests hold the
 * pipeline models against the counts below, which are derived by hand.
 *
 * Each loop is a function (r0: iterations, r1: a word-aligned buffer whose first word is its own
 * address). "m7" and "m4" are cycles per iteration, without cache misses, and end with what SUBS and
 * BNE cost:
 *   Cortex-M7: SUBS fills a free slot or opens a cycle, BNE goes with it or alone; the branch is
 *              predicted. "/" separates cycles below.
 *   Cortex-M4: always 4: SUBS 1, BNE 1 and 2 for the refill.
 * Wide encodings (.w) keep every 32-bit instruction on a word, so that nothing is lost in fetch. */
    .syntax unified
    .thumb
    .text

    .macro loop name
    .balign 8
    .global mb_\name
    .type mb_\name, %function
    .thumb_func
mb_\name:
    push {r4-r7, lr}
    movs r2, #1 @ branch_random begins with the same coin every time
    .balign 8
1:
    .endm

    .macro again name
    subs r0, r0, #1
    bne 1b
    pop {r4-r7, pc}
    .size mb_\name, . - mb_\name
    .endm

/* Two instructions a cycle, if nothing stands in the way.
 * expect m7 3: add add / add add / subs bne. m4 8: 4 + 4 */
    loop pairs
    add.w r2, r2, #1
    add.w r3, r3, #1
    add.w r4, r4, #1
    add.w r5, r5, #1
    again pairs

/* A chain through both ALUs: the early one feeds the late one in the same cycle, once.
 * expect m7 4: add add / add / add subs / bne. m4 8: 4 + 4 */
    loop chain
    add.w r2, r2, #1
    add.w r2, r2, #1
    add.w r2, r2, #1
    add.w r2, r2, #1
    again chain

/* A loaded word serves the late ALU in the next cycle.
 * expect m7 3: ldr / add subs / bne. m4 7: 2 + 1 + 4 */
    loop load_use
    ldr.w r2, [r1]
    add.w r3, r3, r2
    again load_use

/* A loaded byte takes one cycle more.
 * expect m7 4: ldrb / - / add subs / bne. m4 7: 2 + 1 + 4 */
    loop narrow_load_use
    ldrb.w r2, [r1]
    add.w r3, r3, r2
    again narrow_load_use

/* A loaded word serves the address adder two cycles later; on the M4 a dependent load does not overlap.
 * expect m7 4: ldr / - / ldr subs / bne. m4 8: 2 + 2 + 4 */
    loop pointer_chase
    ldr.w r1, [r1]
    ldr.w r1, [r1]
    again pointer_chase

/* Two loads of one base go together if they meet different banks (even and odd words).
 * expect m7 3: ldr ldr / ldr ldr / subs bne. m4 9: 2 + 3 + 4 */
    loop load_both_banks
    ldr.w r2, [r1]
    ldr.w r3, [r1, #4]
    ldr.w r4, [r1, #8]
    ldr.w r5, [r1, #12]
    again load_both_banks

/* ... and not in one bank.
 * expect m7 3: ldr / ldr subs / bne. m4 7: 2 + 1 + 4 */
    loop load_one_bank
    ldr.w r2, [r1]
    ldr.w r3, [r1, #8]
    again load_one_bank

/* Two stores never go together.
 * expect m7 3: str / str subs / bne. m4 6: 2 + 4 */
    loop stores
    str.w r2, [r1, #16]
    str.w r3, [r1, #20]
    again stores

/* Bytes fill the store buffer of the M7: 2.4 cycles each in the long run.
 * expect m7 12: 5 x 2.4. m4 9: 5 + 4 */
    loop narrow_stores
    strb.w r2, [r1, #16]
    strb.w r2, [r1, #17]
    strb.w r2, [r1, #18]
    strb.w r2, [r1, #19]
    strb.w r2, [r1, #20]
    again narrow_stores

/* Accumulators chain every cycle.
 * expect m7 5: smlad / smlad / smlad / smlad subs / bne. m4 8: 4 + 4 */
    loop mac_chain
    smlad r2, r3, r4, r2
    smlad r2, r3, r4, r2
    smlad r2, r3, r4, r2
    smlad r2, r3, r4, r2
    again mac_chain

/* A load beside each multiply-accumulate is free on the M7, and costs a lone load's two on the M4.
 * expect m7 5: 4 x (smlad ldr) / subs bne. m4 16: 4 x (1 + 2) + 4 */
    loop mac_and_load
    smlad r2, r6, r7, r2
    ldr.w r3, [r1]
    smlad r2, r6, r7, r2
    ldr.w r3, [r1]
    smlad r2, r6, r7, r2
    ldr.w r3, [r1]
    smlad r2, r6, r7, r2
    ldr.w r3, [r1]
    again mac_and_load

/* A product serves the ALU one cycle late.
 * expect m7 4: smlad / - / add subs / bne. m4 6: 2 + 4 */
    loop mac_use
    smlad r2, r3, r4, r5
    add.w r6, r6, r2
    again mac_use

/* A multiply cannot take the word that was loaded in the cycle before.
 * expect m7 4: ldr / - / mul subs / bne. m4 7: 2 + 1 + 4 */
    loop load_mac
    ldr.w r2, [r1]
    mul r3, r2, r4
    again load_mac

/* DSP and bit-field instructions do not go together.
 * expect m7 3: sxtb16 / sxtb16 subs / bne. m4 6: 2 + 4 */
    loop unpack
    sxtb16 r2, r3
    sxtb16 r4, r3, ror #8
    again unpack

/* ... but well with a multiply in the younger slot.
 * expect m7 5: 4 x (sxtb16 smlad) / subs bne. m4 12: 8 + 4 */
    loop unpack_and_mac
    sxtb16 r2, r3
    smlad r4, r6, r7, r4
    sxtb16 r2, r3
    smlad r4, r6, r7, r4
    sxtb16 r2, r3
    smlad r4, r6, r7, r4
    sxtb16 r2, r3
    smlad r4, r6, r7, r4
    again unpack_and_mac

/* A shifted operand is needed one cycle early: an EOR, which knows only the late ALU, is too late.
 * expect m7 4: eor / - / add subs / bne. m4 6: 2 + 4 */
    loop shifted_operand
    eor.w r4, r4, r5
    add.w r2, r3, r4, lsl #2
    again shifted_operand

/* TFLM's requantisation in the fewest instructions: each waits for the one before.
 * expect m7 5: smmulr / - / add / ssat subs / bne. m4 7: 3 + 4 */
    loop requantise
    smmulr r2, r3, r4
    add.w r2, r2, r5
    ssat r2, #8, r2
    again requantise

/* A division stops everything. The dividend is the loop counter; the time depends on its size.
 * expect m7 9: 8 / subs bne. m4 10: 6 + 4 */
    loop divide
    sdiv r2, r0, r3
    again divide

/* Four registers in one instruction: two a cycle, and alone.
 * expect m7 3: ldm (2) / subs bne. m4 9: 5 + 4 */
    loop load_multiple
    ldm.w r1, {r2-r5}
    again load_multiple

/* A sum in single precision is ready after three cycles.
 * expect m7 3: vadd subs / bne / -. m4 5: 1 + 4 */
    loop float_add
    vadd.f32 s0, s0, s1
    again float_add

/* ... and so is the sum of a fused multiply-add for the next one.
 * expect m7 3: vfma subs / bne / -. m4 7: 3 + 4 */
    loop float_fused
    vfma.f32 s0, s1, s2
    again float_fused

/* The branch inside is never taken. It ends a block, but not the pairing of cycles.
 * expect m7 3: cmp / beq add / subs bne. m4 7: 1 + 1 + 1 + 4 */
    loop branch_not_taken
    cmp.w r1, #0
    beq.w 2f
    add.w r2, r2, #1
2:
    again branch_not_taken

/* The branch inside is taken or not by a coin: it measures the misprediction. No count by hand. */
    loop branch_random
    movw r3, #0x660d
    movt r3, #0x0019
    mul r2, r2, r3
    add.w r2, r2, #0x3f0
    tst.w r2, #0x40000000
    beq.n 2f
    add.w r4, r4, #1
2:
    again branch_random

/* A call and a return. No count by hand: it measures the return. */
    .balign 8
    .thumb_func
nothing:
    bx lr
    loop call_return
    bl nothing
    again call_return

/* One word of every 32-byte line of a table in flash, far larger than the cache. No count by hand: it
 * measures the line penalty. */
    loop flash_lines
    ldr.w r6, =mb_flash_table
    mov.w r5, #2048
3:
    ldr.w r2, [r6], #32
    subs.w r5, r5, #1
    bne.n 3b
    again flash_lines

/* The same from RAM behind the data cache. */
    loop ram_lines
    ldr.w r6, =mb_ram_table
    mov.w r5, #2048
3:
    ldr.w r2, [r6], #32
    subs.w r5, r5, #1
    bne.n 3b
    again ram_lines

    .ltorg
    .section .rodata
    .balign 32
    .global mb_flash_table
mb_flash_table:
    .space 65536
    .bss
    .balign 32
    .global mb_ram_table
mb_ram_table:
    .space 65536
