"""A small system for tests: its simulation, random rows, and what the integer model says of them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from reluctant.boards.host import System
from reluctant.firmware.build import build
from reluctant.golden.eviction import PolicyRun, run_policy
from reluctant.golden.formats import Normaliser
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig
from reluctant.hdl.verilog import system_to_verilog
from reluctant.sim.build import compile_bench
from reluctant.sim.clocks import Clocks
from reluctant.sim.transport import SimulatedTransport

__all__ = [
    "CONFIG",
    "HEADS",
    "HEAD_DIM",
    "KV_HEADS",
    "SETTINGS",
    "check_answer",
    "check_run",
    "firmware",
    "open_system",
    "rows",
    "twin",
]

CONFIG = SystemConfig(
    unit=UnitConfig(
        lanes=8, head_dim=16, heads=4, kv_heads=2, slots=64, profiles=3, mass_bits=16, normalisers=("rms_head",)
    ),
    watchdog=20_000,
)
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 16
SETTINGS = LayerSettings.create(
    HEADS, HEAD_DIM, kv_heads=KV_HEADS, normaliser=Normaliser.RMS_HEAD, theta=[0, 2000, -300, 0]
)
"""Of every layer."""
usual_clocks: Clocks | None = None
"""Of systems that are opened without any (``--clocks``); None: one clock for all."""


@lru_cache(maxsize=1)
def firmware() -> bytes:
    """The image for :data:`CONFIG`."""
    return build(CONFIG).image


@lru_cache(maxsize=3)
def _build(simulator: str, config: SystemConfig):
    return compile_bench(system_to_verilog(config, firmware()), top="sparse_attention_system", simulator=simulator)


def open_system(*, layers: int = 2, simulator: str = "verilator", clocks: Clocks | None = None, **options) -> System:
    """A fresh simulation of :data:`CONFIG` with so many layers set up; options of :class:`SimulatedTransport`.

    With ``clocks`` the unit has a clock of its own.
    """
    clocks = clocks or usual_clocks
    config = CONFIG if clocks is None else replace(CONFIG, unit_clock="own")
    options = {"patience": 100_000, **({} if clocks is None else {"clocks": clocks}), **options}
    system = System(SimulatedTransport(_build(simulator, config), config.unit.lanes, **options), config)
    for layer in range(layers):
        system.configure_layer(layer, SETTINGS, emit_context=True)
    return system


def rows(seed: int, tokens: int) -> tuple[np.ndarray, ...]:
    """Keys, values and queries (heads, tokens, head_dim), with zeros and equals among them."""
    random = np.random.default_rng(seed)
    arrays = [random.integers(-128, 128, (heads, tokens, HEAD_DIM), np.int8) for heads in (KV_HEADS, KV_HEADS, HEADS)]
    arrays[0][:, ::7] = arrays[0][:, :1]
    return tuple(arrays)


def twin(arrays, policy: PolicySettings, layer: int = 0, gating: GatingSettings | None = None, flags=None) -> PolicyRun:
    """The integer model's run of rows as :func:`rows` gives them."""
    k, v, q = (torch.from_numpy(array) for array in arrays)
    options = {"layer": layer, "gating": gating, "mass_bits": CONFIG.unit.mass_bits}
    return run_policy(SETTINGS, policy, q, k, v, flags=None if flags is None else torch.from_numpy(flags), **options)


def check_answer(answer, run: PolicyRun, token: int) -> None:
    """An answer against the model's token, every field."""
    for name, value in vars(answer).items():
        assert np.array_equal(value, getattr(run.attention, name)[:, token].numpy()), (name, token)


def check_run(results, run: PolicyRun) -> None:
    """Step results against the model's, placement included."""
    for token, result in enumerate(results):
        check_answer(result.heads, run, token)
        assert (result.n, result.position) == (int(run.attention.rows[token]), token)
        assert result.slots.tolist() == run.slots[token].tolist(), token
        assert result.off.tolist() == run.off[token].tolist(), token
