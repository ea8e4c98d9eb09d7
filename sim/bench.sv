// The bench around `DUT, a unit or a system: its buses reach the drivers in Python through stall gates, and checkers
// watch every channel.
//
// Plusargs: +stall_seed=N holds every channel back at random; without it the gates are open.
// `OWN_CLOCK: `DUT has a second clock and its reset; all buses are on the first.

// Holds a channel back at random while `enable`: probabilities change every 256 cycles, between almost open and
// almost shut, so that long waits and full speed are both met. A valid that was let through stays.
module stall_gate #(
    parameter integer INDEX = 0
) (
    input wire clk,
    input wire rst,
    input wire enable,
    input wire [31:0] seed,
    input wire i_valid,
    output wire i_ready,
    output wire o_valid,
    input wire o_ready
);
  reg [31:0] state;  // xorshift32
  reg [7:0] age;
  reg [7:0] threshold;
  reg open;
  reg held;
  wire pass = open | held;

  assign o_valid = i_valid & pass;
  assign i_ready = o_ready & pass;

  function automatic [31:0] next(input [31:0] x);
    reg [31:0] y;
    begin
      y = x ^ (x << 13);
      y = y ^ (y >> 17);
      next = y ^ (y << 5);
    end
  endfunction

  always @(posedge clk) begin
    if (rst || !enable) begin
      state <= next((seed + INDEX * 32'h9E3779B9) | 32'd1);
      age <= 8'd0;
      threshold <= 8'd128;
      open <= 1'b1;
      held <= 1'b0;
    end else begin
      state <= next(state);
      age <= age + 8'd1;
      if (age == 8'd255) begin
        case (state[26:25])
          2'd0: threshold <= 8'd255;
          2'd1: threshold <= 8'd200;
          2'd2: threshold <= 8'd128;
          2'd3: threshold <= 8'd24;
        endcase
      end
      open <= state[15:8] < threshold;
      held <= o_valid & ~o_ready;
    end
  end
endmodule

module bench #(
    parameter integer LANES = 16,
    parameter integer ADDRESS_BITS = 12
) (
    input wire clk  /* verilator public_flat_rw */,
    input wire rst  /* verilator public_flat_rw */,
    input wire unit_clk  /* verilator public_flat_rw */,
    input wire unit_rst  /* verilator public_flat_rw */,
    input wire [ADDRESS_BITS-1:0] s_axil_awaddr  /* verilator public_flat_rw */,
    input wire [2:0] s_axil_awprot  /* verilator public_flat_rw */,
    input wire s_axil_awvalid  /* verilator public_flat_rw */,
    output wire s_axil_awready  /* verilator public_flat_rd */,
    input wire [31:0] s_axil_wdata  /* verilator public_flat_rw */,
    input wire [3:0] s_axil_wstrb  /* verilator public_flat_rw */,
    input wire s_axil_wvalid  /* verilator public_flat_rw */,
    output wire s_axil_wready  /* verilator public_flat_rd */,
    output wire [1:0] s_axil_bresp  /* verilator public_flat_rd */,
    output wire s_axil_bvalid  /* verilator public_flat_rd */,
    input wire s_axil_bready  /* verilator public_flat_rw */,
    input wire [ADDRESS_BITS-1:0] s_axil_araddr  /* verilator public_flat_rw */,
    input wire [2:0] s_axil_arprot  /* verilator public_flat_rw */,
    input wire s_axil_arvalid  /* verilator public_flat_rw */,
    output wire s_axil_arready  /* verilator public_flat_rd */,
    output wire [31:0] s_axil_rdata  /* verilator public_flat_rd */,
    output wire [1:0] s_axil_rresp  /* verilator public_flat_rd */,
    output wire s_axil_rvalid  /* verilator public_flat_rd */,
    input wire s_axil_rready  /* verilator public_flat_rw */,
    input wire [8*LANES-1:0] s_axis_tdata  /* verilator public_flat_rw */,
    input wire s_axis_tlast  /* verilator public_flat_rw */,
    input wire s_axis_tvalid  /* verilator public_flat_rw */,
    output wire s_axis_tready  /* verilator public_flat_rd */,
    output wire [8*LANES-1:0] m_axis_tdata  /* verilator public_flat_rd */,
    output wire m_axis_tlast  /* verilator public_flat_rd */,
    output wire m_axis_tvalid  /* verilator public_flat_rd */,
    input wire m_axis_tready  /* verilator public_flat_rw */,
    output wire irq  /* verilator public_flat_rd */,
    output wire violation  /* verilator public_flat_rd */
);
  reg stall;
  reg [31:0] stall_seed;
  initial begin
    stall = 1'b0;
    stall_seed = 32'd0;
    if ($value$plusargs("stall_seed=%d", stall_seed)) stall = 1'b1;
  end

  wire unit_s_axil_awvalid;
  wire unit_s_axil_awready;
  stall_gate #(
      .INDEX(0)
  ) aw_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(s_axil_awvalid),
      .i_ready(s_axil_awready),
      .o_valid(unit_s_axil_awvalid),
      .o_ready(unit_s_axil_awready)
  );

  wire unit_s_axil_wvalid;
  wire unit_s_axil_wready;
  stall_gate #(
      .INDEX(1)
  ) w_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(s_axil_wvalid),
      .i_ready(s_axil_wready),
      .o_valid(unit_s_axil_wvalid),
      .o_ready(unit_s_axil_wready)
  );

  wire unit_s_axil_bvalid;
  wire unit_s_axil_bready;
  stall_gate #(
      .INDEX(2)
  ) b_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(unit_s_axil_bvalid),
      .i_ready(unit_s_axil_bready),
      .o_valid(s_axil_bvalid),
      .o_ready(s_axil_bready)
  );

  wire unit_s_axil_arvalid;
  wire unit_s_axil_arready;
  stall_gate #(
      .INDEX(3)
  ) ar_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(s_axil_arvalid),
      .i_ready(s_axil_arready),
      .o_valid(unit_s_axil_arvalid),
      .o_ready(unit_s_axil_arready)
  );

  wire unit_s_axil_rvalid;
  wire unit_s_axil_rready;
  stall_gate #(
      .INDEX(4)
  ) r_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(unit_s_axil_rvalid),
      .i_ready(unit_s_axil_rready),
      .o_valid(s_axil_rvalid),
      .o_ready(s_axil_rready)
  );

  wire unit_s_axis_tvalid;
  wire unit_s_axis_tready;
  stall_gate #(
      .INDEX(5)
  ) s_axis_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(s_axis_tvalid),
      .i_ready(s_axis_tready),
      .o_valid(unit_s_axis_tvalid),
      .o_ready(unit_s_axis_tready)
  );

  wire unit_m_axis_tvalid;
  wire unit_m_axis_tready;
  stall_gate #(
      .INDEX(6)
  ) m_axis_gate (
      .clk(clk),
      .rst(rst),
      .enable(stall),
      .seed(stall_seed),
      .i_valid(unit_m_axis_tvalid),
      .i_ready(unit_m_axis_tready),
      .o_valid(m_axis_tvalid),
      .o_ready(m_axis_tready)
  );

  `DUT unit (
      .clk(clk),
      .rst(rst),
`ifdef OWN_CLOCK
      .unit_clk(unit_clk),
      .unit_rst(unit_rst),
