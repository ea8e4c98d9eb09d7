from fractions import Fraction

import pytest

from reluctant.hdl.config import ConfigError
from reluctant.hdl.link_config import LinkConfig

from .helpers import refuses


@pytest.mark.parametrize(
    ("clock_hz", "baud", "sixteenths"),
    [
        (12_000_000, 3_000_000, 64),
        (24_000_000, 3_000_000, 128),
        (25_000_000, 3_000_000, 133),
        (48_000_000, 12_000_000, 64),
        (12_000_000, 115_200, 104 * 16),
        (60_000_000, 3_000_000, 320),
        (27_000_000, 2_000_000, 216),
        (125_000_000, 9600, 13021 * 16),
    ],
)
def test_bits_are_as_long_as_they_should(clock_hz, baud, sixteenths):
    link = LinkConfig("board", clock_hz, baud)
    assert link.bit_steps == sixteenths
    assert link.error == abs(Fraction(sixteenths, 16) / Fraction(clock_hz, baud) - 1) <= Fraction(1, 100)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"baud": 3_000_001}, "baud is 3000001: 184 to 3000000 is allowed with a clock of 12000000 Hz"),
        ({"baud": 183}, "baud is 183: 184 to 3000000 is allowed with a clock of 12000000 Hz"),
        ({"baud": 9600.0}, "baud is 9600.0: a positive integer is needed"),
        ({"clock_hz": 0}, "clock_hz is 0: a positive integer is needed"),
        ({"clock_hz": 1 << 32}, "clock_hz is 4294967296: less than 2**32 is allowed"),
        ({"buffer": 128}, "buffer is 128: a power of two from 256 to 4096 is allowed"),
        ({"buffer": 300}, "buffer is 300: a power of two from 256 to 4096 is allowed"),
        ({"name": ""}, "name is '': 1 to 20 printable ASCII characters are allowed"),
        ({"name": "x" * 21}, f"name is '{'x' * 21}': 1 to 20 printable ASCII characters are allowed"),
        ({"name": "bö"}, "name is 'bö': 1 to 20 printable ASCII characters are allowed"),
    ],
)
def test_what_cannot_be_built_is_refused(fields, message):
    values = {"name": "board", "clock_hz": 12_000_000, "baud": 1_000_000, **fields}
    refuses(lambda: LinkConfig(**values), message, ConfigError)
