"""Programs that stand for Yosys, nextpnr and packers: small scripts on PATH, whose results a test chooses."""

import json
import stat
import sys
from pathlib import Path

from reluctant.boards.toolchain import find_tool

__all__ = ["install", "report_json"]

YOSYS = """
if "-V" in sys.argv:
    print("Yosys {yosys} (git sha1 0)")
    sys.exit()
if {yosys_fails!r}:
    print({yosys_fails!r})
    sys.exit(1)
Path("top.json").write_text("{{}}")
"""
NEXTPNR = """
import time
if "--version" in sys.argv:
    print('"nextpnr-ice40" -- Next Generation Place and Route (Version nextpnr-{nextpnr}-5-gabc)')
    sys.exit()
seed = int(sys.argv[sys.argv.index("--seed") + 1])
fmax, seconds, log = {results!r}[seed]
if log is not None:
    print(log, flush=True)
time.sleep(seconds)
if log is not None:
    sys.exit(1)
Path(sys.argv[sys.argv.index("--report") + 1]).write_text({report!r}.replace("1234.5", str(fmax)))
Path(sys.argv[sys.argv.index("--asc") + 1]).write_text(str(seed))
"""
ICEPACK = """
Path(sys.argv[-1]).write_bytes(b"bitstream of seed " + Path(sys.argv[-2]).read_bytes())
"""


def report_json(fmax: float = 1234.5) -> str:
    """nextpnr's report of an iCE40: one clock, one path between registers and one from a pin."""

    def step(kind, delay, source, sink):
        ends = {"from": {"cell": source, "port": "O"}, "to": {"cell": sink, "port": "I0"}}
        return {"type": kind, "delay": delay, **ends}

    names = ("pc_SB_DFFE_Q_3_DFFLC", "sum_SB_LUT4_O_LC", "target_SB_DFF_Q")
    start, middle, end = (f"system.core.{name}" for name in names)
    path = [
        step("clk-to-q", 1.5, start, start),
        step("routing", 2.25, start, middle),
        step("logic", 1.25, middle, middle),
        step("routing", 3.0, middle, end),
        step("setup", 0.5, end, end),
    ]
    return json.dumps(
        {
            "fmax": {"clk$SB_IO_IN_$glb_clk": {"achieved": fmax, "constraint": 24.0}},
            "utilization": {
                "ICESTORM_LC": {"used": 4224, "available": 5280},
                "ICESTORM_RAM": {"used": 27, "available": 30},
                "ICESTORM_DSP": {"used": 0, "available": 8},
                "ICESTORM_PLL": {"used": 1, "available": 1},
            },
            "critical_paths": [
                {"from": "<async>", "to": "posedge clk$SB_IO_IN_$glb_clk", "path": path[:1]},
                {"from": "posedge clk$SB_IO_IN_$glb_clk", "to": "posedge clk$SB_IO_IN_$glb_clk", "path": path},
            ],
        }
    )


def install(monkeypatch, folder: Path, results: dict, *, yosys="0.60", nextpnr="0.9", yosys_fails="") -> None:
    """Put the programs first on PATH.

    Parameters
    ----------
    results
        Seed to (MHz, seconds that it takes, log of a failure or None).
    yosys_fails
        What Yosys says before it fails; empty: it does not.
    """
    folder.mkdir()
    values = {
        "yosys": yosys,
        "nextpnr": nextpnr,
        "results": results,
        "report": report_json(),
        "yosys_fails": yosys_fails,
    }
    for name, body in (("yosys", YOSYS), ("nextpnr-ice40", NEXTPNR), ("icepack", ICEPACK)):
        file = folder / name
        file.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n" + body.format(**values))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("AMARANTH_USE_YOSYS", "builtin")
    find_tool.cache_clear()
