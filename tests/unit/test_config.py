"""Units that cannot be built are refused, with the setting, its value and what is allowed."""

import pytest

from reluctant.hdl.config import SERIAL, ConfigError, UnitConfig

from .helpers import refuses


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"phases": "both"}, "phases is 'both': 'overlapped' or 'serial' is allowed"),
        ({**SERIAL, "store": "block"}, "store is 'block': serial phases need 'single'"),
        ({**SERIAL, "softmax": True}, "softmax is True: serial phases need False"),
        ({**SERIAL, "normalisers": ("sum",)}, "normalisers is ('sum',): serial phases need ()"),
        ({**SERIAL, "job_queue": 2}, "job_queue is 2: serial phases need 1"),
        ({"job_queue": 1}, "job_queue is 1: 2 to 16 is allowed"),
        ({"job_queue": 17}, "job_queue is 17: 2 to 16 is allowed"),
        (
            {"shared_memory": 8192},
            "shared_memory is 8192: 0, or with serial phases a power of two from 8192 to 65536, is allowed",
        ),
        ({"heads": 4, "kv_heads": 3}, "kv_heads is 3: a divisor of heads (4) is allowed"),
        ({"lanes": 16, "head_dim": 24}, "head_dim is 24: a multiple of lanes (16) from 16 to 256 is allowed"),
        ({"slots": 256.0}, "slots is 256.0: int is needed"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, message):
    refuses(lambda: UnitConfig(**settings), message, ConfigError)


def test_serial_settings_make_a_unit():
    unit = UnitConfig(**SERIAL, shared_memory=8192)
    assert {field: value for field, value in unit.as_dict().items() if field in SERIAL} == dict(SERIAL)
