// Speaks the unit's buses and computes nothing: each job takes one packet, waits, and answers with well-formed headers
// and a pattern. FAULT breaks it on purpose. Marks like @LANES@ are filled in by stand_in.py.
module sparse_attention_unit (
    input clk,
    input rst,
    input [@ADDRESS@:0] s_axil_awaddr,
    input [2:0] s_axil_awprot,
    input s_axil_awvalid,
    output s_axil_awready,
    input [31:0] s_axil_wdata,
    input [3:0] s_axil_wstrb,
    input s_axil_wvalid,
    output s_axil_wready,
    output reg [1:0] s_axil_bresp,
    output reg s_axil_bvalid,
    input s_axil_bready,
    input [@ADDRESS@:0] s_axil_araddr,
    input [2:0] s_axil_arprot,
    input s_axil_arvalid,
    output s_axil_arready,
    output reg [31:0] s_axil_rdata,
    output reg [1:0] s_axil_rresp,
    output reg s_axil_rvalid,
    input s_axil_rready,
    input [@DATA@:0] s_axis_tdata,
    input s_axis_tlast,
    input s_axis_tvalid,
    output s_axis_tready,
    output reg [@DATA@:0] m_axis_tdata,
    output reg m_axis_tlast,
    output reg m_axis_tvalid,
    input m_axis_tready,
    output irq
);
  localparam [15:0] BEATS = @BEATS@;  // of a head's answer
  localparam [15:0] HEADS = @HEADS@;
  localparam [15:0] WAIT = @WAIT@;
  localparam FAULT = "@FAULT@";

  reg [4:0] queued;
  reg [1:0] state;  // 0: no job, 1: takes a packet, 2: computes, 3: answers
  reg [15:0] wait_left;
  reg [15:0] beat;
  reg [15:0] head;

  assign irq = m_axis_tvalid & m_axis_tlast;

  // Control: ID, VERSION, CONFIG_HASH, STATUS; START; everything else reads 0 and takes writes.
  wire write = s_axil_awvalid & s_axil_wvalid & ~s_axil_bvalid;
  wire start = write & (s_axil_awaddr == 'h58) & (queued < @QUEUE@);
  assign s_axil_awready = write;
  assign s_axil_wready = write;
  assign s_axil_arready = ~s_axil_rvalid;
  wire done = (state == 2'd1) & s_axis_tvalid & s_axis_tlast;
  always @(posedge clk) begin
    if (s_axil_bready) s_axil_bvalid <= 1'b0;
    if (write) begin
      s_axil_bvalid <= 1'b1;
      s_axil_bresp <= (s_axil_awaddr == 'h58 && !start) ? 2'b10 : 2'b00;
    end
    if (s_axil_rready) s_axil_rvalid <= 1'b0;
    if (s_axil_arvalid & s_axil_arready) begin
      s_axil_rvalid <= 1'b1;
      s_axil_rresp <= 2'b00;
      case (s_axil_araddr)
        'h00: s_axil_rdata <= 32'h524C4354;
        'h04: s_axil_rdata <= 32'd@VERSION@;
        'h08: s_axil_rdata <= FAULT == "hash" ? 32'd1 : 32'd@HASH@;
        'h20: s_axil_rdata <= {31'd0, (queued != 0) | (state != 2'd0)};
        default: s_axil_rdata <= 32'd0;
      endcase
    end
    queued <= queued + {4'd0, start} - {4'd0, done};
    if (rst) begin
      s_axil_bvalid <= 1'b0;
      s_axil_rvalid <= 1'b0;
      queued <= 5'd0;
    end
  end

  assign s_axis_tready = state == 2'd1;
  always @(posedge clk) begin
    case (state)
      2'd0: if (queued != 0) state <= 2'd1;
      2'd1:
      if (done) begin
        state <= 2'd2;
        wait_left <= WAIT;
      end
      2'd2: begin
        wait_left <= wait_left - 16'd1;
        if (wait_left == 16'd0 && FAULT != "hang") begin
          state <= 2'd3;
          beat <= 16'd0;
          head <= 16'd0;
        end
      end
      2'd3: begin
        if (!m_axis_tvalid | m_axis_tready) begin
          m_axis_tvalid <= head != HEADS;
          m_axis_tlast <= (head == HEADS - 16'd1) & (beat == BEATS - 16'd1);
          m_axis_tdata <= beat == 16'd0 ? {@ZEROS@'d0, head[7:0]} : {@LANES@{beat[7:0]}};
          beat <= beat == BEATS - 16'd1 ? 16'd0 : beat + 16'd1;
          if (beat == BEATS - 16'd1) head <= head + 16'd1;
          if (head == HEADS) state <= 2'd0;
        end else if (FAULT == "payload") m_axis_tdata[7:0] <= m_axis_tdata[7:0] + 8'd1;
        else if (FAULT == "valid") m_axis_tvalid <= 1'b0;
      end
    endcase
    if (rst) begin
      state <= 2'd0;
      m_axis_tvalid <= FAULT == "x" ? 1'bx : 1'b0;
      wait_left <= 16'd0;
    end
  end
endmodule
