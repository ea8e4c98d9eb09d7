"""Opens the serial port of a device, and says in one line what is wrong where that fails."""

import errno
import time

from reluctant.boards.link_session import LinkSession, NoAnswerError
from reluctant.boards.serial_transport import SerialTransport, open_port
from reluctant.boards.transport import TransportError
from reluctant.golden.errors import UserError

__all__ = ["CountedPort", "open_device", "serial_ports"]

PATIENCE = 10.0
"""Seconds without any answer after which no device is there."""
SHORT_PATIENCE = 3.0
"""Seconds for a device to answer at a bit rate, while there are others to try."""
LEAST_TIMEOUT, ROUND_TRIPS, TRIALS = 0.05, 20, 3
"""Seconds after which an answer counts as lost: at least so many, or so many times as long as a short answer takes."""


class CountedPort:
    """pyserial's ``Serial``, with its bytes counted, and its errors told as the end of the device.

    Attributes
    ----------
    sent, received
        Bytes.
    """

    def __init__(self, line):
        self._line = line
        self.sent = self.received = 0
        self.name, self.baudrate = line.name, line.baudrate

    @property
    def timeout(self) -> float | None:
        return self._line.timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._line.timeout = seconds

    @property
    def in_waiting(self) -> int:
        return self._call(lambda: self._line.in_waiting)

    def read(self, size: int) -> bytes:
        data = self._call(lambda: self._line.read(size))
        self.received += len(data)
        return data

    def write(self, data: bytes) -> int | None:
        self.sent += len(data)
        return self._call(lambda: self._line.write(data))

    def reset_input_buffer(self) -> None:
        self._call(self._line.reset_input_buffer)

    def set_baud(self, baud: int) -> None:
        """Go on at another bit rate."""
        self._line.baudrate = self.baudrate = baud

    def close(self) -> None:
        self._line.close()

    def _call(self, what):
        try:
            return what()
        except (OSError, TypeError) as error:  # TypeError: pyserial's, of a port that was closed meanwhile
            raise TransportError(f"{self.name}: the port is gone (unplugged?): {error}") from error


def open_device(port: str, bauds: list[int]) -> SerialTransport:
    """The device at a port, at the first of these bit rates at which one answers.

    Raises
    ------
    UserError
        If the port cannot be opened, or no device answers.
    """
    line = CountedPort(_open(port, bauds[0]))
    try:
        for baud in bauds[:-1]:
            line.set_baud(baud)
            try:
                LinkSession(line, patience=SHORT_PATIENCE).hello()
                break
            except NoAnswerError:
                continue
        else:
            line.set_baud(bauds[-1])
        transport = SerialTransport(line, patience_seconds=PATIENCE)
        transport.session.timeout = max(LEAST_TIMEOUT, ROUND_TRIPS * _round_trip(transport))
        return transport
    except NoAnswerError as error:
        line.close()
        raise UserError(_unanswered(line, bauds, error)) from None
    except TransportError as error:
        line.close()
        raise UserError(str(error)) from None
    except BaseException:
        line.close()
        raise


def _round_trip(transport: SerialTransport) -> float:
    """Seconds until a short answer, the worst of a few; a virtual board's line is slower than its bit rate says."""
    worst = 0.0
    for _ in range(TRIALS):
        begin = time.monotonic()
        transport.poll()
        worst = max(worst, time.monotonic() - begin)
    return worst


def _unanswered(line: CountedPort, bauds: list[int], error: NoAnswerError) -> str:
    rates = " or ".join(map(str, bauds))
    if line.received:
        what = f"{line.received} bytes came that are no answer"
        return f"{line.name}: {what}: another device, or another bit rate than {rates} (--baud)? {error}"
    return str(error) if len(bauds) == 1 else f"{error} (Tried: {rates} baud; --baud names another.)"


def _open(port: str, baud: int):
    try:
        return open_port(port, baud)
    except TransportError as error:
        raise UserError(_why(port, _number(error.__cause__), str(error))) from None


def _number(error: BaseException | None) -> int | None:
    """The system's number of an error, or of what it came from."""
    while error is not None:
        if error.args and isinstance(error.args[0], int):
            return error.args[0]
        error = error.__cause__ or error.__context__
    return None


def _why(port: str, number: int | None, message: str) -> str:
    """What to do about a port that cannot be opened."""
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"--port {port}: there is no such port: {serial_ports()}"
    if number in (errno.EACCES, errno.EPERM):
        hint = "join the group that may, such as dialout (sudo usermod -aG dialout $USER, then log in again), or"
        return f"--port {port}: no permission: {hint} use the rules of 'reluctant flash --udev'"
    if number in (errno.EAGAIN, errno.EBUSY):
        return f"--port {port}: another program has it open: end that first (a terminal program, another ondevice)"
    if number == errno.ENOTTY:
        return f"--port {port}: is no serial port: {serial_ports()}"
    return f"--port {port}: {message}"


def serial_ports() -> str:
    """Those that exist, in words."""
    from serial.tools.list_ports import comports

    names = [f"{item.device} ({item.description})" for item in comports()]
    return f"{', '.join(names)} exist" if names else "no serial port exists; is the board plugged in?"
