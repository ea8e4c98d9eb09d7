// Block RAMs of Gowin GW1N and GW2A, 2,048 bytes of 8 or 9 bits, written from Gowin UG285 (BSRAM and SSRAM).
// Modelled: rows of 1, 2, 4, 8, 16 and 32 bits, or of 9, 18 and 36; one address for reading and writing (SP), one each
// (SDP), or two of both (DP); byte enables on the lowest address bits of rows of two and four bytes; what a port shows
// behind a write of its own: what it showed before, what was written, or what that replaced. No output register.
// A row that is read at one port in the cycle of its write at the other comes out undefined. Anything else stops the
// simulation.

`define INIT_PARAMETERS \
    parameter [287:0] \
        INIT_RAM_00 = 0, INIT_RAM_01 = 0, INIT_RAM_02 = 0, INIT_RAM_03 = 0, INIT_RAM_04 = 0, INIT_RAM_05 = 0, \
        INIT_RAM_06 = 0, INIT_RAM_07 = 0, INIT_RAM_08 = 0, INIT_RAM_09 = 0, INIT_RAM_0A = 0, INIT_RAM_0B = 0, \
        INIT_RAM_0C = 0, INIT_RAM_0D = 0, INIT_RAM_0E = 0, INIT_RAM_0F = 0, INIT_RAM_10 = 0, INIT_RAM_11 = 0, \
        INIT_RAM_12 = 0, INIT_RAM_13 = 0, INIT_RAM_14 = 0, INIT_RAM_15 = 0, INIT_RAM_16 = 0, INIT_RAM_17 = 0, \
        INIT_RAM_18 = 0, INIT_RAM_19 = 0, INIT_RAM_1A = 0, INIT_RAM_1B = 0, INIT_RAM_1C = 0, INIT_RAM_1D = 0, \
        INIT_RAM_1E = 0, INIT_RAM_1F = 0, INIT_RAM_20 = 0, INIT_RAM_21 = 0, INIT_RAM_22 = 0, INIT_RAM_23 = 0, \
        INIT_RAM_24 = 0, INIT_RAM_25 = 0, INIT_RAM_26 = 0, INIT_RAM_27 = 0, INIT_RAM_28 = 0, INIT_RAM_29 = 0, \
        INIT_RAM_2A = 0, INIT_RAM_2B = 0, INIT_RAM_2C = 0, INIT_RAM_2D = 0, INIT_RAM_2E = 0, INIT_RAM_2F = 0, \
        INIT_RAM_30 = 0, INIT_RAM_31 = 0, INIT_RAM_32 = 0, INIT_RAM_33 = 0, INIT_RAM_34 = 0, INIT_RAM_35 = 0, \
        INIT_RAM_36 = 0, INIT_RAM_37 = 0, INIT_RAM_38 = 0, INIT_RAM_39 = 0, INIT_RAM_3A = 0, INIT_RAM_3B = 0, \
        INIT_RAM_3C = 0, INIT_RAM_3D = 0, INIT_RAM_3E = 0, INIT_RAM_3F = 0;
`define INIT { \
        INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, INIT_RAM_38, \
        INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, INIT_RAM_31, INIT_RAM_30, \
        INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, \
        INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, \
        INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, \
        INIT_RAM_17, INIT_RAM_16, INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, \
        INIT_RAM_0F, INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, \
        INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, INIT_RAM_00 \
    }

