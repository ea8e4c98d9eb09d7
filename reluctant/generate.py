"""Everything that an integrator takes away from a configuration."""

import json
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from reluctant.boards.presets import CLOCKS
from reluctant.golden.errors import UserError
from reluctant.golden.files import new_folder
from reluctant.hdl import verilog
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import c_header
from reluctant.hdl.register_map import RegisterMap, system_map
from reluctant.hdl.system_config import SystemConfig

if TYPE_CHECKING:
    from reluctant.firmware.build import Firmware

__all__ = ["build_firmware", "generate"]

MEMORIES = (16384, 32768, 65536)
"""Bytes of the core's memory that are tried where the user does not say."""


def build_firmware(config: SystemConfig, *, memory_given: bool) -> "tuple[SystemConfig, Firmware]":
    """(configuration, firmware): the smallest memory that the firmware fits, unless the user gave it.

    Raises
    ------
    UserError
        If it fits none, or the compiler is not installed.
    """
    from reluctant.firmware.build import FirmwareError

    sizes = (config.memory,) if memory_given else MEMORIES
    for memory in sizes:
        fitting = config.with_settings(memory=memory)
        try:
            return fitting, _build(fitting)
        except FirmwareError as error:
            problem = error
    raise UserError(f"memory is {sizes[-1]}: {str(problem).splitlines()[0]}") from problem


def _build(config: SystemConfig) -> "Firmware":
    from reluctant.firmware import build

    if find_spec("ziglang") is None:
        hint = "pip install 'reluctant[firmware]' brings it; --no-scheduler does without"
        raise UserError(f"ziglang, which compiles the scheduler's firmware, is not installed: {hint}")
    return build.build(config)


def generate(
    config: UnitConfig | SystemConfig,
    out: Path | str,
    *,
    name: str | None = None,
    preset: str | None = None,
    firmware: "Firmware | None" = None,
) -> str:
    """Write the files of a unit or of a system to the folder ``out``, all or none, and give its Verilog.

    A unit's folder gets ``<name>.v``, ``registers.rdl``, ``registers.h``, ``registers.html/index.html``,
    ``config.json`` and, for a board's preset, constraints of its clocks, ``<name>.pcf``, ``.lpf`` or ``.sdc``. A
    system's has also the registers that its host sees, ``system_registers.*``, what host and firmware say to each
    other, ``messages.h``, the image ``firmware.bin`` that is in the Verilog too, and ``firmware/``, its sources with a
    makefile. Equal arguments give equal bytes.

    Parameters
    ----------
    name
        Of the module and of its file; ``sparse_attention_unit`` or ``sparse_attention_system`` if None.
    firmware
        Of a system, as :func:`build_firmware` gives it; built here if None.

    Raises
    ------
    UserError
        If ``name`` is no Verilog name, ``out`` cannot be used, or the compiler of the firmware is not installed.
    """
    is_system = isinstance(config, SystemConfig)
    if name is None:
        name = "sparse_attention_system" if is_system else "sparse_attention_unit"
    if not (name.isidentifier() and name.isascii()):
        raise UserError(f"--name {name}: letters, digits and underscores, not starting with a digit, are needed")
    unit = config.unit if is_system else config
    description = {"name": name, "preset": preset, "hash": f"{config.hash:08x}", "configuration": unit.as_dict()}
    with new_folder(out) as folder:
        if is_system:
            firmware = _build(config) if firmware is None else firmware
            text = verilog.system_to_verilog(config, firmware.image, name)
            _write_system(config, firmware, folder)
            description |= _describe(config, firmware)
        else:
            text = verilog.to_verilog(unit, name)
        (folder / f"{name}.v").write_text(text, encoding="utf-8")
        _write_registers(RegisterMap(unit), folder, "registers")
        if preset in CLOCKS:
            clock = CLOCKS[preset]
            own = is_system and config.unit_clock == "own"
            text_of_clocks = clock.constraint(own_unit_clock=own)
            (folder / f"{name}{clock.suffix}").write_text(text_of_clocks, encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return text


def _write_registers(registers, folder: Path, stem: str) -> None:
    registers.write_systemrdl(folder / f"{stem}.rdl")
    registers.write_header(folder / f"{stem}.h")
    registers.write_html(folder / f"{stem}.html")


def _write_system(config: SystemConfig, firmware: "Firmware", folder: Path) -> None:
    """What a system's folder has beside that of its unit."""
    from reluctant.firmware.build import write_sources

    _write_registers(system_map(config), folder, "system_registers")
    (folder / "messages.h").write_text(c_header(), encoding="utf-8")
    (folder / "firmware.bin").write_bytes(firmware.image)
    sources = folder / "firmware"
    sources.mkdir()
    write_sources(config, sources)


def _describe(config: SystemConfig, firmware: "Firmware") -> dict:
    """What ``config.json`` tells of a system beside its unit's settings."""
    scheduler = config.as_dict()
    del scheduler["unit"]
    image = {"sha256": sha256(firmware.image).hexdigest(), "image_bytes": len(firmware.image)}
    return {
        "unit_hash": f"{config.unit.hash:08x}",
        "scheduler": scheduler,
        "firmware": {**image, "data_bytes": firmware.data_bytes, "stack_bytes": firmware.stack_bytes},
    }
