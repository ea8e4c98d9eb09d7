"""KV policies once more, on lists of integers and in the words of the unit's victim search (low, recent, metric)."""

from dataclasses import dataclass, field

from reluctant.golden import formats
from reluctant.golden.formats import Metric, Mode
from reluctant.golden.policies import Policy


@dataclass
class Row:
    position: int
    k: list[int]
    v: list[int]
    mass: int = 0


@dataclass
class NaiveRun:
    """``kept``, ``slots`` and ``evicted`` as in PolicyRun, as nested lists; ``kept`` without the -1."""

    kept: list = field(default_factory=list)
    slots: list = field(default_factory=list)
    evicted: list = field(default_factory=list)
    mass: list = field(default_factory=list)
    refused: int | None = None


class Segments:
    """BUZZ: rows between sinks and window, counted as they come and go."""

    def __init__(self, policy):
        self.policy, self.size, self.counts = policy, policy.stride, [0] * 32

    def enter(self, position):
        if position < self.policy.sinks:
            return
        if (position - self.policy.sinks) // self.size == 32:
            self.counts = [a + b for a, b in zip(self.counts[::2], self.counts[1::2], strict=True)] + [0] * 16
            self.size *= 2
        self.counts[(position - self.policy.sinks) // self.size] += 1

    def leave(self, t):
        """(low, recent) of the search, in the fullest segment."""
        fullest = self.counts.index(max(self.counts))
        self.counts[fullest] -= 1
        low = self.policy.sinks + fullest * self.size
        return low, max(t - (low + self.size), self.policy.recent)

    def check(self, rows, t):
        """The counts are those of the rows that are there."""
        real = [0] * 32
        for row in rows:
            if row.position >= self.policy.sinks and t - row.position > self.policy.recent:
                real[(row.position - self.policy.sinks) // self.size] += 1
        assert real == self.counts


def xorshift(x):
    x = (x ^ x << 13) % 2**32
    x = x ^ x >> 17
    return (x ^ x << 5) % 2**32


class Chooser:
    """(low, recent, metric) of each step's search, None where nothing leaves, False where the step is refused."""

    def __init__(self, policy, layer, flags):
        self.policy, self.flags = policy, flags
        self.segments = Segments(policy) if policy.policy is Policy.BUZZ else None
        self.x = policy.seed ^ (layer << 24)
        if self.x == 0:
            self.x = 0x9E3779B9

    def choose(self, t, n):
        policy, full = self.policy, n == self.policy.budget
        sinks, recent = policy.sinks, policy.recent
        if policy.policy is Policy.BUZZ:
            self.segments.enter(t - recent - 1)
        if policy.policy is Policy.DMS and t - recent - 1 >= sinks and self.flags[t - recent - 1]:
            return t - recent - 1, recent, Metric.POSITION
        if not full:
            return None
        if policy.policy is Policy.REFUSE:
            return False
        if policy.policy is Policy.H2O:
            return sinks, recent, Metric.RATE if policy.normalised else Metric.MASS
        if policy.policy is Policy.BUZZ:
            return *self.segments.leave(t), Metric.MASS
        if policy.policy is Policy.NACL:
            self.x = xorshift(self.x)
            if self.x % 256 < policy.share:
                return sinks + ((self.x >> 16) * (t - recent - sinks) >> 16), recent, Metric.POSITION
            return sinks, recent, Metric.MASS
        return sinks, recent, Metric.POSITION


def search(rows, t, low, recent, metric):
    """The unit's: first slot with the least metric."""
    best = None
    for slot, row in enumerate(rows):
        age = t - row.position
        if row.position < low or age <= recent:
            continue
        key = {Metric.POSITION: row.position, Metric.MASS: row.mass, Metric.RATE: formats.rate(row.mass, age)}[metric]
        if best is None or key < best[0]:
            best = key, slot
    assert best is not None
    return best[1]


def weights(settings, head, query, rows):
    """8-bit weights of one head, by the scalar functions of formats."""
    theta, mode = settings.theta[head], settings.mode[head]
    shifted = [sum(a * b for a, b in zip(query, row.k, strict=True)) - theta for row in rows]
    positive = [max(0, score) for score in shifted]
    few = sum(score > 0 for score in shifted) < settings.min_active[head] or sum(positive) < settings.min_mass[head]
    if mode is Mode.SOFTMAX or (mode is Mode.HYBRID and few):
        return [formats.softmax_weight(max(shifted) - score, *settings.kappa[head]) for score in shifted]
    exponent = formats.block_exponent(max(positive))
    return [formats.relu_weight(score, exponent) for score in shifted]


def naive_run(settings, policy, q, k, v, flags, layer=0, mass_bits=24, off=None):
    """A layer on nested lists q (H, T, d), k and v (G, T, d); ``off`` (T, H): heads that do not run."""
    chooser, run = Chooser(policy, layer, flags), NaiveRun()
    regions = [[] for _ in k]
    for t in range(len(q[0])):
        found = chooser.choose(t, len(regions[0]))
        if found is False:
            run.refused = t
            break
        run.slots.append([])
        run.evicted.append([])
        for kv, rows in enumerate(regions):
            slot = len(rows) if found is None else search(rows, t, *found)
            run.slots[-1].append(slot)
            run.evicted[-1].append(-1 if found is None else rows[slot].position)
            rows[slot : slot + 1] = [Row(t, k[kv][t], v[kv][t])]
            if chooser.segments:
                chooser.segments.check(rows, t)
            _earn(settings, policy, rows, kv, [query[t] for query in q], t, mass_bits, off[t] if off else None)
        run.kept.append([[row.position for row in rows] for rows in regions])
    run.mass = [[row.mass for row in rows] for rows in regions]
    return run


def _earn(settings, policy, rows, kv, queries, t, mass_bits, off):
    if policy.policy is Policy.NACL and t % policy.stride != policy.stride - 1:
        return
    for head in range(kv * settings.group, (kv + 1) * settings.group):
        if settings.mask[head] or (off and off[head]):
            continue
        for row, weight in zip(rows, weights(settings, head, queries[head], rows), strict=True):
            row.mass = min(row.mass + weight, 2**mass_bits - 1)