// Two ports; a row is WIDTH bits of NINE or eight bits a byte.
module gowin_block #(
    parameter NINE = 1,
    parameter integer WIDTH_A = 36,
    parameter integer WIDTH_B = 36,
    parameter integer MODE_A = 0,
    parameter integer MODE_B = 0,
    parameter [64*288-1:0] INITIAL = 0
) (
    input clk_a, ce_a, write_a,
    input [13:0] ad_a,
    input [35:0] in_a,
    output reg [35:0] out_a,
    input clk_b, ce_b, write_b,
    input [13:0] ad_b,
    input [35:0] in_b,
    output reg [35:0] out_b
);
    localparam BYTE = NINE ? 9 : 8;
    localparam BYTES_A = WIDTH_A < BYTE ? 1 : WIDTH_A / BYTE;
    localparam BYTES_B = WIDTH_B < BYTE ? 1 : WIDTH_B / BYTE;
    reg [8:0] bytes[0:2047];
    integer index;
    initial begin
        for (index = 0; index < 2048; index = index + 1)
            bytes[index] = INITIAL[288 * (index / 32) + BYTE * (index % 32) +: 9] & (NINE ? 9'h1ff : 9'hff);
        out_a = 0;
        out_b = 0;
    end

    // A byte with the row of a write in it.
    function [8:0] changed(input [8:0] old, input [8:0] data, input [2:0] at, input integer width);
        begin
            changed = width < 8 ? old : data;
            case (width)
                1: changed[at] = data[0];
                2: changed[2 * at[2:1] +: 2] = data[1:0];
                4: changed[4 * at[2] +: 4] = data[3:0];
                default: ;
            endcase
        end
    endfunction

    // The first byte of the row at an address, and that row.
    function [10:0] first(input [13:0] ad, input integer count);
        first = ad[13:3] & ~(count - 1);
    endfunction

    function [35:0] row(input [13:0] ad, input integer width, input integer count);
        integer lane;
        begin
            row = 0;
            for (lane = 0; lane < count; lane = lane + 1) row = row | bytes[first(ad, count) + lane] << BYTE * lane;
            case (width)
                1: row = row[ad[2:0]];
                2: row = row[2 * ad[2:1] +: 2];
                4: row = row[4 * ad[2] +: 4];
                default: ;
            endcase
        end
    endfunction

    wire [10:0] first_a = first(ad_a, BYTES_A), first_b = first(ad_b, BYTES_B);
    // Addresses count the narrowest rows.
    localparam SPAN_A = WIDTH_A < 8 ? WIDTH_A : 8 * BYTES_A;
    localparam SPAN_B = WIDTH_B < 8 ? WIDTH_B : 8 * BYTES_B;
    wire [13:0] start_a = ad_a & ~(SPAN_A - 1), start_b = ad_b & ~(SPAN_B - 1);
    wire meet = start_a < start_b + SPAN_B && start_b < start_a + SPAN_A;
    integer at_a, at_b;

    always @(posedge clk_a) if (ce_a) begin
        if (write_a) begin
            for (at_a = 0; at_a < BYTES_A; at_a = at_a + 1)
                if (BYTES_A == 1 || ad_a[at_a])
                    bytes[first_a + at_a] <= changed(bytes[first_a + at_a], in_a[BYTE * at_a +: BYTE], ad_a[2:0], WIDTH_A);
            if (MODE_A == 1) out_a <= in_a;
        end
        if (!write_a || MODE_A == 2) out_a <= meet && ce_b && write_b ? 36'bx : row(ad_a, WIDTH_A, BYTES_A);
    end
    always @(posedge clk_b) if (ce_b) begin
        if (write_b) begin
            for (at_b = 0; at_b < BYTES_B; at_b = at_b + 1)
                if (BYTES_B == 1 || ad_b[at_b])
                    bytes[first_b + at_b] <= changed(bytes[first_b + at_b], in_b[BYTE * at_b +: BYTE], ad_b[2:0], WIDTH_B);
            if (MODE_B == 1) out_b <= in_b;
        end
        if (!write_b || MODE_B == 2) out_b <= meet && ce_a && write_a ? 36'bx : row(ad_b, WIDTH_B, BYTES_B);
    end
endmodule

