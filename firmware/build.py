"""Compile the firmware for a system, once per content.

The compiler is Clang, from the ``ziglang`` wheel. Images live under the user's cache directory (``XDG_CACHE_HOME`` is
honoured), one folder per hash of all that shapes them: sources, headers, options and the compiler's version.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from reluctant.golden.formats import Metric, Mode, Normaliser
from reluctant.hdl.messages import c_header
from reluctant.hdl.register_map import RegisterMap, parameters, scheduler_map
from reluctant.hdl.system_config import SystemConfig

from .elf import section_sizes
from .stack import StackError, stack_bound

__all__ = [
    "FOLDER",
    "OPTIONS",
    "STACK_BYTES",
    "Firmware",
    "FirmwareError",
    "build",
    "cache_folder",
    "write_headers",
    "write_sources",
]

FOLDER = Path(__file__).parent
STACK_BYTES = 320
"""Space of the stack."""
ROOTS = ("start", "trap")
OPTIONS = (
    "-target",
    "riscv32-freestanding-none",
    "-Os",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-nostdlib",
    "-Wl,--entry=start",
    "-flto",
    "-mrelax",
    "-I",
    ".",
    "-fno-jump-tables",
    "-fno-sanitize=all",
    # Symbols, for the stack's bound; they are no part of the image.
    "-g",
)
LOG_LINES = 40


class FirmwareError(RuntimeError):
    """The firmware cannot be built; the message says what is missing or does not fit, or has the compiler's output."""


@dataclass(frozen=True)
class Firmware:
    """A compiled image.

    Attributes
    ----------
    image
        Bytes from address 0; a multiple of 4 of them.
    text_bytes, data_bytes
        Code and constants; variables, which are cleared at a cold start and are no part of the image.
    stack_bytes
        Greatest depth of the stack, told from the machine code.
    """

    image: bytes
    text_bytes: int
    data_bytes: int
    stack_bytes: int


def cache_folder() -> Path:
    """Where images are kept."""
    return platformdirs.user_cache_path("reluctant") / "firmware"


def build(config: SystemConfig) -> Firmware:
    """The firmware of a system, from the cache or compiled now. The same configuration gives the same image.

    Raises
    ------
    FirmwareError
        If the compiler is missing or complains, or the image, its variables and its stack do not fit ``config.memory``.
    """
    version = _compiler_version()
    with tempfile.TemporaryDirectory(prefix="firmware-") as name:
        work = Path(name)
        sources, options = write_sources(config, work), _options(config)
        key = _digest(sources, options, version, config.memory)[:24]
        kept = cache_folder() / key
        if not kept.is_dir():
            _publish(_compile(work, options, config.memory), kept)
    return _load(kept)


def write_sources(config: SystemConfig, folder: Path) -> dict[str, str]:
    """Write all that the firmware of a system is compiled from into ``folder``, and a makefile; texts by name.

    ``make`` there gives the image that :func:`build` gives, without its last bytes if they only fill a word, and
    without the checks of stack and memory.
    """
    sources = {path.name: path.read_text(encoding="utf-8") for path in _sources()}
    sources["link.ld"] = sources["link.ld"].replace("STACK_BYTES", str(STACK_BYTES))
    headers = write_headers(config, folder, _digest(sources, config.as_dict()))
    sources["Makefile"] = _makefile(sorted(sources | headers), _options(config))
    for file, text in sources.items():
        (folder / file).write_text(text, encoding="utf-8")
    return sources | headers


def _options(config: SystemConfig) -> list[str]:
    return [*OPTIONS, f"-mcpu=generic_rv32{'+m' if config.multiply else ''}"]


def _units(files: Iterable[str]) -> list[str]:
    """The files that the compiler is given."""
    return sorted(name for name in files if name.endswith((".c", ".S")))


def _makefile(files: list[str], options: list[str]) -> str:
    lines = [
        "# Compiles the firmware; the compiler comes with: pip install ziglang",
        "PYTHON ?= python3",
        "ZIG ?= $(PYTHON) -m ziglang",
        f"OPTIONS := {' '.join(options)}",
        "",
        "firmware.bin: firmware.elf",
        "\t$(ZIG) objcopy -O binary $< $@",
        "",
        f"firmware.elf: {' '.join(files)}",
        f"\t$(ZIG) cc $(OPTIONS) -T link.ld {' '.join(_units(files))} -o $@",
        "",
    ]
    return "\n".join(lines)


