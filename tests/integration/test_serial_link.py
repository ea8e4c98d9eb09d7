"""The serial link behind a pseudo terminal: registers and packets over a good line and over a bad one."""

import os
import random

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


def test_packets_come_back(device):
    with connect_host(device) as transport:
        exchange_packets(transport, random.Random(3), 8)


def test_refused_access_ends_its_batch(device):
    with connect_host(device) as transport:
        transport.write_many([(0, 1), (4, 2), (ADDER, 5)])
        before = transport.read(ADDER)
        writes = [Access(REFUSED, 7), Access(0, 11), Access(REFUSED + 4, 8), *(Access(4, word) for word in range(200))]
        with pytest.raises(BusError, match=r"the write of 0x7 to 0x190 was answered with an error") as error:
            transport.execute([*writes, Access(ADDER), Access(4, 0)])
        assert (error.value.address, error.value.word) == (REFUSED, 7)
        assert transport.read_many([0, 4, ADDER]) == [11, 199, before + 1]
        with pytest.raises(BusError, match=r"the read of 0x190 was answered") as error:
            transport.execute([Access(0), Access(REFUSED), Access(0, 99)])
        assert transport.read(0) == 11
        for address in (0x1000, 0x3FFFC):  # not of this device
            with pytest.raises(BusError):
                transport.read(address)
        with pytest.raises(ValueError, match="at most 0x3ffff is possible"):
            transport.read(0x40000)


def test_device_holds_packets_up(device):
    """What it does not take stays here, in order, while registers go on."""
    with connect_host(device) as transport:
        packets = [bytes([number]) * LANES * (DEPTH - 1) for number in range(4)]
        transport.hold_results(True)
        for packet in packets:
            transport.send(packet)
        transport.write(ADDER, 3)
        assert transport.unsent() == 3
        assert transport.unsent() == 3
        assert transport.read(ADDER) > 2
        transport.hold_results(False)
        assert [transport.receive() for _ in packets] == packets
        assert transport.unsent() == 0


def test_interrupt_is_waited_for(device):
    with connect_host(device) as transport:
        assert not transport.poll()
        assert not transport.wait(0)
        assert not transport.wait(5000)
        transport.write(INTERRUPT, 1)
        assert transport.wait(0)
        assert transport.wait()
        assert transport.poll()
        transport.write(INTERRUPT, 0)
        assert not transport.poll()


def test_missing_packet_is_told_and_not_lost(device):
    with connect_host(device) as transport:
        for limit in (0, 40, 5000):
            with pytest.raises(NoPacketError, match=f"no output packet came within {limit} cycles"):
                transport.receive(limit)
        transport.send(bytes(LANES))
        assert transport.receive() == bytes(LANES)


@pytest.mark.parametrize("packet", [b"", bytes(LANES - 1), bytes(LANES + 1)])
def test_packets_are_whole_beats(device, packet):
    with connect_host(device) as transport, pytest.raises(ValueError, match=f"whole beats of {LANES} are needed"):
        transport.send(packet)


NOISE = {
    "nothing": b"",
    "noise": random.Random(4).randbytes(700),
    "flags": b"\x7e" * 9,
    "a frame without an end": encode_frame(bytes([1]) + bytes(40))[:-9],
    "a frame longer than the buffer": b"\x7e" + bytes(1500),
    "a frame with a wrong length": b"\x7e\x20\x00" + bytes(4) + b"\x7e",
    "an empty frame": b"\x7e" + bytes(4) + b"\x7e",
    "an escape": b"\x7e\x7d\x7e",
    "an old request": encode_frame(bytes([5, 4, 0, 0, 0, 0])),
}


@pytest.mark.parametrize("name", NOISE)
def test_link_resynchronises(device, name):
    """Whatever came before, the next host is heard, and what was there before still is."""
    with connect_host(device) as transport:
        transport.write(8, 0xABCD)
    line = os.open(device.port, os.O_RDWR | os.O_NOCTTY)
    os.write(line, NOISE[name])
    os.close(line)
    with connect_host(device, timeout=1.0) as transport:
        assert transport.read(8) == 0xABCD
        assert transport.session.retries <= 1


