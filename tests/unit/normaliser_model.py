"""What the normaliser must send, from formats.py and, apart from that, from the formulas in floating point."""

import math
from dataclasses import dataclass, field

from reluctant.golden import formats
from reluctant.golden.formats import Normaliser


@dataclass
class Head:
    """A head's record and contexts; ``contexts`` is None for a zero head."""

    beats: int
    contexts: list | None
    normaliser: Normaliser = Normaliser.NONE
    emit_context: int = 0
    head: int = 0
    n: int = 1
    alpha: tuple = (1 << 15, 0)
    profile: int = 0
    masked: int = 0
    last: int = 1
    stats: dict = field(default_factory=dict)
    tag: int = 0
    sink: int = 0

    def record(self):
        """The layouts.result_record of this head."""
        head = {name: getattr(self, name) for name in ("head", "n", "beats", "normaliser", "emit_context", "profile")}
        head |= {"alpha_mantissa": self.alpha[0], "alpha_exponent": self.alpha[1], "masked": self.masked}
        head |= {"sink": self.sink} if self.sink else {}  # there is none in a build without `sum`
        return {"zero": self.contexts is None, "stats": self.stats, "head": head | {"last": self.last, "tag": self.tag}}

    def exponent(self):
        return self.stats.get("exponent", 0)

    def sum_divisor(self):
        sink = 0 if self.stats.get("softmax", 0) else self.sink
        return formats.sum_divisor(self.stats.get("weight_sum", 0), sink, self.exponent())


def header(head, lanes):
    """Beats of a head's header."""
    stats = head.stats
    flags = head.masked | stats.get("null", 0) << 1 | stats.get("softmax", 0) << 2 | stats.get("fallback", 0) << 3
    data = bytes([head.head, flags, head.exponent(), 0])
    data += stats.get("active", 0).to_bytes(4, "little") + stats.get("mass", 0).to_bytes(5, "little")
    data += stats.get("weight_sum", 0).to_bytes(3, "little")
    return data + bytes(-len(data) % lanes)


def job_factors(heads):
    """(F, shift) of each head of a job, None where all outputs are zero."""
    bits, total = 0, 0
    present = [head for head in heads if head.contexts is not None]
    if heads[0].normaliser == Normaliser.RMS_LAYER:
        for head in present:
            magnitude = formats.magnitude_bits(head.contexts)
            if magnitude:
                bits = max(bits, magnitude + head.exponent())
        total = sum(square_sum(head.contexts, formats.square_shift(bits, head.exponent())) for head in present)
    return [None if head.contexts is None else head_factor(head, bits, total) for head in heads]


def square_sum(contexts, shift):
    return sum(formats.round_shift(context, shift) ** 2 for context in contexts)


def head_factor(head, bits, total):
    if head.normaliser == Normaliser.RMS_LAYER:
        value, function = total, formats.rsqrt
        exponent = -formats.square_shift(bits, head.exponent())
    elif head.normaliser == Normaliser.RMS_HEAD:
        shift = formats.square_shift(formats.magnitude_bits(head.contexts))
        value, function, exponent = square_sum(head.contexts, shift), formats.rsqrt, -shift
    elif head.normaliser == Normaliser.LENGTH:
        value, function, exponent = head.n, formats.reciprocal, head.exponent()
    else:
        value, function, exponent = head.sum_divisor(), formats.reciprocal, 0
    if value == 0:
        return None
    return formats.factor(*function(value), head.alpha, exponent)


def gain_of(head, gains, index):
    rms = head.normaliser in (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER)
    return gains(head.profile, head.head, index) if rms else formats.GAIN_ONE


def outputs(heads, gains):
    """int8 outputs of each head of a job; ``gains(profile, head, index)`` is the gain memory."""
    results = []
    for head, factor in zip(heads, job_factors(heads), strict=True):
        if factor is None or head.contexts is None:
            results.append(None)
            continue
        multiplier, shift = factor
        results.append(
            [formats.scale(c, shift, multiplier, gain_of(head, gains, i)) for i, c in enumerate(head.contexts)]
        )
    return results


def packet(heads, gains, lanes):
    """Beats (data, last) of a job's packet."""
    stream = b""
    for head, result in zip(heads, outputs(heads, gains), strict=True):
        size = head.beats * lanes
        stream += header(head, lanes)
        if head.normaliser == Normaliser.NONE or head.emit_context:
            stream += b"".join(c.to_bytes(4, "little", signed=True) for c in head.contexts or [0] * size)
        if head.normaliser != Normaliser.NONE:
            stream += bytes(value & 255 for value in result or [0] * size)
    beats = [int.from_bytes(stream[n : n + lanes], "little") for n in range(0, len(stream), lanes)]
    return [(beat, n == len(beats) - 1) for n, beat in enumerate(beats)]


def ideal(heads, gains):
    """Outputs by the formulas of the numeric contract in float64, saturated and rounded half up.

    Without ``gains``: the real values before the gain.
    """
    layer = heads[0].normaliser == Normaliser.RMS_LAYER
    norm = math.sqrt(sum(norm_of(head) ** 2 for head in heads)) if layer else None
    results = []
    for head in heads:
        if head.contexts is None:
            results.append(None)
            continue
        alpha = head.alpha[0] * 2.0 ** (head.alpha[1] - 15)
        if head.normaliser in (Normaliser.RMS_LAYER, Normaliser.RMS_HEAD):
            below = (norm if layer else norm_of(head)) / 2.0 ** head.exponent()
        elif head.normaliser == Normaliser.LENGTH:
            below = head.n / 2.0 ** head.exponent()
        else:
            below = head.sum_divisor()
        values = [c * alpha / below if below else 0.0 for c in head.contexts]
        if gains:
            values = [value * gain_of(head, gains, i) / formats.GAIN_ONE for i, value in enumerate(values)]
            values = [max(-128, min(127, math.floor(value + 0.5))) for value in values]
        results.append(values)
    return results


def norm_of(head):
    """Length of a head's context vector, its exponent included."""
    return math.sqrt(sum(c * c for c in head.contexts or [])) * 2.0 ** head.exponent()
