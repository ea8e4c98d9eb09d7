"""The firmware's image on an emulated core, with a model of all that it sees: mailbox, packet gate, unit.

The model is strict where hardware is: a bad access or a job that cannot run is a trap. It has no data: packets are
words, scores are what the test says.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from unicorn import UC_ARCH_RISCV, UC_MODE_RISCV32, Uc
from unicorn.riscv_const import UC_RISCV_REG_MTVEC, UC_RISCV_REG_PC

from reluctant.firmware.build import build
from reluctant.golden.formats import rate
from reluctant.hdl.messages import MESSAGE_WORDS, Operation
from reluctant.hdl.register_map import RegisterMap, scheduler_map
from reluctant.hdl.system_config import SystemConfig

SCHEDULER, UNIT = 0x40000000, 0x80000000
WAIT_FOR_INTERRUPT = 0x10500073
COLD, HOST, WATCHDOG, TRAP = range(4)
GOOD, SHORT, LONG = "good", "short", "long"
COMMAND, ROOM, JOB, TIMEOUT, GATE = (1 << bit for bit in range(5))


@dataclass
class Job:
    """A job as START took it, and its share of the job log."""

    tag: int
    n: int
    slot: int
    base: int
    position: int
    head_dim: int
    mask: int
    sinks: int
    recent: int
    control: dict[str, int]
    packet: str | None = None
    done: bool = False
    no_victim: bool = False
    slots: list[int] = field(default_factory=list)
    heads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def bits(self) -> int:
        return self.done | (self.packet == SHORT) << 1 | (self.packet == LONG) << 2 | self.no_victim << 3


class Machine:
    """The scheduler and what it sees.

    Parameters
    ----------
    config
        The system.
    scores
        (job, head) -> active count and mass of a head.
    weights
        (job, kv_head, slot) -> what the slot's mass gains.

    Attributes
    ----------
    trap_at
        The next access to trap instead of being done: ``("own", offset)``, a write to the scheduler's registers, or
        ``("read", offset)`` or ``("write", offset)`` of the unit.
    stop_at
        The write to the unit after which the core restarts; or, as ``("own", offset)``, to the scheduler's registers.
    dropping
        The core wrote GATE_DROP in this turn of its loop.
    """

    def __init__(
        self,
        config: SystemConfig,
        scores: Callable[[Job, int], tuple[int, int]] = lambda job, head: (1, 1),
        weights: Callable[[Job, int, int], int] = lambda job, kv_head, slot: 1,
    ):
        self.config, self.scores, self.weights = config, scores, weights
        self.map, self.own = RegisterMap(config.unit), scheduler_map(config)
        self.names = {register.address: name for name, register in self.map.registers.items()}
        self.own_names = {register.address: name for name, register in self.own.registers.items()}
        self.firmware = build(config)
        self.core = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
        self.core.mem_map(0, config.memory)
        self.core.mem_write(0, self.firmware.image)
        self.core.mmio_map(SCHEDULER, 0x1000, self._read_own, None, self._write_own, None)
        window = max(self.map.window * 8, 0x1000)
        self.core.mmio_map(UNIT, window, self._read_unit, None, self._write_unit, None)
        self.commands, self.replies, self.reply = deque(), deque(), [0] * MESSAGE_WORDS
        self.packets, self.verdicts, self.owed, self.dropped = deque(), deque(), 0, 0
        self.words, self.table = {}, {}
        self.jobs, self.queue, self.latest = [], deque(), [None] * 4
        kv_heads, slots = config.unit.kv_heads, config.unit.slots
        self.position = [[-1] * slots for _ in range(kv_heads)]
        self.mass = [[0] * slots for _ in range(kv_heads)]
        self.enabled, self.patience, self.job_event, self.impatient = 0, 0, False, False
        self.kicks = self.soft_resets = self.restarts = 0
        self.cause, self.trapped, self.asleep = COLD, False, False
        self.trap_at, self.stop_at, self.dropping = None, None, False
        self.start(COLD)

    # The host's side

    def start(self, cause: int) -> None:
        """Restart the core."""
        self.core.reg_write(UC_RISCV_REG_PC, 0)
        self.cause, self.asleep = cause, False

    def jump(self, address: int) -> None:
        """Let the core go on elsewhere."""
        self.core.reg_write(UC_RISCV_REG_PC, address)
        self.asleep = False

    def trap_vector(self) -> int:
        """Where traps go."""
        return self.core.reg_read(UC_RISCV_REG_MTVEC)

    def send(self, operation: int, sequence: int = 0, layer: int = 0, *words: int, tag: int = 0) -> None:
        """Put a command into the mailbox."""
        assert len(self.commands) < self.config.messages
        head = operation | sequence << 8 | layer << 16 | tag << 24
        self.commands.append([head, *(word & 0xFFFFFFFF for word in words)])

    def ask(self, operation: int, sequence: int = 0, layer: int = 0, *words: int, packets=()) -> tuple[int, ...]:
        """Send a command, run until it is answered; returns status, detail and the reply's words."""
        self.packets.extend(packets)
        self.send(operation, sequence, layer, *words, tag=0xA5)
        self.run()
        return self.answer(operation, 0xA5)

    def answer(self, operation: int | None = None, tag: int | None = None) -> tuple[int, ...]:
        """Take the oldest reply: status, detail and words."""
        assert self.replies, "there is no reply"
        head, *words = self.replies.popleft()
        assert operation in (None, head & 255)
        assert tag in (None, head >> 24)
        return (head >> 8 & 255, head >> 16 & 255, *words)

    def step(self, sequence: int = 0, layer: int = 0, count: int = 1, flags: int = 0, only_append: int = 0):
        """A STEP whose packets are good; returns its answer."""
        return self.ask(Operation.STEP, sequence, layer, count, flags, only_append, packets=[GOOD] * count)

    # Time

    def run(self, slice_: int = 400) -> None:
        """Until the core sleeps and nothing happens any more."""
        for _ in range(100_000):
            self.go(slice_)
            moved = self.tick()
            if self.asleep and not moved and not self.events() & self.enabled:
                return
        raise AssertionError("the firmware does not come to rest")

    def go(self, instructions: int) -> None:
        """Let the core run so many instructions, or until it sleeps."""
        if self.asleep and not self.events() & self.enabled:
            return
        self.asleep = False
        pc = self.core.reg_read(UC_RISCV_REG_PC)
        self.core.emu_start(pc, 0xFFFFFFFF, count=instructions)
        if self.trapped:
            self.trapped = False
            self.restarts += 1
            self.start(TRAP)
            return
        pc = self.core.reg_read(UC_RISCV_REG_PC)
        assert 0 < pc < len(self.firmware.image), f"the core is at {pc:#x}"
        self.asleep = int.from_bytes(self.core.mem_read(pc - 4, 4), "little") == WAIT_FOR_INTERRUPT

    def tick(self) -> bool:
        """Let a packet in, or a job end; whether one of them could."""
        return self.take_packet() or self.end_job()

    def take_packet(self) -> bool:
        """The oldest packet meets its verdict."""
        if self.packets and self.owed:
            self.packets.popleft()
            self.owed -= 1
        elif self.packets and self.verdicts:
            packet, verdict = self.packets.popleft(), self.verdicts.popleft()
            if verdict is None:
                self.dropped += 1
            else:
                self._load(verdict, packet)
        else:
            return False
        return True

    def _load(self, job: Job, packet: str) -> None:
        job.packet = packet
        if packet != GOOD:
            self._finish(job)

    def end_job(self) -> bool:
        """The oldest job that has its packet ends."""
        if not self.queue or self.queue[0].packet is None:
            return False
        job = self.queue[0]
        self._append(job)
        unit = self.config.unit
        off = [job.mask >> head & 1 or not job.control["attend"] for head in range(unit.heads)]
        job.heads = [(0, 0) if off[head] else self.scores(job, head) for head in range(unit.heads)]
        if job.control["attend"] and not job.control["silent"]:
            for kv_head, mass in enumerate(self.mass):
                for slot in range(job.n):
                    gained = mass[job.base + slot] + self.weights(job, kv_head, slot)
                    mass[job.base + slot] = min(gained, (1 << unit.mass_bits) - 1)
        self._finish(job)
        return True

    def _finish(self, job: Job) -> None:
        job.done = True
        self.queue.remove(job)
        self.job_event = True

    def _append(self, job: Job) -> None:
        job.slots = [job.slot] * self.config.unit.kv_heads
        for kv_head in range(self.config.unit.kv_heads):
            if job.control["evict"]:
                job.slots[kv_head] = self._victim(job, kv_head)
            slot = job.slots[kv_head]
            if slot >= 0:
                self.position[kv_head][job.base + slot], self.mass[kv_head][job.base + slot] = job.position, 0
        job.no_victim = min(job.slots) < 0

    def _victim(self, job: Job, kv_head: int) -> int:
        """The slot with the least metric, -1 if none may leave."""
        best = None
        for slot in range(job.n):
            position, mass = self.position[kv_head][job.base + slot], self.mass[kv_head][job.base + slot]
            if position >= job.sinks and job.position - position > job.recent:
                metric = [position, mass, rate(mass, job.position - position)][job.control["metric"]]
                best = min((metric, slot), best or (metric, slot))
        return best[1] if best else -1

    # The core's side: scheduler

    def events(self) -> int:
        late = bool(self.patience and self.impatient and not self.packets and self.verdicts and self.verdicts[0])
        can_drop = len(self.verdicts) <= 3
        room = len(self.replies) < self.config.messages
        return bool(self.commands) | room << 1 | self.job_event << 2 | late << 3 | can_drop << 4

    def _trap(self) -> None:
        self.trapped = True
        self.core.emu_stop()

    def _traps(self, access: tuple[str, int]) -> bool:
        """The test wants a trap at this access, once."""
        hit = access == self.trap_at
        if hit:
            self.trap_at = None
            self._trap()
        return hit

    def _stops(self, access: int | tuple[str, int]) -> None:
        """The test wants a restart after this access, once."""
        if access == self.stop_at:
            self.stop_at = None
            self._trap()

    def _read_own(self, _core, offset: int, size: int, _data) -> int:
        command, reply = self.own.address("COMMAND", 0), self.own.address("REPLY", 0)
        assert size == 4
        assert offset < reply
        if offset >= command:
            return dict(enumerate(self.commands[0] if self.commands else [])).get((offset - command) // 4, 0xDEADBEEF)
        name = self.own_names[offset]
        if name == "COMMAND_STATUS":
            return len(self.commands) | (len(self.commands[0]) if self.commands else 0) << 8
        if name == "REPLY_STATUS":
            return self.config.messages - len(self.replies)
        return {"EVENTS": self.events, "START_CAUSE": lambda: self.cause}[name]()

    def _write_own(self, _core, offset: int, size: int, value: int, _data) -> None:
        reply = self.own.address("REPLY", 0)
        assert size == 4
        if offset >= reply:
            self.reply[(offset - reply) // 4] = value
            return
        name = self.own_names[offset]
        if self._traps(("own", offset)):
            return
        if name == "REPLY_SEND":
            assert len(self.replies) < self.config.messages
            assert 1 <= value <= MESSAGE_WORDS
            self.replies.append(self.reply[:value])
        elif name == "COMMAND_TAKE":
            self.commands.popleft()
        elif name == "EVENT_ENABLE":
            self.enabled = value
        elif name == "GATE_TIMEOUT":
            self.patience = value
        else:
            actions = {"EVENT_CLEAR": self._clear_event, "GATE_DROP": self._drop, "GATE_ABORT": self._abort}
            actions |= {"GATE_RESET": self._forget, "WATCHDOG": self._kick, "RESTART": self._trap}
            actions[name]()
        self._stops(("own", offset))

    def _clear_event(self) -> None:
        self.job_event = False

    def _kick(self) -> None:
        self.kicks += 1
        self.dropping = False

    def _drop(self) -> None:
        assert self.events() & GATE
        self.verdicts.append(None)
        self.dropping = True

    def _abort(self) -> None:
        assert self.verdicts[0] is not None
        self.owed += 1
        self._load(self.verdicts.popleft(), SHORT)

    def _forget(self) -> None:
        self.verdicts.clear()
        self.owed = 0

    # The core's side: unit

    def _read_unit(self, _core, offset: int, size: int, _data) -> int:
        assert size == 4
        window, inside = divmod(offset, self.map.window)
        if self._traps(("read", offset)):
            return 0
        if window == 5:
            tag, rest = divmod(inside, 8 * self.config.unit.heads)
            return self.latest[tag].heads[rest // 8][rest // 4 & 1]
        if window == 6:
            slot = self.latest[inside // 4 // self.config.unit.kv_heads].slots[inside // 4 % self.config.unit.kv_heads]
            return slot if slot >= 0 else 1 << 31
        if window in (3, 4):
            kv_head, slot = divmod(inside // 4, self.config.unit.slots)
            return (self.mass if window == 3 else self.position)[kv_head][slot] & 0xFFFFFFFF
        if offset in self.names and self.names[offset] == "JOB_STATE":
            return sum(job.bits << 8 * tag for tag, job in enumerate(self.latest) if job)
        if offset in self.names and self.names[offset] == "JOBS_STARTED":
            return len(self.jobs)
        assert 0x80 <= offset < 0x80 + 8 * len(self.map.counters)
        return offset

    def _write_unit(self, _core, offset: int, size: int, value: int, _data) -> None:
        assert size == 4
        if self._traps(("write", offset)):
            return
        if offset >= self.map.window:
            if self.queue:
                self._trap()
            self.table[offset] = value
            return
        name = self.names[offset]
        self.words[name] = value
        if name == "START":
            self._start_job()
            self._stops(offset)
        elif name == "CONTROL":
            assert value == 1
            self.queue.clear()
            self.soft_resets += 1

    def _start_job(self) -> None:
        words = {name.removeprefix("JOB_").lower(): word for name, word in self.words.items() if name[:4] == "JOB_"}
        control = self.map.decode("JOB_CONTROL", words.pop("control"))
        job = Job(len(self.jobs) & 3, control=control, **{"slot": 0, "sinks": 0, "recent": 0} | words)
        if self._is_bad(job) or len(self.queue) > self.config.unit.job_queue:
            self._trap()
            return
        self.jobs.append(job)
        self.queue.append(job)
        self.verdicts.append(job)
        self.latest[job.tag] = job

    def _is_bad(self, job: Job) -> bool:
        unit, control = self.config.unit, job.control
        fits = max(job.position, job.sinks, job.recent) < 1 << unit.position_bits and job.base < unit.slots
        rows = job.n >= 1 and job.base + job.n <= unit.slots
        slot = control["evict"] or job.slot < job.n
        dim = job.head_dim > 0 and job.head_dim % unit.lanes == 0 and job.head_dim <= unit.head_dim
        known = control["append"] and control["metric"] <= 2 and control["profile"] < unit.profiles
        return not (fits and rows and slot and dim and known and job.mask < 1 << unit.heads)
