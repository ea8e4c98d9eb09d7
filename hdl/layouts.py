"""What travels between the components of the unit: one structure per hand-over, each a function of the sizes.

A head's description shrinks as it moves: :func:`score_head` (the sequencer gives it to the score buffer) holds a
:func:`value_head` (given on to the weight list), which holds a :func:`result_head` (given on to the normaliser).
"""

from amaranth.hdl import signed
from amaranth.lib import data
from amaranth.utils import ceil_log2

from reluctant.golden import formats

from .config import UnitConfig

__all__ = [
    "JOB_TAGS",
    "TAG_BITS",
    "group",
    "head_result",
    "head_scales",
    "head_settings",
    "head_stats",
    "job",
    "job_end",
    "job_events",
    "loaded_job",
    "placed_row",
    "result_head",
    "result_record",
    "score_head",
    "value_head",
    "value_record",
    "value_row",
]

JOB_TAGS = 4
"""Jobs that the job log tells apart: a job's tag is the number of jobs started before it, modulo this."""
TAG_BITS = ceil_log2(JOB_TAGS)


def job(config: UnitConfig) -> data.StructLayout:
    """One step, as the host asked for it; latched whole, so registers may change while it runs.

    ``slot``, ``base`` and ``n`` count rows: the step attends to ``base ... base + n - 1``; a row appended goes to
    ``base + slot``, or with ``evict`` to the victim among ``base ... base + n - 1``.
    """
    sizes = config.sizes
    return data.StructLayout(
        {
            "n": sizes.count_bits,
            "slot": sizes.slot_bits,
            "base": sizes.slot_bits,
            "beats": sizes.beats_bits,  # head dimension / lanes
            "position": config.position_bits,  # of the token, absolute
            "mask": config.heads,  # 1: the head does not run
            "append": 1,
            "attend": 1,
            "evict": 1,  # append to the victim's slot instead of `slot`
            "emit_context": 1,  # send int32 contexts beside the normalised output
            "normaliser": 3,
            "profile": sizes.profile_bits,
            "sinks": config.position_bits,  # rows with position < sinks are never victims
            "recent": config.position_bits,  # nor are rows with job.position - position <= recent
            "metric": 2,
            "silent": 1,  # its weights add nothing to the slots' masses
            "tag": TAG_BITS,
        }
    )


def loaded_job(config: UnitConfig) -> data.StructLayout:
    """A job whose packet is complete in input bank ``bank``."""
    return data.StructLayout({"job": job(config), "bank": 1})


def group(config: UnitConfig) -> data.StructLayout:
    """The query heads of one KV head, whose new row (if any) is in the store."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "job": job(config),
            "bank": 1,  # input bank that holds the queries
            "kv": sizes.kv_bits,
            "row": sizes.row_bits,  # kv * slots + base, the first row attended
            "last": 1,  # of the job
        }
    )


def result_head(config: UnitConfig) -> data.StructLayout:
    """What the normaliser must know of a head."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "head": sizes.head_bits,
            "n": sizes.count_bits,
            "beats": sizes.beats_bits,
            "alpha_mantissa": formats.MANTISSA_BITS,
            "alpha_exponent": signed(formats.ALPHA_EXPONENT_BITS),
            "normaliser": 3,
            "emit_context": 1,
            "profile": sizes.profile_bits,
            "masked": 1,
            "last": 1,  # of the job
            "tag": TAG_BITS,
        }
        | ({"sink": formats.SINK_BITS} if "sum" in config.normalisers else {})
    )


def value_head(config: UnitConfig) -> data.StructLayout:
    """What the value phase must know of a head."""
    return data.StructLayout(
        {
            "row": config.sizes.row_bits,
            "group_last": 1,  # last head of its KV head: when its values are read, the rows may be overwritten
            "result": result_head(config),
        }
    )


def score_head(config: UnitConfig) -> data.StructLayout:
    """What scoring and weighting must know of a head. A masked head brings no scores."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "theta": signed(sizes.score_bits),
            "mode": 2,
            "kappa_mantissa": formats.KAPPA_BITS,
            "kappa_shift": 2,
            "min_active": sizes.count_bits,
            "min_mass": 32,
            "silent": 1,
            "value": value_head(config),
        }
    )


def head_scales(config: UnitConfig) -> tuple[str, ...]:
    """The settings of a head that the normaliser uses."""
    return ("alpha_mantissa", "alpha_exponent", "sink")[: 3 if "sum" in config.normalisers else 2]


def head_settings(config: UnitConfig) -> data.StructLayout:
    """A head's settings, as the head table holds them."""
    score, result = score_head(config).members, result_head(config).members
    names = ("theta", "mode", "kappa_mantissa", "kappa_shift", "min_active", "min_mass")
    return data.StructLayout(
        {name: score[name] for name in names} | {name: result[name] for name in head_scales(config)}
    )


def head_stats(config: UnitConfig) -> data.StructLayout:
    """What the key phase and the weights told about a head; goes out in its header."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "exponent": formats.EXPONENT_BITS,
            "active": sizes.count_bits,
            "mass": sizes.mass_bits,
            "weight_sum": sizes.weight_sum_bits,
            "null": 1,
            "softmax": 1,
            "fallback": 1,
        }
    )


def value_record(config: UnitConfig) -> data.StructLayout:
    """A head and its statistics; ``rows`` of its weights are not zero."""
    return data.StructLayout({"rows": config.sizes.count_bits, "stats": head_stats(config), "head": value_head(config)})


def value_row(config: UnitConfig) -> data.StructLayout:
    """One row to fetch in a pass of a value phase, or (``zero``) a head without any."""
    sizes = config.sizes
    return data.StructLayout(
        {
            "zero": 1,
            "row": sizes.row_bits,  # absolute
            "beat": sizes.beat_bits,  # number of the pass
            "weight": formats.WEIGHT_BITS,
            "first": 1,  # row of its pass
            "last": 1,  # row of its pass
            "final": 1,  # last row of the last pass
        }
    )


def result_record(config: UnitConfig) -> data.StructLayout:
    """A head whose contexts are on their way to the context buffer; ``zero``: there are none, all are zero."""
    return data.StructLayout({"zero": 1, "stats": head_stats(config), "head": result_head(config)})


def head_result(config: UnitConfig) -> data.StructLayout:
    """What the job log keeps of a head of an attending job; all but ``valid`` holds in the cycle after it."""
    stats = head_stats(config).members
    names = ("null", "softmax", "fallback", "active", "mass")
    return data.StructLayout(
        {"valid": 1, "tag": TAG_BITS, "head": config.sizes.head_bits, "masked": 1}
        | {name: stats[name] for name in names}
    )


def placed_row(config: UnitConfig) -> data.StructLayout:
    """Where an appending job's row of one KV head goes; ``dropped``: nowhere, for there was no victim."""
    sizes = config.sizes
    return data.StructLayout(
        {"valid": 1, "tag": TAG_BITS, "kv": sizes.kv_bits, "slot": sizes.slot_bits, "dropped": 1}  # slot: behind base
    )


def job_end() -> data.StructLayout:
    """A job has ended."""
    return data.StructLayout({"valid": 1, "tag": TAG_BITS})


def job_events(config: UnitConfig) -> data.StructLayout:
    """What the job log learns: results of heads, places of rows, and the four ways in which a job ends."""
    return data.StructLayout(
        {
            "head": head_result(config),
            "row": placed_row(config),
            "result_done": job_end(),
            "append_done": job_end(),
            "too_short": job_end(),
            "too_long": job_end(),
        }
    )
