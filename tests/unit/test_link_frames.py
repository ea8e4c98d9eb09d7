"""The host's side of frames and programs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluctant.boards.link_accesses import programs, read_outcome
from reluctant.boards.link_frames import FrameReader, encode_frame, line_bytes
from reluctant.boards.link_outbox import Outbox
from reluctant.boards.transport import Access

CONTENT = st.binary(min_size=1, max_size=40) | st.lists(st.sampled_from([0x7D, 0x7E, 0x5D, 0x5E]), min_size=1).map(
    bytes
)


@given(st.lists(CONTENT, max_size=5), st.integers(1, 20))
def test_frames_come_back_however_they_are_cut(contents, size):
    line, reader, found = b"".join(map(encode_frame, contents)), FrameReader(), []
    for place in range(0, len(line), size):
        frames = reader.feed(line[place : place + size])
        assert frames.damaged == 0
        found += frames.contents
    assert found == contents


@given(CONTENT, st.data())
def test_damage_is_found_and_ends_with_its_frame(content, data):
    frame = bytearray(encode_frame(content))
    place = data.draw(st.integers(1, len(frame) - 2))
    kind = data.draw(st.sampled_from(("drop", "flip", "double")))
    if kind == "flip":
        frame[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        frame[place : place + 1] = b"" if kind == "drop" else frame[place : place + 1] * 2
    assert FrameReader().feed(bytes(frame) + encode_frame(b"next")).contents == [b"next"]


def test_damaged_frames_are_counted():
    frame, reader = encode_frame(b"content"), FrameReader()
    assert reader.feed(frame[:4]) == ([], 0)
    assert reader.feed(frame[5:]) == ([], 1)
    reader.feed(frame[:4])
    reader.clear()
    assert reader.feed(frame) == ([b"content"], 0)


@pytest.mark.parametrize("seed", range(20))
def test_programs_do_the_accesses_in_order(seed):
    """Encoded, decoded by hand, and never larger than allowed."""
    rng, room = random.Random(seed), 60
    accesses = []
    for _ in range(rng.randint(1, 60)):
        step, first, writes = rng.choice((0, 4, 8)), 4 * rng.randrange(100), rng.random() < 0.5
        accesses += [
            Access(first + step * place, rng.getrandbits(32) if writes else None) for place in range(rng.randint(1, 30))
        ]
    done = []
    for made in programs(accesses, room):
        assert sum(len(run.encode()) for run in made) <= room
        assert sum(len(run.words) * (1 if run.writes else 4) for run in made) <= room
        for run in made:
            code, count, low, high, *data = run.encode()
            for place in range(count + 1):
                address = 4 * ((low | high << 8) + (0 if code & 8 else place))
                word = int.from_bytes(bytes(data[4 * place : 4 * place + 4]), "little") if code & 7 == 5 else None
                done.append(Access(address, word))
    assert done == accesses


def test_outcomes():
    accesses = [Access(0, 1), Access(4, 2), Access(0), Access(4), Access(0, 3)]
    (made,) = programs(accesses, 100)
    words = (5).to_bytes(4, "little") + (6).to_bytes(4, "little")
    assert read_outcome(made, bytes(2) + words + b"\0rest") == ([5, 6], None, True, b"rest")
    assert read_outcome(made, bytes(2) + words + b"\1rest") == ([5, 6], 4, True, b"rest")
    assert read_outcome(made, bytes(2) + words[:4]) == ([5], 3, False, b"")
    assert read_outcome(made, b"\1\1") == ([], 0, False, b"")
    assert read_outcome(made, b"\0") == ([], None, False, b"")


@pytest.mark.parametrize("seed", range(10))
def test_outbox_keeps_what_was_not_offered(seed):
    rng, beat = random.Random(seed), 4
    box, packets = Outbox(beat), [rng.randbytes(beat * rng.randint(1, 40)) for _ in range(12)]
    for packet in packets:
        box.add(packet)
    taken, ends = b"", []
    for _ in range(1000):
        parts = box.parts(rng.randint(4, 120), rng.randint(0, 20))
        beats = sum(part.beats for part in parts)
        offered = rng.randint(0, beats)
        before, left = len(box), offered
        for part in parts:
            now = min(left, part.beats)
            taken, left = taken + part.data[: now * beat], left - now
            if part.last and now == part.beats:
                ends.append(len(taken))
        box.settle(beats, offered)
        assert box.blocked == (offered < beats)
        assert before - len(box) == sum(1 for end in ends[len(packets) - before :])
        assert box.begun == (len(taken) not in (0, *ends))
        if not box:
            break
    assert not box
    assert taken == b"".join(packets)
    assert ends == [len(b"".join(packets[: count + 1])) for count in range(len(packets))]


def test_length_of_a_frame():
    assert line_bytes(0) + 2 == len(encode_frame(b""))