def test_program_without_sense_ends(device):
    """Made on purpose, as the CRC keeps noise out: operations that go on behind the end of the frame."""
    with connect_host(device) as transport:
        for program in (bytes([5, 255, 0, 0]), bytes([2, 255, 0, 0]), bytes([6, 255, 0, 0, 1])):
            with pytest.raises(TransportError, match="does not understand"):
                transport.session.ask(program)
        while transport.unsent() == 0 and transport.session.ask(b"").status & 64:
            transport.session.ask(bytes([7, 50, 0, 0]))
        assert transport.execute([Access(12, 5), Access(12)]) == [5]


def test_host_that_starts_again_is_heard(device):
    """In the middle of a request, with a reply on its way, with another sequence number."""
    rng = random.Random(5)
    for _ in range(5):
        first = connect_host(device)
        first.write(16, 1)
        first.session.port.write(encode_frame(bytes([77, 4, 0, 0, 0]) + bytes(1))[: rng.randint(2, 12)])
        first.close()
        with connect_host(device) as second:
            assert second.read(16) == 1


def test_reset_of_the_device_is_told():
    with board() as device, connect_host(device) as transport:
        transport.write(20, 3)
        device.reset()
        with pytest.raises(DeviceResetError, match="the device was reset"):
            transport.read(20)
        with pytest.raises(DeviceResetError):
            transport.read(20)
        transport.session.hello()
        transport.write(20, 4)
        assert transport.read(20) == 4


def test_reset_in_the_middle_of_frames():
    """At any point of requests and replies: the host hears of it, and goes on."""
    rng, resets = random.Random(6), 0
    with board() as device, connect_host(device) as transport:
        for _ in range(20):
            words = [rng.getrandbits(32) for _ in range(40)]
            frame = encode_frame(bytes([99, 5, 39, 0, 0]) + b"".join(word.to_bytes(4, "little") for word in words))
            transport.session.port.write(frame[: rng.randrange(len(frame))])
            device.reset()
            try:
                transport.write_many([(4 * place, word) for place, word in enumerate(words)])
            except DeviceResetError:
                resets += 1
                transport.session.hello()
                transport.write_many([(4 * place, word) for place, word in enumerate(words)])
            try:
                assert transport.read_many(range(0, 160, 4)) == words
            except DeviceResetError:  # it took a while
                transport.session.hello()
    assert resets > 0


def test_register_that_does_not_answer_is_told():
    with board() as device, connect_host(device) as transport:
        transport.write(0, 8)
        for _ in range(2):
            with pytest.raises(BusTimeoutError, match="did not answer"):
                transport.execute([Access(0), Access(MUTE), Access(0, 9)])
        assert transport.session.hello().name == "test"
        device.reset()
        transport.session.hello()
        assert transport.read(0) == 8


def test_nobody_there_is_told():
    terminal, line = os.openpty()
    try:
        with pytest.raises(NoAnswerError, match=r"no answer to \d+ tries within .* s. Is it the right port"):
            open_serial(os.ttyname(line), 115200, timeout=0.01, patience_seconds=0.2)
    finally:
        os.close(terminal)
        os.close(line)
    with pytest.raises(TransportError, match="/dev/nothing cannot be opened with 115200 baud"):
        open_serial("/dev/nothing", 115200)


def test_port_that_goes_away_is_told():
    with board() as device:
        transport = connect_host(device)
    with pytest.raises(TransportError, match="the port has gone"):
        transport.read(0)
    transport.close()


def test_closing_is_final(device):
    transport = connect_host(device)
    transport.close()
    transport.close()
    for call in (transport.poll, transport.unsent, lambda: transport.read(0), lambda: transport.receive(0)):
        with pytest.raises(TransportError, match="the serial port is closed"):
            call()
    with pytest.raises(TransportError, match="closed"):
        transport.send(bytes(LANES))
