"""Gives a core its firmware where it has none at power-up: in memory that it shares with the unit."""

from reluctant.hdl.address_map import AddressMap

from .transport import Transport

__all__ = ["load_firmware"]

WORDS_AT_ONCE = 256


def load_firmware(transport: Transport, registers: AddressMap, image: bytes) -> None:
    """Write ``image`` into the memory of the held core, and let it start cold.

    Raises
    ------
    BusError
        If the core is not held.
    """
    hold = registers.address("CONTROL")
    data = registers.address("MEMORY_DATA")
    transport.write(hold, registers.encode("CONTROL", hold=1, cold=1))
    transport.write(registers.address("MEMORY_ADDRESS"), 0)
    image += bytes(-len(image) % 4)
    words = [(data, int.from_bytes(image[at : at + 4], "little")) for at in range(0, len(image), 4)]
    for first in range(0, len(words), WORDS_AT_ONCE):
        transport.write_many(words[first : first + WORDS_AT_ONCE])
    transport.write(hold, registers.encode("CONTROL", hold=0, cold=1))
