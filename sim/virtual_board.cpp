// A board in simulation: the device under test, with a serial line that is a pseudo terminal.
//
// Arguments: clock in Hz, bits a second, then as parts of one the bytes that are dropped, flipped (one bit) and doubled
// in each direction, and the seed of these. The first line of standard output is the terminal's path. A line on
// standard input is a reset, which is answered with a line; its end is the end.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <deque>
#include <random>
#include <string>

#include "Vboard.h"
#include "verilated.h"

namespace {

constexpr int kResetCycles = 16;
constexpr int kLook = 128;            // cycles between two looks at the terminal
constexpr int kLookAtInput = 64;      // looks at the terminal for each at standard input
constexpr long kQuiet = 1'000'000;    // cycles without a byte after which nobody is in a hurry
constexpr size_t kBurst = 256;        // bytes after which they are given to the host although more are coming

// Bits of a byte on the line, an exact bit length apart on average.
struct Pace {
    long clock, baud, phase = 0;
    bool tick() {
        phase += baud;
        if (phase < clock) return false;
        phase -= clock;
        return true;
    }
};

struct Faults {
    double drop, flip, duplicate;
    std::mt19937_64 random;
    // What arrives of a byte: how many, and which.
    int strike(unsigned char& byte) {
        const double draw = std::uniform_real_distribution<>(0, 1)(random);
        if (draw < drop) return 0;
        if (draw < drop + flip) byte ^= 1 << (random() & 7);
        return draw >= drop + flip && draw < drop + flip + duplicate ? 2 : 1;
    }
};

// The host's bytes, bit by bit.
struct Sender {
    Pace pace;
    std::deque<unsigned char> queue;
    unsigned bits = 1;
    int left = 0;
    bool line() {
        if (left == 0) {
            if (queue.empty()) return true;
            bits = queue.front() << 1 | 1 << 9;
            queue.pop_front();
            left = 10;
            pace.phase = 0;
        }
        const bool level = bits & 1;
        if (pace.tick()) {
            bits >>= 1;
            --left;
        }
        return level;
    }
};

// The device's bytes, sampled in the middle of their bits.
struct Receiver {
    Pace pace;
    unsigned bits = 0;
    int left = 0;
    long idle = 0;
    // Whether `byte` is a new one.
    bool take(bool level, unsigned char& byte) {
        if (left == 0) {
            ++idle;
            if (!level) {
                left = 10;
                idle = 0;
                pace.phase = pace.clock / 2;
            }
            return false;
        }
        if (!pace.tick()) return false;
        bits = bits >> 1 | (level ? 1 << 9 : 0);
        if (--left) return false;
        byte = bits >> 1;
        return level;
    }
};

struct Board {
    VerilatedContext context;
    Vboard top{&context};
    Sender sender;
    Receiver receiver;
    Faults to_device, to_host;
    std::string from_device;
    int terminal, reset = kResetCycles;
    long quiet = 0;

    void clock() {
        top.rst = reset > 0;
        if (reset > 0) --reset;
        top.rx = sender.line();
        top.clk = 0;
#ifdef UNIT_CLOCK  // twice as fast
        top.unit_rst = top.rst;
        top.unit_clk = 0;
        top.eval();
        top.unit_clk = 1;
        top.eval();
        top.unit_clk = 0;
#endif
        top.eval();
#ifdef UNIT_CLOCK
        top.unit_clk = 1;
#endif
        top.clk = 1;
        top.eval();
        unsigned char byte;
        if (receiver.take(top.tx, byte))
            for (int copies = to_host.strike(byte); copies > 0; --copies) from_device += static_cast<char>(byte);
    }

    void talk() {
        unsigned char bytes[1024];
        const ssize_t count = sender.queue.empty() ? read(terminal, bytes, sizeof bytes) : 0;
        for (ssize_t i = 0; i < count; ++i)
            for (int copies = to_device.strike(bytes[i]); copies > 0; --copies) sender.queue.push_back(bytes[i]);
        quiet = count > 0 || !from_device.empty() ? 0 : quiet + kLook;
        if (from_device.size() > kBurst || (!from_device.empty() && receiver.idle > kLook)) {
            // A host that does not read loses bytes, as it would on a real line.
            if (write(terminal, from_device.data(), from_device.size()) < 0) perror("virtual board");
            from_device.clear();
        }
    }

    // Whether the board is still wanted.
    bool obey(int patience) {
        pollfd ends[2] = {{STDIN_FILENO, POLLIN, 0}, {terminal, POLLIN, 0}};
        if (poll(ends, 2, patience) <= 0 || !ends[0].revents) return true;
        char commands[64];
        const ssize_t count = read(STDIN_FILENO, commands, sizeof commands);
        if (count <= 0) return false;
        for (reset = kResetCycles; reset > 0;) clock();
        printf("reset\n");
        fflush(stdout);
        return true;
    }

    void run() {
        for (long look = 0;; ++look) {
            for (int cycle = 0; cycle < kLook; ++cycle) clock();
            talk();
            if (look % kLookAtInput == 0 && !obey(quiet > kQuiet ? 1 : 0)) return;
        }
    }
};

int open_terminal() {
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) return -1;
    // Kept open, so that the terminal outlives its users.
    const int other = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    termios settings;
    if (other < 0 || tcgetattr(other, &settings)) return -1;
    cfmakeraw(&settings);
    return tcsetattr(other, TCSANOW, &settings) ? -1 : terminal;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 7) return 2;
    Board board;
    const Pace pace{atol(arguments[1]), atol(arguments[2])};
    board.sender.pace = board.receiver.pace = pace;
    const double rates[3] = {atof(arguments[3]), atof(arguments[4]), atof(arguments[5])};
    const auto seed = strtoull(arguments[6], nullptr, 10);
    board.to_device = {rates[0], rates[1], rates[2], std::mt19937_64(2 * seed)};
    board.to_host = {rates[0], rates[1], rates[2], std::mt19937_64(2 * seed + 1)};
    board.terminal = open_terminal();
    if (board.terminal < 0) {
        perror("virtual board");
        return 1;
    }
    printf("%s\n", ptsname(board.terminal));
    fflush(stdout);
    board.run();
    board.top.final();
    return 0;
}
