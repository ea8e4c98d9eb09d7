// A multiplier of ECP5: signed or unsigned 18 x 18 bits with its registers, written from Lattice FPGA-TN-02205 (sysDSP).
// Modelled: registers of A, B and P, each absent ("NONE") or on CLK0 with CE0 and a synchronous RST0; parallel operands.
// Anything else stops the simulation.

module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
    P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    parameter REG_INPUTA_CLK = "NONE";
    parameter REG_INPUTA_CE = "CE0";
    parameter REG_INPUTA_RST = "RST0";
    parameter REG_INPUTB_CLK = "NONE";
    parameter REG_INPUTB_CE = "CE0";
    parameter REG_INPUTB_RST = "RST0";
    parameter REG_PIPELINE_CLK = "NONE";
    parameter REG_OUTPUT_CLK = "NONE";
    parameter REG_OUTPUT_CE = "CE0";
    parameter REG_OUTPUT_RST = "RST0";
    parameter RESETMODE = "SYNC";
    parameter GSR = "ENABLED";

    localparam REGISTER_A = REG_INPUTA_CLK == "CLK0";
    localparam REGISTER_B = REG_INPUTB_CLK == "CLK0";
    localparam REGISTER_P = REG_OUTPUT_CLK == "CLK0";

    wire [17:0] a_in = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b_in = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };
    reg [17:0] a_held, b_held;
    reg [35:0] p_held;
    wire [17:0] a = REGISTER_A ? a_held : a_in;
    wire [17:0] b = REGISTER_B ? b_held : b_in;
    // One bit more than the operands, so that unsigned ones keep their value in a signed product.
    wire signed [18:0] a_wide = {SIGNEDA & a[17], a};
    wire signed [18:0] b_wide = {SIGNEDB & b[17], b};
    wire signed [37:0] product = a_wide * b_wide;

    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15,
        P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = REGISTER_P ? p_held : product[35:0];

    always @(posedge CLK0)
        if (RST0) begin
            a_held <= 0;
            b_held <= 0;
            p_held <= 0;
        end else if (CE0) begin
            a_held <= a_in;
            b_held <= b_in;
            p_held <= product[35:0];
        end

    initial
        if (!(REGISTER_A || REG_INPUTA_CLK == "NONE") || !(REGISTER_B || REG_INPUTB_CLK == "NONE")
            || !(REGISTER_P || REG_OUTPUT_CLK == "NONE") || REG_PIPELINE_CLK != "NONE" || RESETMODE != "SYNC"
            || REG_INPUTA_CE != "CE0" || REG_INPUTB_CE != "CE0" || REG_OUTPUT_CE != "CE0"
            || REG_INPUTA_RST != "RST0" || REG_INPUTB_RST != "RST0" || REG_OUTPUT_RST != "RST0") begin
            $display("MULT18X18D: %m uses a mode that is not modelled");
            $finish;
        end

    always @(SOURCEA or SOURCEB)
        if (SOURCEA || SOURCEB) begin
            $display("MULT18X18D: %m uses its shift chain, which is not modelled");
            $finish;
        end
endmodule
