"""Random configurations, settings and programs, drawn so that the corners are met often."""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from reluctant.golden import formats
from reluctant.golden.formats import Metric, Mode, Normaliser
from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.sim.program import Delay, HeadSettings, Job, Read, WaitIdle

from .layers import Scenario, has_gains, random_rows

__all__ = ["configurations", "random_program"]

NAMES = tuple(item.name.lower() for item in Normaliser if item is not Normaliser.NONE)


@st.composite
def configurations(draw) -> UnitConfig:
    """Small units of every kind: 4 to 32 lanes, whatever compiles in well under a minute."""
    lanes = draw(st.sampled_from([4, 8, 16, 32]))
    beats = draw(st.integers(-(-16 // lanes), max(3, 32 // lanes)))
    group = draw(st.sampled_from([1, 2, 4, 8]))
    kv_heads = draw(st.integers(1, max(1, min(4, 8 // group))))
    serial = draw(st.booleans())
    config = UnitConfig(
        lanes=lanes,
        head_dim=lanes * beats,
        slots=draw(st.integers(2, 24)),
        heads=group * kv_heads,
        kv_heads=kv_heads,
        store=draw(st.sampled_from(["block", "single"])),
        softmax=draw(st.booleans()),
        normalisers=tuple(name for name in NAMES if draw(st.booleans())),
        normaliser_lanes=draw(st.sampled_from([0, *(1 << bit for bit in range((lanes // 4).bit_length()))])),
        statistics=draw(st.booleans()),
        mass_bits=draw(st.integers(8, 32)),
        position_bits=draw(st.integers(8, 32)),
        profiles=draw(st.integers(1, 3)),
        job_queue=draw(st.integers(2, 5)),
        counter_bits=draw(st.sampled_from([0, 16, 17, 32, 48, 64])),
        head_log=draw(st.booleans()),
    )
    return config.with_settings(**SERIAL) if serial else config


def random_settings(config: UnitConfig, random: np.random.Generator) -> HeadSettings:
    """Settings of one head."""
    limit = 1 << (config.sizes.score_bits - 1)
    thetas = (0, 0, 0, int(random.integers(-3000, 3000)), -limit, limit - 1, int(random.integers(-limit, limit)))
    alphas = (
        formats.encode_alpha(math.sqrt(config.head_dim) * 2.0 ** random.uniform(-2, 2)),
        formats.encode_alpha(2.0 ** random.uniform(-24, 8)),
        (int(random.integers(1 << 15, 1 << 16)), int(random.integers(-128, 128))),
        (0, int(random.integers(-128, 128))),
    )
    kappas = (
        formats.encode_kappa(2.0 ** random.uniform(-14, -4)),
        formats.encode_kappa(2.0 ** random.uniform(-20, 6)),
        (int(random.integers(1 << 16)), int(random.integers(4))),
        (0, 0),
        ((1 << 16) - 1, 0),
    )
    sinks = (0, int(random.integers(1 << random.integers(1, formats.SINK_BITS + 1))))
    gain = random.integers(-(1 << 15), 1 << 15, random.integers(config.head_dim + 1))
    gains = (None, tuple(gain.tolist()), tuple((gain >> 3).tolist()))
    return HeadSettings(
        theta=_pick(random, thetas),
        mode=_pick(random, tuple(Mode)) if config.softmax else Mode.RELU,
        kappa=_pick(random, kappas),
        min_active=int(random.integers(config.slots + 1)),
        min_mass=_pick(random, (0, int(random.integers(1 << random.integers(1, 33))))),
        alpha=_pick(random, alphas, (4, 3, 1, 1)),
        sink=_pick(random, sinks) if "sum" in config.normalisers else 0,
        gain=_pick(random, gains) if has_gains(config) else None,
    )


def _pick(random: np.random.Generator, choices, weights=None):
    weights = np.array(weights or [1] * len(choices), float)
    return choices[random.choice(len(choices), p=weights / weights.sum())]


@dataclass
class _Region:
    """A sequence's rows: ``base ... base + size - 1``, of which the first ``fill`` are there."""

    base: int
    size: int
    fill: int = 0


class _Writer:
    """Writes one random program into a scenario."""

    def __init__(self, config: UnitConfig, random: np.random.Generator):
        self.config, self.random = config, random
        settings = {
            (profile, head): random_settings(config, random)
            for profile in range(config.profiles)
            for head in range(config.heads)
            if random.random() < 0.9
        }
        self.scenario = Scenario(config, settings, seed=int(random.integers(1 << 32)))
        first = int(random.integers(1, config.slots + 1))
        sizes = [first, config.slots - first] if random.random() < 0.5 else [config.slots]
        self.regions = [_Region(sum(sizes[:index]), size) for index, size in enumerate(sizes) if size]
        self.normalisers = [Normaliser.NONE, *(Normaliser[name.upper()] for name in config.normalisers)]
        limit = 1 << config.position_bits
        self.position = _pick(random, (0, limit - 300 if limit > 300 else 0, int(random.integers(limit))))
        self.normaliser, self.profile = _pick(random, self.normalisers), 0

    def program(self, jobs: int) -> Scenario:
        """``jobs`` jobs, then the slots and the job log are read."""
        for _ in range(jobs):
            self._disturb()
            region = _pick(self.random, self.regions)
            self._advance()
            actions = [self._decode] if region.fill < region.size else []
            actions += [self._prefill]
            if region.fill:
                actions += [self._query, self._overwrite]
                actions += [self._evict] * 2 if self.config.statistics else []
            _pick(self.random, actions, [6 if action == self._decode else 1 for action in actions])(region)
        self.scenario.read_log()
        if self.config.statistics:
            self.scenario.read_slots()
        return self.scenario

    def _advance(self) -> None:
        random = self.random
        step = _pick(random, (0, 1, int(random.integers(40))), (1, 8, 1))
        self.position = (self.position + step) % (1 << self.config.position_bits)
        if random.random() < 0.2:
            self.normaliser = _pick(random, self.normalisers)
        if random.random() < 0.2:
            self.profile = int(random.integers(self.config.profiles))

    def _head_dim(self) -> int:
        beats = self.config.sizes.beats
        return self.config.lanes * (beats if self.random.random() < 0.7 else int(self.random.integers(1, beats + 1)))

    def _mask(self) -> int:
        everything = (1 << self.config.heads) - 1
        return _pick(self.random, (0, int(self.random.integers(everything + 1)), everything), (6, 3, 1))

    def _job(self, **settings) -> Job:
        values = {
            "head_dim": self._head_dim(),
            "position": self.position,
            "mask": self._mask(),
            "normaliser": self.normaliser,
            "profile": self.profile,
            "emit_context": bool(self.random.random() < 0.5),
            "silent": bool(self.random.random() < 0.2),
            **settings,
        }
        return Job(**values)

    def _attend(self, window: range, new: int | None, **settings) -> None:
        """A job that attends to ``window`` (slots); row ``new`` of it, if any, is written by the job."""
        model = self.scenario.model
        kept = [slot for slot in window if slot != new]
        head_dim = min([self._head_dim(), *model.elements[:, kept].ravel().tolist()])
        job = self._job(n=len(window), base=window.start, head_dim=head_dim, **settings)
        self.scenario.step(job, queries=self._queries(kept, head_dim))

    def _queries(self, kept: list[int], head_dim: int) -> np.ndarray:
        """Random, or keys that are kept, or their negatives: scores of one sign, or one row that wins."""
        config, random = self.config, self.random
        rows = random_rows(random, config.heads, head_dim)
        if kept and random.random() < 0.5:
            keys = self.scenario.model.keys[:, _pick(random, kept), :head_dim].astype(np.int64)
            near = np.repeat(keys, config.sizes.group, axis=0) * random.choice([-1, 1], (config.heads, 1))
            rows = np.where(random.random((config.heads, 1)) < 0.5, np.clip(near, -128, 127), rows).astype(np.int8)
        return rows

    def _decode(self, region: _Region) -> None:
        """The next token of a sequence."""
        new = region.base + region.fill
        region.fill += 1
        self._attend(range(region.base, new + 1), new, slot=region.fill - 1)

    def _overwrite(self, region: _Region) -> None:
        slot = int(self.random.integers(region.fill))
        self._attend(range(region.base, region.base + region.fill), region.base + slot, slot=slot)

    def _prefill(self, region: _Region) -> None:
        """Append without attending: a few new rows, or an old one anew."""
        count = int(self.random.integers(1, 4))
        for _ in range(count):
            fresh = region.fill < region.size and self.random.random() < 0.8
            slot = region.fill if fresh else int(self.random.integers(max(1, region.fill)))
            region.fill = max(region.fill, slot + 1)
            self.scenario.step(self._job(n=0, base=region.base, slot=slot, attend=False))

    def _query(self, region: _Region) -> None:
        """Attend without appending, to some or all of the rows."""
        first = _pick(self.random, (0, int(self.random.integers(region.fill))))
        last = _pick(self.random, (region.fill - 1, int(self.random.integers(first, region.fill))))
        self._attend(range(region.base + first, region.base + last + 1), None, append=False)

    def _evict(self, region: _Region) -> None:
        random, most = self.random, (1 << self.config.position_bits) - 1
        settings = {
            "evict": True,
            "metric": _pick(random, tuple(Metric)[: 2 if self.config.phases == "serial" else 3]),
            "sinks": _pick(random, (0, int(random.integers(min(most, self.position) + 1)), most), (8, 2, 1)),
            "recent": _pick(random, (0, int(random.integers(8)), most), (4, 4, 1)),
        }
        window = range(region.base, region.base + region.fill)
        if random.random() < 0.3:
            job = self._job(n=len(window), base=window.start, attend=False, **settings)
            self.scenario.step(job)
        else:
            self._attend(window, None, **settings)

    def _disturb(self) -> None:
        """Things that must not matter."""
        scenario, random, config = self.scenario, self.random, self.config
        match random.integers(40):
            case 0:
                scenario.refused(self._job(n=config.slots, base=1))
            case 1:
                if config.counter_bits:
                    scenario.add(Read(register="BUSY_CYCLES.LO"), Read(register="BUSY_CYCLES.HI"))
                if config.head_log:
                    scenario.add(Read(register="JOB_HEADS.MASS", indices=(0, 0)))
                scenario.add(Read(register="JOB_STATE"))
            case 2:
                scenario.read_log()
            case 3:
                scenario.add(Delay(int(random.integers(1, 300))))
            case 4:
                beats = _pick(random, (-1, 1, 5, -config.sizes.beats))
                scenario.add(WaitIdle())
                scenario.dropped(self._job(n=1, head_dim=config.head_dim), beats)


def random_program(config: UnitConfig, seed: int, jobs: int) -> Scenario:
    """A program of about ``jobs`` jobs, the same for the same seed."""
    return _Writer(config, np.random.default_rng(seed)).program(jobs)
