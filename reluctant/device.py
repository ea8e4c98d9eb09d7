"""A device at a serial port: which it is, what it was built with, and the firmware that it must run."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reluctant.boards.errors import HostError
from reluctant.boards.host import System
from reluctant.boards.presets import PRESETS
from reluctant.boards.serial_transport import SerialTransport
from reluctant.boards.transport import TransportError
from reluctant.golden.errors import UserError
from reluctant.hdl.config import ConfigError, UnitConfig
from reluctant.hdl.link_protocol import Identity
from reluctant.hdl.system_config import SystemConfig

from .configuration import as_system, choose
from .device_checks import CheckSkipped
from .generate import MEMORIES, build_firmware

__all__ = ["Device", "DeviceRequest", "connect"]

DEFAULT_BAUD = 1_000_000


@dataclass(frozen=True, kw_only=True)
class DeviceRequest:
    """Where a device is, and what it was built with as far as the user says; without that its name tells."""

    port: str
    baud: int | None = None
    preset: str | None = None
    config: Path | None = None
    settings: tuple[str, ...] = ()
    build: Path | None = None


@dataclass(frozen=True)
class Device:
    """A device that answers, its scheduler started cold.

    Attributes
    ----------
    identity
        What its link says of it.
    system
        Open.
    firmware
        Gives the image that it must run; raises :class:`CheckSkipped` where there is none.
    """

    identity: Identity
    system: System
    firmware: Callable[[], bytes]

    @property
    def transport(self) -> SerialTransport:
        """Its line."""
        return self.system.transport

    def link(self) -> dict[str, int]:
        """Requests that were sent again, and bytes on the line."""
        port = self.transport.session.port
        return {"retries": self.transport.session.retries, "bytes_sent": port.sent, "bytes_received": port.received}


def connect(request: DeviceRequest) -> Device:
    """Open the port, find out what is there, and start its scheduler cold; its firmware is loaded if it has none.

    Raises
    ------
    UserError
        If the port, the device, or what is known of it is not right.
    """
    from .device_port import open_device

    config_of = _wanted(request)
    transport = open_device(request.port, _bauds(request))
    try:
        identity = transport.identity
        config, firmware = config_of(identity)
        system = System(transport, config)
        _start(system, firmware)
        return Device(identity, system, firmware)
    except (TransportError, HostError) as error:
        transport.close()
        raise UserError(f"{request.port}: {error}") from None
    except BaseException:
        transport.close()
        raise


def _start(system: System, firmware: Callable[[], bytes]) -> None:
    """Cold; with the firmware loaded where the core does not answer, as its memory may start with anything in it."""
    try:
        system.restart(cold=True, now=True)
    except (HostError, ValueError) as error:  # no reply, or what no firmware replies
        try:
            image = firmware()
        except CheckSkipped as reason:
            raise UserError(f"{error}: its firmware must be loaded, and {reason}") from None
        system.load_firmware(image)
    system.errors(clear=True)


def _bauds(request: DeviceRequest) -> list[int]:
    """Bit rates to try."""
    if request.baud is not None:
        return [request.baud]
    from reluctant.boards.board import boards

    known = boards()
    if request.preset in known:
        return [known[request.preset].baud]
    if request.build is not None:
        with suppress(KeyError, TypeError):
            return [int(_description(request.build)["baud"])]
    return list(dict.fromkeys([DEFAULT_BAUD, *(board.baud for board in known.values())]))


# What it was built with -----------------------------------------------------------------------------------------------

Wanted = Callable[[Identity], tuple[SystemConfig, Callable[[], bytes]]]


def _wanted(request: DeviceRequest) -> Wanted:
    """A function that gives the configuration and the firmware of a device; what the user says is checked first."""
    if request.build is not None:
        if request.preset or request.config or request.settings:
            raise UserError(f"--build {request.build}: it says all: leave out --preset, --config and --set")
        system = _read_build(request.build)
        return partial(_of_build, request.build, system)
    choice = None
    if request.preset or request.config or request.settings:
        choice = choose(request.preset or "default", request.config, request.settings, system=True)
        as_system(choice)
    return partial(_of_choice, choice)


def _of_build(folder: Path, system: SystemConfig, identity: Identity):
    _check_hash(identity, [system], f"--build {folder}")
    image = folder / "firmware.bin"
    return system, (image.read_bytes if image.is_file() else partial(_compile, system))


def _of_choice(choice, identity: Identity):
    what = "what the options say"
    if choice is None:
        if identity.name not in PRESETS:
            hint = "say what it was built with: --build DIR, or --preset NAME with --config and --set"
            raise UserError(f"the device calls itself {identity.name!r}, which is no preset: {hint}")
        choice, what = choose(identity.name, system=True), f"preset {identity.name}"
    system = as_system(choice)
    # A build takes the memory that its firmware fits, unless the user says.
    sizes = [] if "memory" in choice.system else MEMORIES
    systems = [system, *(system.with_settings(memory=size) for size in sizes)]
    system = _check_hash(identity, systems, what)
    return system, partial(_compile, system)


def _check_hash(identity: Identity, systems: list[SystemConfig], what: str) -> SystemConfig:
    for system in systems:
        if system.hash == identity.config_hash:
            return system
    hint = "give the --preset, --config and --set that it was built with, or --build DIR"
    raise UserError(
        f"the device {identity.name!r} was built otherwise: its configuration is {identity.config_hash:08x}, "
        f"{what} is {systems[0].hash:08x}: {hint}"
    )


def _compile(system: SystemConfig) -> bytes:
    try:
        return build_firmware(system, memory_given=True)[1].image
    except UserError as error:
        raise CheckSkipped(str(error)) from None


def _description(folder: Path) -> dict:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        hint = "a folder of 'reluctant build' or 'reluctant generate' is needed"
        raise UserError(f"--build {folder}: has no config.json that can be read: {hint}") from None


def _read_build(folder: Path) -> SystemConfig:
    """The system of a folder that ``build`` or ``generate`` wrote."""
    description = _description(folder)
    try:
        values = dict(description["configuration"])
        if "scheduler" in description:
            values = {"unit": values, **description["scheduler"]}
        unit = dict(values.pop("unit"))
        unit["normalisers"] = tuple(unit["normalisers"])
        return SystemConfig(unit=UnitConfig(**unit), **values)
    except (KeyError, TypeError, ConfigError) as error:
        hint = "a system of this version's 'build' or 'generate' is needed"
        raise UserError(f"--build {folder}: config.json says nothing of a system ({error}): {hint}") from None
