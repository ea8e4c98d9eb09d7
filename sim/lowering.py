"""From a program to the script that the bench executes: names become addresses, fields become words."""

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap

from .program import (
    Delay,
    ExpectPacket,
    HeadSettings,
    Packet,
    Program,
    Read,
    SetJob,
    Step,
    WaitIdle,
    WaitInterrupt,
    Write,
)
from .script import RESPONSES, Script

__all__ = ["lower"]

STALL_FACTOR = 20
"""How many times longer than without stalls a stalled run may take before it counts as hanging."""


class _Lowering:
    def __init__(self, config: UnitConfig):
        self.config = config
        self.map = RegisterMap(config)
        self.script = Script()
        self.job = {}
        self.outputs = 0

    def address(self, register, indices=()) -> int:
        return register if isinstance(register, int) else self.map.address(register, *indices)

    def write(self, address: int, word: int) -> None:
        """A plain write, together with its neighbours."""
        actions = self.script.actions
        if not actions or actions[-1][0] != "writes":
            actions.append(["writes", []])
        actions[-1][1].append([address, word])

    def settings(self, profile: int, head: int, settings: HeadSettings) -> None:
        for name, values in settings.registers().items():
            name = f"HEAD_TABLE.{name}"
            self.write(self.map.address(name, profile, head), self.map.encode(name, **values))
        if settings.gain is None:
            return
        reset = self.map.register("GAIN").field("value").reset
        for element, gain in enumerate(settings.gain):
            word = self.map.encode("GAIN", value=gain)
            if word != reset:
                self.write(self.map.address("GAIN", profile, head, element), word)

    def set_job(self, job) -> None:
        """Write the job registers that changed. With serial phases they are those of the running job."""
        if self.config.phases == "serial":
            self.script.actions.append(["idle", self.outputs])
        for name, values in job.registers().items():
            word = self.map.encode(name, **values)
            if self.job.get(name) != word:
                self.job[name] = word
                self.write(self.map.address(name), word)

    def operation(self, operation) -> None:
        actions = self.script.actions
        match operation:
            case Step():
                self.set_job(operation.job)
                index = len(self.script.packets)
                actions.append(["packet", index])
                # A job leaves the queue when its packet is taken: one slot less than there are, for the handing over.
                room = index + 2 - self.config.job_queue
                actions.append(["start", 0 if self.config.phases == "serial" else room])
                self.script.packets.append(operation.packet())
                self.outputs += operation.job.attend
            case Write():
                self.job.clear()
                actions.append(self.raw_write(operation))
            case Read():
                name = operation.register if isinstance(operation.register, str) else hex(operation.register)
                address = self.address(operation.register, operation.indices)
                response = RESPONSES.index(operation.response)
                actions.append(["read", address, operation.expect, operation.mask, response, name])
            case SetJob():
                self.set_job(operation.job)
            case Packet():
                actions.append(["packet", len(self.script.packets)])
                self.script.packets.append(operation.data)
            case ExpectPacket():
                self.outputs += 1
                actions.append(["packets", self.outputs])
            case WaitInterrupt():
                actions.append(["interrupt", int(operation.level)])
            case WaitIdle():
                actions.append(["idle", self.outputs])
            case Delay():
                actions.append(["delay", operation.cycles])
            case _:
                raise TypeError(f"{operation!r} is no operation")

    def raw_write(self, operation: Write) -> list:
        strobe = operation.strobe
        first = (strobe & -strobe).bit_length() - 1
        if not 0 < strobe < 16 or (strobe >> first) & ((strobe >> first) + 1):
            raise ValueError(f"strobe is {strobe:#x}: adjacent bytes of four are needed")
        data = (operation.word & 0xFFFF_FFFF).to_bytes(4, "little")[first : strobe.bit_length()]
        address = self.address(operation.register, operation.indices) + first
        return ["write", address, data.hex(), RESPONSES.index(operation.response)]

    def patience(self, program: Program, stalls: bool) -> int:
        """A bound on the cycles that any step may keep all buses silent: several dense steps, generously."""
        sizes, config = self.config.sizes, self.config
        rows = max([step.job.n for step in program.steps] + [config.slots if not program.steps else 1])
        step = config.heads * (rows * (4 * sizes.beats + 8) + 8 * config.head_dim + 256) + 2000
        pauses = sum(item.cycles for item in program.operations if isinstance(item, Delay))
        return 4 * step * (STALL_FACTOR if stalls else 1) + pauses


def lower(config: UnitConfig, program: Program, *, stalls: bool = False) -> Script:
    """The script of ``program`` for a build.

    Raises
    ------
    ValueError, KeyError, IndexError
        If a value does not fit its register, or a register does not exist.
    """
    lowering = _Lowering(config)
    for (profile, head), settings in program.settings.items():
        lowering.settings(profile, head, settings)
    for operation in program.operations:
        lowering.operation(operation)
    lowering.operation(WaitIdle())
    script, registers = lowering.script, lowering.map
    script.addresses = {name: registers.address(name) for name in ("START", "STATUS", "ERROR")}
    script.identity = [
        [name, registers.address(name), registers.encode(name)] for name in ("ID", "VERSION", "CONFIG_HASH")
    ]
    script.counters = {name: registers.address(f"{name}.LO") for name in registers.counters}
    script.patience = lowering.patience(program, stalls)
    return script
