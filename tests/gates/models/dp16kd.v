// A block RAM of ECP5, 1,024 rows of 18 bits, written from Lattice FPGA-TN-02204 (memory usage).
// Modelled: port A writes and port B reads, each 1, 2, 4, 9, 18 or 36 bits wide (36: the two halves of the data are on the
// pins of A and B, as in pseudo dual-port mode); an output register or none; a synchronous reset of the read data.
// A row that is read in the cycle of its write comes out undefined. Anything else stops the simulation.

module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
    DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
    DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
    DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
    DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    parameter GSR = "ENABLED";
    parameter [319:0] INITVAL_00 = 320'h0;
    parameter [319:0] INITVAL_01 = 320'h0;
    parameter [319:0] INITVAL_02 = 320'h0;
    parameter [319:0] INITVAL_03 = 320'h0;
    parameter [319:0] INITVAL_04 = 320'h0;
    parameter [319:0] INITVAL_05 = 320'h0;
    parameter [319:0] INITVAL_06 = 320'h0;
    parameter [319:0] INITVAL_07 = 320'h0;
    parameter [319:0] INITVAL_08 = 320'h0;
    parameter [319:0] INITVAL_09 = 320'h0;
    parameter [319:0] INITVAL_0A = 320'h0;
    parameter [319:0] INITVAL_0B = 320'h0;
    parameter [319:0] INITVAL_0C = 320'h0;
    parameter [319:0] INITVAL_0D = 320'h0;
    parameter [319:0] INITVAL_0E = 320'h0;
    parameter [319:0] INITVAL_0F = 320'h0;
    parameter [319:0] INITVAL_10 = 320'h0;
    parameter [319:0] INITVAL_11 = 320'h0;
    parameter [319:0] INITVAL_12 = 320'h0;
    parameter [319:0] INITVAL_13 = 320'h0;
    parameter [319:0] INITVAL_14 = 320'h0;
    parameter [319:0] INITVAL_15 = 320'h0;
    parameter [319:0] INITVAL_16 = 320'h0;
    parameter [319:0] INITVAL_17 = 320'h0;
    parameter [319:0] INITVAL_18 = 320'h0;
    parameter [319:0] INITVAL_19 = 320'h0;
    parameter [319:0] INITVAL_1A = 320'h0;
    parameter [319:0] INITVAL_1B = 320'h0;
    parameter [319:0] INITVAL_1C = 320'h0;
    parameter [319:0] INITVAL_1D = 320'h0;
    parameter [319:0] INITVAL_1E = 320'h0;
    parameter [319:0] INITVAL_1F = 320'h0;
    parameter [319:0] INITVAL_20 = 320'h0;
    parameter [319:0] INITVAL_21 = 320'h0;
    parameter [319:0] INITVAL_22 = 320'h0;
    parameter [319:0] INITVAL_23 = 320'h0;
    parameter [319:0] INITVAL_24 = 320'h0;
    parameter [319:0] INITVAL_25 = 320'h0;
    parameter [319:0] INITVAL_26 = 320'h0;
    parameter [319:0] INITVAL_27 = 320'h0;
    parameter [319:0] INITVAL_28 = 320'h0;
    parameter [319:0] INITVAL_29 = 320'h0;
    parameter [319:0] INITVAL_2A = 320'h0;
    parameter [319:0] INITVAL_2B = 320'h0;
    parameter [319:0] INITVAL_2C = 320'h0;
    parameter [319:0] INITVAL_2D = 320'h0;
    parameter [319:0] INITVAL_2E = 320'h0;
    parameter [319:0] INITVAL_2F = 320'h0;
    parameter [319:0] INITVAL_30 = 320'h0;
    parameter [319:0] INITVAL_31 = 320'h0;
    parameter [319:0] INITVAL_32 = 320'h0;
    parameter [319:0] INITVAL_33 = 320'h0;
    parameter [319:0] INITVAL_34 = 320'h0;
    parameter [319:0] INITVAL_35 = 320'h0;
    parameter [319:0] INITVAL_36 = 320'h0;
    parameter [319:0] INITVAL_37 = 320'h0;
    parameter [319:0] INITVAL_38 = 320'h0;
    parameter [319:0] INITVAL_39 = 320'h0;
    parameter [319:0] INITVAL_3A = 320'h0;
    parameter [319:0] INITVAL_3B = 320'h0;
    parameter [319:0] INITVAL_3C = 320'h0;
    parameter [319:0] INITVAL_3D = 320'h0;
    parameter [319:0] INITVAL_3E = 320'h0;
    parameter [319:0] INITVAL_3F = 320'h0;

    localparam [64*320-1:0] INITIAL = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38, INITVAL_37,
        INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25,
        INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13,
        INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00
    };
    wire [13:0] ada = {
        ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0
    };
    wire [13:0] adb = {
        ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0
    };
    wire [35:0] di = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
        DIB1, DIB0, DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
        DIA3, DIA2, DIA1, DIA0
    };
    reg [35:0] read, held;
    wire [35:0] out = REGMODE_B == "OUTREG" ? held : read;
    // Rows of at most 18 bits come out on the pins of B; of 36 the low half comes out on those of A.
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
        DOB1, DOB0, DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4,
        DOA3, DOA2, DOA1, DOA0
    } = DATA_WIDTH_B == 36 ? out : {out[17:0], 18'bx};

    // Nine bits a byte; rows of 1, 2 and 4 bits use eight of them. Addresses count the narrowest rows.
    reg [8:0] bytes[0:2047];

    function [35:0] changed(input [35:0] old, input [35:0] data, input [13:0] at, input integer width);
        begin
            changed = old;
            case (width)
                1: changed[at[2:0]] = data[0];
                2: changed[2 * at[2:1] +: 2] = data[1:0];
                4: changed[4 * at[2] +: 4] = data[3:0];
                default: changed = data;
            endcase
        end
    endfunction

    wire [10:0] write_byte = ada[13:3];
    wire [10:0] read_byte = adb[13:3];
    // Bytes that each port touches, from its first one.
    localparam WRITE_BYTES = DATA_WIDTH_A <= 9 ? 1 : DATA_WIDTH_A / 9;
    localparam READ_BYTES = DATA_WIDTH_B <= 9 ? 1 : DATA_WIDTH_B / 9;
    wire [10:0] write_first = write_byte & ~(WRITE_BYTES - 1);
    wire [10:0] read_first = read_byte & ~(READ_BYTES - 1);
    wire writes = CEA && WEA && {CSA2, CSA1, CSA0} == 0;

    function writes_byte(input [10:0] which);
        writes_byte = writes && which >= write_first && which < write_first + WRITE_BYTES
            && (DATA_WIDTH_A < 18 || ada[which - write_first]);
    endfunction

    integer index;
    reg [35:0] row;
    always @(posedge CLKA)
        if (writes) begin
            for (index = 0; index < WRITE_BYTES; index = index + 1)
                if (writes_byte(write_first + index))
                    bytes[write_first + index] <= changed(bytes[write_first + index], di >> 9 * index, ada, DATA_WIDTH_A);
        end

    integer place;
    always @(posedge CLKB) begin
        if (RSTB) read <= 0;
        else if (CEB && {CSB2, CSB1, CSB0} == 0) begin
            row = 0;
            for (place = 0; place < READ_BYTES; place = place + 1)
                row[9 * place +: 9] = writes_byte(read_first + place)
                    ? changed(bytes[read_first + place], 36'bx, ada, DATA_WIDTH_A) : bytes[read_first + place];
            case (DATA_WIDTH_B)
                1: read <= row[adb[2:0]];
                2: read <= row[2 * adb[2:1] +: 2];
                4: read <= row[4 * adb[2] +: 4];
                default: read <= row;
            endcase
        end
        if (RSTB) held <= 0;
        else if (OCEB) held <= read;
    end

    integer at;
    initial begin
        for (at = 0; at < 2048; at = at + 1) bytes[at] = INITIAL[20 * (at / 2) + 9 * (at % 2) +: 9];
        read = 0;
        held = 0;
        if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || REGMODE_A != "NOREG"
            || CLKAMUX != "CLKA" || CLKBMUX != "CLKB") begin
            $display("DP16KD: %m uses a mode that is not modelled");
            $finish;
        end
    end

    always @(WEB or RSTB) if (WEB || (RSTB && RESETMODE != "SYNC")) begin
        $display("DP16KD: %m writes through port B or is reset asynchronously, which is not modelled");
        $finish;
    end
endmodule
