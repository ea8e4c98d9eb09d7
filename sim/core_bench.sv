// The RISC-V core with a memory that waits at random, and a trace of what it does.
//
// +image=FILE      words of memory, hexadecimal ($readmemh)
// +trace=FILE      one line for each event, hexadecimal numbers; an instruction's writes come before its end:
//                    w RD VALUE              a register was written
//                    s ADDRESS DATA STROBE   a store reached memory (word address)
//                    r PC CYCLE              an instruction ended
//                    t PC CYCLE              an instruction ended in an exception, or an interrupt came before it
// +limit=N         ends after N instructions and traps
// +cycles=N        ends after N cycles in any case
// +wait=N          of 256 cycles with a transfer under way, N make it wait
// +interrupt=N     of 256 cycles, N change the level of the interrupt
// +seed=N
//
// Addresses from 4 * WORDS answer with an error; a store to 0x4000_0000 ends the simulation.
module core_bench #(
    parameter WORDS = 16384
);
  reg clk = 0, rst = 1;
  always #1 clk = ~clk;

  wire request, write;
  wire [29:0] addr;
  wire [31:0] data;
  wire [3:0] strobe;
  // A transfer under way ends when the memory no longer waits.
  reg under_way = 0, waits_now = 0;
  wire ready = !under_way || !waits_now;
  reg error = 0;
  reg [31:0] word = 0, garbage = 0;
  wire [31:0] given = ready ? word : garbage;
  reg interrupt = 0;
  wire sleeping;
  wire [71:0] trace;
  wire retire = trace[0], trapped = trace[1], written = trace[34];
  wire [31:0] pc = trace[33:2];
  wire [4:0] rd = trace[39:35];
  wire [31:0] value = trace[71:40];
  wire outside = addr >= WORDS;

  riscv_core core (
      .clk(clk),
      .rst(rst),
      .bus__request(request),
      .bus__write(write),
      .bus__addr(addr),
      .bus__data(data),
      .bus__strobe(strobe),
      .bus__ready(ready),
      .bus__error(ready ? error : garbage[0]),
      .bus__from_memory(ready ? 1'b1 : garbage[1]),
      .bus__word(given),
      .bus__read_data(given),
      .interrupt(interrupt),
      .sleeping(sleeping),
      .trace(trace)
  );

  reg [31:0] memory[0:WORDS-1];
  string image, file;
  integer log, limit, cycles, waits, changes, seed, dummy;
  integer ended = 0, cycle = 0;
  // A write under way, in its first cycle, when what is written comes.
  reg was_write = 0, fresh = 0;
  reg [29:0] place;
  reg [35:0] asked;

  initial begin
    if (!$value$plusargs("image=%s", image) || !$value$plusargs("trace=%s", file)) $fatal(1, "image, trace?");
    if (!$value$plusargs("limit=%d", limit)) limit = 1000;
    if (!$value$plusargs("cycles=%d", cycles)) cycles = 1000000;
    if (!$value$plusargs("wait=%d", waits)) waits = 0;
    if (!$value$plusargs("interrupt=%d", changes)) changes = 0;
    if (!$value$plusargs("seed=%d", seed)) seed = 1;
    $readmemh(image, memory);
    log = $fopen(file, "w");
    dummy = $urandom(seed);
  end

  always @(posedge clk) begin
    rst <= cycle < 2;
    cycle <= cycle + 1;
    waits_now <= ($urandom & 255) < waits;
    garbage <= $urandom;
    if (($urandom & 255) < changes) interrupt <= ~interrupt;
    if (!rst) begin
      if (request && !ready) $fatal(1, "a request while a transfer is under way");
      if (under_way && was_write && !fresh && asked != {data, strobe})
        $fatal(1, "data changed before the end of the transfer");
      if (written) $fdisplay(log, "w %0h %0h", rd, value);
      fresh <= 0;
      if (fresh && was_write) begin
        asked <= {data, strobe};
        if (!error) begin
          $fdisplay(log, "s %0h %0h %0h", place, data, strobe);
          for (integer i = 0; i < 4; i = i + 1) if (strobe[i]) memory[place][8*i+:8] <= data[8*i+:8];
        end
      end
      if (ready) under_way <= request;
      if (request) begin
        was_write <= write;
        fresh <= 1;
        place <= addr;
        error <= outside;
        // Nothing may be left of what was read before.
        word <= $urandom;
        if (write) begin
          if (addr == 30'h10000000) finish;
        end else if (!outside) word <= memory[addr];
      end
      if (retire || trapped) begin
        $fdisplay(log, "%s %0h %0h", trapped ? "t" : "r", pc, cycle);
        ended <= ended + 1;
        if (ended + 1 == limit) finish;
      end
      if (cycle == cycles) finish;
    end
  end

  task finish;
    $fclose(log);
    $finish;
  endtask
endmodule