`endif
      .s_axil_awaddr(s_axil_awaddr),
      .s_axil_awprot(s_axil_awprot),
      .s_axil_awvalid(unit_s_axil_awvalid),
      .s_axil_awready(unit_s_axil_awready),
      .s_axil_wdata(s_axil_wdata),
      .s_axil_wstrb(s_axil_wstrb),
      .s_axil_wvalid(unit_s_axil_wvalid),
      .s_axil_wready(unit_s_axil_wready),
      .s_axil_bresp(s_axil_bresp),
      .s_axil_bvalid(unit_s_axil_bvalid),
      .s_axil_bready(unit_s_axil_bready),
      .s_axil_araddr(s_axil_araddr),
      .s_axil_arprot(s_axil_arprot),
      .s_axil_arvalid(unit_s_axil_arvalid),
      .s_axil_arready(unit_s_axil_arready),
      .s_axil_rdata(s_axil_rdata),
      .s_axil_rresp(s_axil_rresp),
      .s_axil_rvalid(unit_s_axil_rvalid),
      .s_axil_rready(unit_s_axil_rready),
      .s_axis_tdata(s_axis_tdata),
      .s_axis_tlast(s_axis_tlast),
      .s_axis_tvalid(unit_s_axis_tvalid),
      .s_axis_tready(unit_s_axis_tready),
      .m_axis_tdata(m_axis_tdata),
      .m_axis_tlast(m_axis_tlast),
      .m_axis_tvalid(unit_m_axis_tvalid),
      .m_axis_tready(unit_m_axis_tready),
      .irq(irq)
  );

  wire [8:0] violations;
  assign violation = |violations;

  channel_checker #(
      .WIDTH(ADDRESS_BITS + 3),
      .NAME ("s_axil aw")
  ) aw_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_s_axil_awvalid),
      .ready(unit_s_axil_awready),
      .payload({s_axil_awaddr, s_axil_awprot}),
      .violation(violations[0])
  );

  channel_checker #(
      .WIDTH(36),
      .NAME ("s_axil w")
  ) w_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_s_axil_wvalid),
      .ready(unit_s_axil_wready),
      .payload({s_axil_wdata, s_axil_wstrb}),
      .violation(violations[1])
  );

  channel_checker #(
      .WIDTH(2),
      .NAME ("s_axil b")
  ) b_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_s_axil_bvalid),
      .ready(unit_s_axil_bready),
      .payload(s_axil_bresp),
      .violation(violations[2])
  );

  channel_checker #(
      .WIDTH(ADDRESS_BITS + 3),
      .NAME ("s_axil ar")
  ) ar_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_s_axil_arvalid),
      .ready(unit_s_axil_arready),
      .payload({s_axil_araddr, s_axil_arprot}),
      .violation(violations[3])
  );

  channel_checker #(
      .WIDTH(34),
      .NAME ("s_axil r")
  ) r_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_s_axil_rvalid),
      .ready(unit_s_axil_rready),
      .payload({s_axil_rdata, s_axil_rresp}),
      .violation(violations[4])
  );

  channel_checker #(
      .WIDTH(8 * LANES + 1),
      .NAME ("s_axis")
  ) s_axis_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_s_axis_tvalid),
      .ready(unit_s_axis_tready),
      .payload({s_axis_tdata, s_axis_tlast}),
      .violation(violations[5])
  );

  channel_checker #(
      .WIDTH(8 * LANES + 1),
      .NAME ("m_axis")
  ) m_axis_checker (
      .clk(clk),
      .rst(rst),
      .valid(unit_m_axis_tvalid),
      .ready(unit_m_axis_tready),
      .payload({m_axis_tdata, m_axis_tlast}),
      .violation(violations[6])
  );

  response_checker #(
      .NAME("s_axil b")
  ) write_response_checker (
      .clk(clk),
      .rst(rst),
      .first_request(unit_s_axil_awvalid & unit_s_axil_awready),
      .second_request(unit_s_axil_wvalid & unit_s_axil_wready),
      .valid(unit_s_axil_bvalid),
      .ready(unit_s_axil_bready),
      .resp(s_axil_bresp),
      .violation(violations[7])
  );

  response_checker #(
      .NAME("s_axil r")
  ) read_response_checker (
      .clk(clk),
      .rst(rst),
      .first_request(unit_s_axil_arvalid & unit_s_axil_arready),
      .second_request(unit_s_axil_arvalid & unit_s_axil_arready),
      .valid(unit_s_axil_rvalid),
      .ready(unit_s_axil_rready),
      .resp(s_axil_rresp),
      .violation(violations[8])
  );
endmodule
