// Multipliers of Gowin GW1N and GW2A, written from Gowin UG287 (DSP). Modelled: without registers and without the chains
// of operands; anything else stops the simulation.

`define MULTIPLIER(NAME, BITS) \
module NAME ( \
    input [BITS-1:0] A, SIA, B, SIB, \
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET, \
    output [2*BITS-1:0] DOUT, \
    output [BITS-1:0] SOA, SOB \
); \
    parameter AREG = 0; \
    parameter BREG = 0; \
    parameter OUT_REG = 0; \
    parameter PIPE_REG = 0; \
    parameter ASIGN_REG = 0; \
    parameter BSIGN_REG = 0; \
    parameter SOA_REG = 0; \
    parameter MULT_RESET_MODE = "SYNC"; \
    gowin_limits limits (AREG || BREG || OUT_REG || PIPE_REG || ASIGN_REG || BSIGN_REG || ASEL !== 0 || BSEL !== 0); \
    wire signed [BITS:0] a = {ASIGN & A[BITS-1], A}, b = {BSIGN & B[BITS-1], B}; \
    assign DOUT = a * b; \
endmodule
`MULTIPLIER(MULT9X9, 9)
`MULTIPLIER(MULT18X18, 18)
