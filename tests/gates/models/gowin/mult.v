// Multipliers of Gowin GW1N and GW2A, written from Gowin UG287 (DSP). Modelled: without registers and without the chains
// of operands; anything else stops the simulation.

module MULT9X9 (
    input [8:0] A, SIA, B, SIB,
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [17:0] DOUT,
    output [8:0] SOA, SOB
);
    parameter AREG = 0;
    parameter BREG = 0;
    parameter OUT_REG = 0;
    parameter PIPE_REG = 0;
    parameter ASIGN_REG = 0;
    parameter BSIGN_REG = 0;
    parameter SOA_REG = 0;
    parameter MULT_RESET_MODE = "SYNC";
    gowin_limits limits (AREG || BREG || OUT_REG || PIPE_REG || ASIGN_REG || BSIGN_REG || ASEL !== 0 || BSEL !== 0);
    wire signed [9:0] a = {ASIGN & A[8], A}, b = {BSIGN & B[8], B};
    assign DOUT = a * b;
endmodule

module MULT18X18 (
    input [17:0] A, SIA, B, SIB,
    input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
    output [35:0] DOUT,
    output [17:0] SOA, SOB
);
    parameter AREG = 0;
    parameter BREG = 0;
    parameter OUT_REG = 0;
    parameter PIPE_REG = 0;
    parameter ASIGN_REG = 0;
    parameter BSIGN_REG = 0;
    parameter SOA_REG = 0;
    parameter MULT_RESET_MODE = "SYNC";
    gowin_limits limits (AREG || BREG || OUT_REG || PIPE_REG || ASIGN_REG || BSIGN_REG || ASEL !== 0 || BSEL !== 0);
    wire signed [18:0] a = {ASIGN & A[17], A}, b = {BSIGN & B[17], B};
    assign DOUT = a * b;
endmodule
