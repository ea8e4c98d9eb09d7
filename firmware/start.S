/* Reset: a stack, the trap handler, and interrupts that end the sleep but are never taken. */

#define EXTERNAL_INTERRUPT 0x800

.section .text.start, "ax", @progbits
.globl start
.type start, @function
start:
    la t0, stack_top
    mv sp, t0
    la t0, trap
    csrw mtvec, t0
    li t0, EXTERNAL_INTERRUPT
    csrw mie, t0
    tail run
.size start, . - start
