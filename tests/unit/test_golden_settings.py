"""Settings of a layer: what they default to, and what is refused."""

import math

import pytest

from reluctant.golden import formats
from reluctant.golden.formats import Normaliser
from reluctant.golden.settings import LayerSettings, alpha_for


def test_settings_without_sinks_have_none():
    made = LayerSettings.create(2, 16)
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "sink"}
    assert LayerSettings(**fields).sink == made.sink == (0, 0)


def test_alpha_for():
    assert alpha_for(Normaliser.RMS_HEAD, 64, 3.0) == 8.0
    assert alpha_for(Normaliser.RMS_LAYER, 256) == 16.0
    assert alpha_for(Normaliser.LENGTH, 64, 3.0) == 3.0
    assert alpha_for(Normaliser.LENGTH, 64) == 1.0
    assert alpha_for(Normaliser.SUM, 64, 3.0) == 1.0
    settings = LayerSettings.create(4, 16, normaliser=Normaliser.RMS_LAYER)
    assert settings.alpha == (formats.encode_alpha(8.0),) * 4
    assert settings.gain[0][0] == 32 * formats.GAIN_ONE
    assert settings.kappa[0] == formats.encode_kappa(1 / math.log(2) / 256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": 1 << 19}, "theta of head 0 is 524288: -524288 to 524287 is allowed"),
        ({"theta": [0, -524289]}, "theta of head 1 is -524289: -524288 to 524287 is allowed"),
        ({"theta": [0]}, "theta has 1 entries: 2 (one per head) are needed"),
        ({"kv_heads": 3}, "kv_heads is 3: a divisor of heads (2) is allowed"),
        ({"min_mass": 1 << 32}, "min_mass of head 0 is 4294967296: 0 to 4294967295 is allowed"),
        ({"min_active": -1}, "min_active of head 0 is -1: 0 to 65536 is allowed"),
        ({"sink": [0, 1 << 24]}, "sink of head 1 is 16777216: 0 to 16777215 is allowed"),
        ({"sink": -1}, "sink of head 0 is -1: 0 to 16777215 is allowed"),
        ({"gain": [[1.0] * 15] * 2}, "gain of head 0 has 15 entries: 16 are needed"),
        ({"score_scale": float("nan")}, "kappa is nan: a finite number from 0 to 127 is needed"),
        ({"alpha": -1.0, "normaliser": Normaliser.LENGTH}, "alpha is -1.0: 0 or a number from 2**-100 to 2**100 is"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        LayerSettings.create(2, 16, **change)
    assert str(error.value).startswith(message)


def test_theta_takes_its_whole_range():
    limit = 1 << (formats.score_bits(16) - 1)
    assert LayerSettings.create(2, 16, theta=[-limit, limit - 1]).theta == (-limit, limit - 1)
