"""Numbers of the RISC-V instruction set that the core and its tests share.

Sources: The RISC-V Instruction Set Manual, volume I (RV32I 2.1, Zicsr 2.0, M 2.0) and volume II (machine mode 1.12).
"""

from enum import IntEnum

__all__ = ["Cause", "Csr", "Opcode", "Row", "System"]


class Opcode(IntEnum):
    """Bits 6 to 2 of an instruction; bits 1 and 0 are ones."""

    LOAD = 0b00000
    MISC_MEM = 0b00011
    OP_IMM = 0b00100
    AUIPC = 0b00101
    STORE = 0b01000
    OP = 0b01100
    LUI = 0b01101
    BRANCH = 0b11000
    JALR = 0b11001
    JAL = 0b11011
    SYSTEM = 0b11100


class System(IntEnum):
    """Bits 31 to 20 of the SYSTEM instructions that are not CSR accesses; all their other fields are 0."""

    ECALL = 0x000
    EBREAK = 0x001
    WFI = 0x105
    MRET = 0x302


class Cause(IntEnum):
    """Exception codes in ``mcause``; an interrupt also sets bit 31."""

    FETCH_MISALIGNED = 0
    FETCH_FAULT = 1
    ILLEGAL = 2
    BREAKPOINT = 3
    LOAD_MISALIGNED = 4
    LOAD_FAULT = 5
    STORE_MISALIGNED = 6
    STORE_FAULT = 7
    EXTERNAL_INTERRUPT = 11
    ECALL = 11


class Csr(IntEnum):
    """Addresses of the control and status registers that exist."""

    MSTATUS = 0x300
    MISA = 0x301
    MIE = 0x304
    MTVEC = 0x305
    MSCRATCH = 0x340
    MEPC = 0x341
    MCAUSE = 0x342
    MTVAL = 0x343
    MIP = 0x344
    MCYCLE = 0xB00
    MINSTRET = 0xB02
    MCYCLEH = 0xB80
    MINSTRETH = 0xB82
    CYCLE = 0xC00
    INSTRET = 0xC02
    CYCLEH = 0xC80
    INSTRETH = 0xC82
    MVENDORID = 0xF11
    MARCHID = 0xF12
    MIMPID = 0xF13
    MHARTID = 0xF14


class Row(IntEnum):
    """Rows of the register file behind x0 to x31, where CSRs are kept.

    Chosen so that an address becomes a row with little logic: two bits of the address are in each group of rows.
    """

    NOWHERE = 0x20  # never read: what is written to a CSR that is not kept in a row
    MTVEC = 0x21
    MSCRATCH = 0x24
    MEPC = 0x25
    MCAUSE = 0x26
    MTVAL = 0x27
    MCYCLE = 0x28
    MINSTRET = 0x29
    MCYCLEH = 0x2A
    MINSTRETH = 0x2B
    OLD = 0x2C  # what a CSR was before it is written
    MINUS_4 = 0x2D
