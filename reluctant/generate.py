"""Everything that an integrator takes away from a configuration."""

import json
from pathlib import Path

from reluctant.boards.presets import CLOCKS
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap
from reluctant.hdl.verilog import to_verilog

from .errors import UserError
from .files import new_folder

__all__ = ["DEFAULT_NAME", "generate"]

DEFAULT_NAME = "sparse_attention_unit"


def generate(config: UnitConfig, out: Path | str, *, name: str = DEFAULT_NAME, preset: str | None = None) -> str:
    """Write the unit's files to the folder ``out``, all or none, and give its Verilog.

    The folder gets ``<name>.v``, ``registers.rdl``, ``registers.h``, ``registers.html/index.html``, ``config.json``
    and, for a board's preset, a clock constraint ``<name>.pcf`` or ``.lpf``. Equal arguments give equal bytes.

    Raises
    ------
    UserError
        If ``name`` is no Verilog name or ``out`` cannot be used.
    """
    if not (name.isidentifier() and name.isascii()):
        raise UserError(f"--name {name}: letters, digits and underscores, not starting with a digit, are needed")
    with new_folder(out) as folder:
        verilog = to_verilog(config, name)
        (folder / f"{name}.v").write_text(verilog, encoding="utf-8")
        registers = RegisterMap(config)
        registers.write_systemrdl(folder / "registers.rdl")
        registers.write_header(folder / "registers.h")
        registers.write_html(folder / "registers.html")
        if preset in CLOCKS:
            clock = CLOCKS[preset]
            (folder / f"{name}{clock.suffix}").write_text(clock.constraint(), encoding="utf-8")
        description = {
            "name": name,
            "preset": preset,
            "hash": f"{config.hash:08x}",
            "configuration": config.as_dict(),
        }
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return verilog
