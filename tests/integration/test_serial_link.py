"""The serial link behind a pseudo terminal: registers and packets over a good line and over a bad one."""

import os
import random
import time

import pytest

from reluctant.boards.link_frames import encode_frame
from reluctant.boards.link_session import DeviceResetError, NoAnswerError
from reluctant.boards.serial_transport import BusTimeoutError, identify, open_serial
from reluctant.boards.transport import Access, BusError, NoPacketError, TransportError
from reluctant.hdl.link_protocol import PROTOCOL, Identity

from .linked_device import ADDER, DEPTH, INTERRUPT, LANES, LINK, MUTE, WORDS, Model, board, connect_host

BAD_LINE = {"drop": 1 / 3000, "flip": 1 / 3000, "duplicate": 1 / 3000, "seed": 1}
"""One byte in 1,000 is wrong."""
REFUSED = 4 * 100


def draw(rng: random.Random, known: list[int]) -> list[Access]:
    """A batch: runs of neighbours, single ones, the register that tells how often, sometimes one that is refused."""
    accesses, wanted = [], rng.choice((1, 1, 2, 8, 40, 150))
    while len(accesses) < wanted:
        writes, kind = rng.random() < 0.5 or not known, rng.random()
        word = rng.choice((0, 0x7E7D7E7D, rng.getrandbits(32))) if writes else None
        if kind < 0.3:
            accesses += [Access(ADDER, word)] * rng.randint(1, 3)
        elif kind < 0.32:
            accesses.append(Access(REFUSED, word))
        elif writes:
            first, count = rng.randrange(WORDS), rng.randint(1, 12)
            accesses += [Access(4 * (place % WORDS), word ^ place) for place in range(first, first + count)]
        else:
            accesses += [Access(address) for address in rng.sample(known, rng.randint(1, min(8, len(known))))]
    return accesses


def expected(model: Model, accesses: list[Access]) -> tuple[list[int], Access | None]:
    """Words that are read, and the first access that is refused, by the rules of ``Transport.execute``."""
    words, refused = [], None
    for access in accesses:
        if refused is not None and (access.word is None or refused.word is None):
            break
        try:
            word = model.access(*access)
        except KeyError:
            refused = refused or access
            continue
        if access.word is None:
            words.append(word)
    return words, refused


def transfer(transport, model: Model, rng: random.Random, count: int) -> None:
    """At least so many random accesses; every answer is what the model says."""
    done = 0
    while done < count:
        accesses = draw(rng, list(model.words))
        words, refused = expected(model, accesses)
        done += len(accesses)
        if refused is None:
            assert transport.execute(accesses) == words
        else:
            with pytest.raises(BusError) as error:
                transport.execute(accesses)
            assert (error.value.address, error.value.word) == refused


def exchange_packets(transport, rng: random.Random, count: int) -> None:
    """Packets of all sizes come back as they were, in order; no more than the device keeps are on their way."""
    for _ in range(count):
        packets = [rng.randbytes(LANES * rng.choice((1, 2, DEPTH, 100, 300))) for _ in range(rng.randint(1, 3))]
        for packet in packets:
            transport.send(packet)
        assert [transport.receive() for _ in packets] == packets
        assert transport.unsent() == 0


@pytest.fixture(scope="module")
def device():
    with board() as device:
        yield device


def test_device_says_what_it_is(device):
    assert identify(device.port, LINK.baud) == Identity(PROTOCOL, LANES, 256, 0x12345678, 8_000_000, "test")


def test_registers_over_a_bad_line(pytestconfig):
    count, rng, model = pytestconfig.getoption("transfers"), random.Random(2), Model()
    with board(**BAD_LINE) as device, connect_host(device) as transport:
        for _ in range(10):
            transfer(transport, model, rng, count // 10)
            exchange_packets(transport, rng, 1)
        assert transport.session.retries > 0