// Ends the simulation where a cell is used in a way that is not modelled, once constants have arrived.
module gowin_limits (input used);
    wire now = used;
    task look;
        if (now !== 1'b0) begin
            $display("%m is used in a way that is not modelled");
            $finish;
        end
    endtask
    initial #1 look;
    always @(now) if ($time > 0) look;
endmodule

// The cells, with bytes of eight bits and of nine (NINE_BITS). BITS is the width of the data and of the widest row.
`define SINGLE_PORT(NAME, NINE_BITS, BITS) \
module NAME ( \
    input CLK, CE, OCE, RESET, WRE, \
    input [13:0] AD, \
    input [2:0] BLKSEL, \
    input [BITS-1:0] DI, \
    output [BITS-1:0] DO \
); \
    parameter READ_MODE = 0; \
    parameter WRITE_MODE = 0; \
    parameter BIT_WIDTH = BITS; \
    parameter [2:0] BLK_SEL = 0; \
    parameter RESET_MODE = "SYNC"; \
    `INIT_PARAMETERS \
    wire [35:0] in = DI; \
    wire [35:0] out; \
    gowin_limits limits (READ_MODE != 0 || RESET !== 0 || BLKSEL !== BLK_SEL); \
    gowin_block #(.NINE(NINE_BITS), .WIDTH_A(BIT_WIDTH), .MODE_A(WRITE_MODE), .INITIAL(`INIT)) block ( \
        .clk_a(CLK), .ce_a(CE), .write_a(WRE), .ad_a(AD), .in_a(in), .out_a(out), \
        .clk_b(1'b0), .ce_b(1'b0), .write_b(1'b0), .ad_b(14'b0), .in_b(36'b0), .out_b() \
    ); \
    assign DO = out; \
endmodule
`SINGLE_PORT(SP, 0, 32)
`SINGLE_PORT(SPX9, 1, 36)

`define SEMI_DUAL_PORT(NAME, NINE_BITS, BITS) \
module NAME ( \
    input CLKA, CEA, CLKB, CEB, OCE, RESETA, RESETB, \
    input [13:0] ADA, ADB, \
    input [2:0] BLKSELA, BLKSELB, \
    input [BITS-1:0] DI, \
    output [BITS-1:0] DO \
); \
    parameter READ_MODE = 0; \
    parameter BIT_WIDTH_0 = BITS; \
    parameter BIT_WIDTH_1 = BITS; \
    parameter [2:0] BLK_SEL_0 = 0; \
    parameter [2:0] BLK_SEL_1 = 0; \
    parameter RESET_MODE = "SYNC"; \
    `INIT_PARAMETERS \
    wire [35:0] in = DI; \
    wire [35:0] out; \
    gowin_limits limits ( \
        READ_MODE != 0 || RESETA !== 0 || RESETB !== 0 || BLKSELA !== BLK_SEL_0 || BLKSELB !== BLK_SEL_1 \
    ); \
    gowin_block #(.NINE(NINE_BITS), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .INITIAL(`INIT)) block ( \
        .clk_a(CLKA), .ce_a(CEA), .write_a(1'b1), .ad_a(ADA), .in_a(in), .out_a(), \
        .clk_b(CLKB), .ce_b(CEB), .write_b(1'b0), .ad_b(ADB), .in_b(36'b0), .out_b(out) \
    ); \
    assign DO = out; \
endmodule
`SEMI_DUAL_PORT(SDPB, 0, 32)
`SEMI_DUAL_PORT(SDPX9B, 1, 36)

`define DUAL_PORT(NAME, NINE_BITS, BITS) \
module NAME ( \
    input CLKA, CEA, WREA, OCEA, RESETA, CLKB, CEB, WREB, OCEB, RESETB, \
    input [13:0] ADA, ADB, \
    input [2:0] BLKSELA, BLKSELB, \
    input [BITS-1:0] DIA, DIB, \
    output [BITS-1:0] DOA, DOB \
); \
    parameter READ_MODE0 = 0; \
    parameter READ_MODE1 = 0; \
    parameter WRITE_MODE0 = 0; \
    parameter WRITE_MODE1 = 0; \
    parameter BIT_WIDTH_0 = BITS; \
    parameter BIT_WIDTH_1 = BITS; \
    parameter [2:0] BLK_SEL_0 = 0; \
    parameter [2:0] BLK_SEL_1 = 0; \
    parameter RESET_MODE = "SYNC"; \
    `INIT_PARAMETERS \
    wire [35:0] in_a = DIA, in_b = DIB; \
    wire [35:0] out_a, out_b; \
    gowin_limits limits ( \
        READ_MODE0 != 0 || READ_MODE1 != 0 || RESETA !== 0 || RESETB !== 0 \
        || BLKSELA !== BLK_SEL_0 || BLKSELB !== BLK_SEL_1 \
    ); \
    gowin_block #( \
        .NINE(NINE_BITS), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .MODE_A(WRITE_MODE0), .MODE_B(WRITE_MODE1), \
        .INITIAL(`INIT) \
    ) block ( \
        .clk_a(CLKA), .ce_a(CEA), .write_a(WREA), .ad_a(ADA), .in_a(in_a), .out_a(out_a), \
        .clk_b(CLKB), .ce_b(CEB), .write_b(WREB), .ad_b(ADB), .in_b(in_b), .out_b(out_b) \
    ); \
    assign DOA = out_a; \
    assign DOB = out_b; \
endmodule
`DUAL_PORT(DPB, 0, 16)
`DUAL_PORT(DPX9B, 1, 18)
