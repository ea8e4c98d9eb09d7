// Rules of AMBA AXI4-Stream and AXI4-Lite that a bench holds every channel to, always. A broken rule prints one line
// that starts with "protocol violation:" and raises `violation`, on which the bench ends the run.

// One channel: valid stays, with its payload unchanged, until ready; no X on valid and ready, nor on a valid payload.
module channel_checker #(
    parameter integer WIDTH = 1,
    parameter NAME = "channel"
) (
    input wire clk,
    input wire rst,
    input wire valid,
    input wire ready,
    input wire [WIDTH-1:0] payload,
    output reg violation
);
  reg waiting;
  reg [WIDTH-1:0] held;

  initial violation = 1'b0;

  always @(posedge clk) begin
    waiting <= valid & ~ready & ~rst;
    held <= payload;
    if (!rst) begin
      if (waiting && !valid) begin
        $display("protocol violation: %s: valid fell before ready, at %0t", NAME, $time);
        violation <= 1'b1;
      end
      if (waiting && valid && payload !== held) begin
        $display("protocol violation: %s: payload changed from %h to %h before ready, at %0t", NAME, held, payload, $time);
        violation <= 1'b1;
      end
`ifdef FOUR_STATE
      if ((valid ^ ready) === 1'bx) begin
        $display("protocol violation: %s: X on valid or ready, at %0t", NAME, $time);
        violation <= 1'b1;
      end
      if (valid === 1'b1 && (^payload) === 1'bx) begin
        $display("protocol violation: %s: X in the payload %h, at %0t", NAME, payload, $time);
        violation <= 1'b1;
      end
`endif
    end
  end
endmodule

// Answers of an AXI4-Lite subordinate: one for each request, never before it; OKAY, SLVERR or DECERR.
module response_checker #(
    parameter NAME = "response"
) (
    input wire clk,
    input wire rst,
    input wire first_request,   // a transfer of AW, or of AR
    input wire second_request,  // a transfer of W, or of AR again
    input wire valid,
    input wire ready,
    input wire [1:0] resp,
    output reg violation
);
  reg [7:0] first;
  reg [7:0] second;

  initial violation = 1'b0;

  always @(posedge clk) begin
    if (rst) begin
      first <= 8'd0;
      second <= 8'd0;
    end else begin
      first <= first + {7'd0, first_request} - {7'd0, valid & ready};
      second <= second + {7'd0, second_request} - {7'd0, valid & ready};
      if (valid && (first == 8'd0 || second == 8'd0)) begin
        $display("protocol violation: %s: an answer to no request, at %0t", NAME, $time);
        violation <= 1'b1;
      end
      if (valid && resp == 2'b01) begin
        $display("protocol violation: %s: answer EXOKAY, at %0t", NAME, $time);
        violation <= 1'b1;
      end
    end
  end
endmodule
