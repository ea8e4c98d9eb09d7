"""A small Verilog module with the unit's ports, to test the simulation around it."""

import re
from pathlib import Path

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap

FAULTS = ("", "hash", "hang", "payload", "valid", "x", "surplus")


def stand_in(config: UnitConfig, *, wait: int = 20, fault: str = "") -> str:
    """Verilog that answers each job ``wait`` cycles after its packet: byte i of a head's output is ``1 + i // lanes``.

    Needs 16 lanes or more. ``fault``: ``hash`` (of another configuration), ``hang`` (never answers), ``payload``
    (changes while it waits), ``valid`` (falls while it waits), ``x`` (on valid), ``surplus`` (one head too many).
    """
    assert config.lanes >= 16
    assert fault in FAULTS
    registers, lanes = RegisterMap(config), config.lanes
    values = {
        "ADDRESS": registers.address_width - 1,
        "DATA": 8 * lanes - 1,
        "BEATS": 1 + config.head_dim // lanes,
        "HEADS": config.heads + (fault == "surplus"),
        "WAIT": wait,
        "FAULT": fault,
        "QUEUE": config.job_queue,
        "VERSION": registers.encode("VERSION"),
        "HASH": config.hash,
        "ZEROS": 8 * lanes - 8,
        "LANES": lanes,
    }
    source = Path(__file__).with_suffix(".v").read_text()
    return re.sub(r"@(\w+)@", lambda match: str(values[match[1]]), source)