def write_headers(config: SystemConfig, folder: Path, identity: str) -> dict[str, str]:
    """Write the generated headers into ``folder``; returns their texts by name.

    ``identity``: hexadecimal digits that tell firmwares apart: what one remembers is not for another.
    """
    RegisterMap(config.unit).write_header(folder / "registers.h")
    scheduler_map(config).write_header(folder / "scheduler.h")
    (folder / "messages.h").write_text(c_header(), encoding="utf-8")
    (folder / "config.h").write_text(_config_header(config, identity), encoding="utf-8")
    names = ("registers.h", "scheduler.h", "messages.h", "config.h")
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def _config_header(config: SystemConfig, identity: str) -> str:
    """Text of ``config.h``: sizes and numbers that the sources use."""
    unit, sizes, counters = config.unit, parameters(config.unit), RegisterMap(config.unit).counters
    values = {
        "FIRMWARE_ID": int(identity[:8], 16) or 1,
        "SEQUENCES": config.sequences,
        "LAYERS": config.layers,
        "MEMORY": config.memory,
        "POSITIONS": 1 << min(unit.position_bits, 31),
        "ALL_HEADS": (1 << unit.heads) - 1,
        "SCORE_BITS": unit.sizes.score_bits,
        "KAPPA_BITS": 18,
        "NORMALISER_COUNT": len(Normaliser),
        "COUNTERS": len(counters),
    }
    names = ("SLOTS", "HEADS", "KV_HEADS", "HEAD_DIM", "LANES", "JOB_QUEUE", "SOFTMAX", "NORMALISERS", "GAINS")
    values |= {name: sizes[name] for name in (*names, "COUNT_BITS", "RATE", "HEAD_LOG")}
    values |= {f"MODE_{item.name}": item.value for item in Mode}
    values |= {f"METRIC_{item.name}": item.value for item in Metric}
    # Registers of the unit go by names with this prefix (io.h).
    if counters:
        values["RELUCTANT_OFFSET_FIRST_COUNTER"] = RegisterMap(unit).address(f"{counters[0]}.LO")
    lines = [f"#define {name} {value}u" for name, value in values.items()]
    return "\n".join(["#ifndef CONFIG_H", "#define CONFIG_H", "", *lines, "", "#endif", ""])


def _sources() -> list[Path]:
    return sorted(path for pattern in ("*.c", "*.h", "*.S", "*.ld") for path in FOLDER.glob(pattern))


def _digest(*parts) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _compiler_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ziglang")
    except PackageNotFoundError:
        raise FirmwareError("the ziglang package is missing: pip install 'reluctant[firmware]' brings it") from None


def _compile(work: Path, options: list[str], memory: int) -> tuple[Path, dict]:
    """Compile and link in ``work``; returns the folder to keep."""
    _zig(["cc", *options, "-T", "link.ld", *_units(path.name for path in work.iterdir()), "-o", "firmware.elf"], work)
    made = work / "made"
    made.mkdir()
    _zig(["objcopy", "-O", "binary", "firmware.elf", "made/image.bin"], work)
    image = (made / "image.bin").read_bytes()
    firmware = _measure((work / "firmware.elf").read_bytes(), image, memory)
    numbers = {name: value for name, value in asdict(firmware).items() if name != "image"}
    (made / "sizes.json").write_text(json.dumps(numbers), encoding="utf-8")
    return made


def _measure(elf: bytes, image: bytes, memory: int) -> Firmware:
    """Sizes of a linked image, checked."""
    sizes = section_sizes(elf)
    text, data = sizes[".text"] + sizes.get(".rodata", 0), sizes.get(".bss", 0)
    if sizes.get(".data"):
        raise FirmwareError(f"{sizes['.data']} bytes of variables have initial values: a warm start would not set them")
    try:
        stack = stack_bound(elf, *ROOTS)
    except StackError as error:
        raise FirmwareError(f"the stack has no bound: {error}") from error
    if stack > STACK_BYTES:
        raise FirmwareError(f"the stack can take {stack} bytes: {STACK_BYTES} are reserved")
    need = -(-len(image) // 16) * 16 + data + 16 + STACK_BYTES
    if need > memory:
        raise FirmwareError(
            f"the firmware needs {need:,} bytes of memory ({len(image):,} of code, {data:,} of variables, {STACK_BYTES}"
            f" of stack): memory is {memory:,}; raise it, or lower sequences or profiles"
        )
    return Firmware(image + bytes(-len(image) % 4), text, data, stack)


def _zig(arguments: list[str], work: Path) -> None:
    """Run the compiler in ``work``, on paths relative to it, so that no path gets into what it makes."""
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig"), "ZIG_LOCAL_CACHE_DIR": str(work / "zig-cache")}
    result = subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments],
        cwd=work,
        env={**os.environ, **caches},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = "\n".join(result.stdout.strip().splitlines()[:LOG_LINES])
        raise FirmwareError(f"zig {arguments[0]} failed with exit code {result.returncode}:\n{lines}")


def _publish(made: Path, folder: Path) -> None:
    """Move to ``folder`` unless another process was there first; it appears complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as name:
        copy = Path(name) / "image"
        shutil.copytree(made, copy)
        try:
            copy.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _load(folder: Path) -> Firmware:
    return Firmware(image=(folder / "image.bin").read_bytes(), **json.loads((folder / "sizes.json").read_text()))
