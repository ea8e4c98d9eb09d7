"""Commands to the scheduler: sent through the mailbox, replied to in order, and paired with the results' packets."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from reluctant.hdl.address_map import AddressMap
from reluctant.hdl.messages import STEP_LIMIT, Operation, Status

from .errors import BadSequenceError, HostError, LostError, NoReplyError, command_error
from .transport import Access, NoPacketError, Transport

__all__ = ["Commands", "Ticket"]

TAGS = 256
ANSWERED_WORD = 3
"""Word of a STEP's reply, whatever its status, that says how many result packets belong to it."""
QUIET = 1024
"""Cycles without a packet, while the unit is idle, after which it counts as having sent all."""
DROP_LIMIT = 256
FILLERS = 64
"""Packets made up at a time, at most, where steps wait for packets that got lost."""
PATIENCE = 200_000
"""Cycles to wait for a restarted core, where nothing else was said."""
NOBODY = 255
"""A sequence that no system has."""
_DOUBTFUL = (Status.FAULT, Status.DAMAGED, Status.ABORTED)
"""After these, the unit may have sent result packets that no reply counts."""


class Ticket:
    """A command under way, for :meth:`Commands.wait`.

    Attributes
    ----------
    operation, sequence, layer
        What was asked for.
    done
        Whether it is over.
    """

    def __init__(self, operation: Operation, sequence: int, layer: int):
        self.operation, self.sequence, self.layer = operation, sequence, layer
        self.done = False
        self._tag = 0
        self._words: Sequence[int] = ()
        self._decode: Callable[[bytes], object] | None = None
        self._finish: Callable[[list[int], list], object] | None = None
        self._result = None
        self._error: HostError | None = None

    @property
    def _name(self) -> tuple[int, int]:
        """What its reply is known by."""
        return self.operation, self._tag

    @property
    def result(self):
        """What the command gave; raises its error, or HostError while it is not over."""
        if not self.done:
            raise HostError(f"{self.operation.name} is not over: wait for it")
        if self._error is not None:
            raise self._error
        return self._result

    def _end(self, result=None, error: HostError | None = None) -> None:
        self.done, self._result, self._error = True, result, error


class Commands:
    """Sends commands, as many ahead as the mailbox holds, and takes replies.

    Parameters
    ----------
    transport
        Reaches the system.
    registers
        Its host-side map.
    patience
        Cycles to wait for a reply, or for a result packet; None leaves that to the transport.
    """

    def __init__(self, transport: Transport, registers: AddressMap, patience: int | None = None):
        self.transport, self.registers, self.patience = transport, registers, patience
        self._pending: deque[Ticket] = deque()
        self._tag = 0
        self._room = 0
        self._doubt = False
        self._latest: tuple[int, int] | None = None
        self._recovering = False

    def send(
        self,
        operation: Operation,
        sequence: int = 0,
        layer: int = 0,
        words: Sequence[int] = (),
        finish: Callable[[list[int], list], object] | None = None,
        *,
        packets: Sequence[bytes] = (),
        decode: Callable[[bytes], object] | None = None,
    ) -> Ticket:
        """Send a command and its input packets, without waiting for its reply.

        Parameters
        ----------
        words
            Those behind word 0.
        finish
            Makes the result from the reply's words and the answers; the result is None without it.
        packets
            Input packets that belong to the command.
        decode
            Makes an answer from a result packet, or raises ValueError; None if the command has none.
        """
        if self._doubt:
            self.wait_all()
        self._make_room()
        ticket = self._post(operation, sequence, layer, words, finish, decode)
        for packet in packets:
            self.transport.send(packet)
        return ticket

    def _post(self, operation, sequence=0, layer=0, words=(), finish=None, decode=None) -> Ticket:
        """Write a command into the mailbox, which has room."""
        ticket = Ticket(operation, sequence, layer)
        ticket._tag, ticket._words, ticket._decode, ticket._finish = self._tag, tuple(words), decode, finish
        message = [operation | sequence << 8 | layer << 16 | self._tag << 24, *words]
        accesses = [Access(self.registers.address("COMMAND", i), word) for i, word in enumerate(message)]
        accesses += [Access(self.registers.address("SEND"), len(message)), Access(self.registers.address("STATUS"))]
        self._room = self._decode_status(self.transport.execute(accesses)[0])["room"]
        self._tag = (self._tag + 1) % TAGS
        self._pending.append(ticket)
        return ticket

    def wait(self, ticket: Ticket):
        """What the command gave, once it is over; raises its error.

        Replies to commands before it are taken too, and kept in their tickets.

        Raises
        ------
        NoReplyError
            If its reply, or one before it, does not come in time.
        HostError
            What became of the command itself.
        """
        while not ticket.done:
            self._collect()
        return ticket.result

    def wait_all(self) -> None:
        """Wait for every command under way; their errors stay in their tickets. Raises NoReplyError."""
        while self._pending:
            self._collect()
        if self._doubt:
            self._drop_answers()

    def do(self, *arguments, **named):
        """:meth:`send`, then :meth:`wait`."""
        return self.wait(self.send(*arguments, **named))

    def recover(self) -> None:
        """After the host restarted the core: everything under way ends, and nothing of it is left in the streams.

        Works for what another host has left, too. Raises NoReplyError if the core does not answer.
        """
        self._recovering, self._room = True, 0
        try:
            self._await_core()
            self._clear_streams()
        finally:
            self._recovering = False

    # Parts ------------------------------------------------------------------------------------------------------------

    def _decode_status(self, word: int) -> dict[str, int]:
        return self.registers.decode("STATUS", word)

    def _status(self) -> dict[str, int]:
        return self._decode_status(self.transport.read(self.registers.address("STATUS")))

    def _make_room(self) -> None:
        """Until the mailbox can hold another command."""
        while self._room == 0:
            self._room = self._status()["room"]
            if self._room == 0:
                self._collect()

    def _collect(self) -> None:
        """Take the replies that are there, after waiting for one."""
        if not self.transport.wait(self.patience):
            self._fail()
        self._take_replies()

    def _fail(self) -> None:
        waiting = self._pending[0].operation.name if self._pending else "nothing"
        raise NoReplyError(f"{waiting}: the scheduler does not reply")

    def _take_replies(self) -> None:
        """Take the replies that are there."""
        status = self._status()
        while status["replies"]:
            accesses = [Access(self.registers.address("REPLY", i)) for i in range(status["words"])]
            accesses += [Access(self.registers.address("TAKE"), 1), Access(self.registers.address("STATUS"))]
            head, *words, status_word = self.transport.execute(accesses)
            self._settle(head, words)
            status = self._decode_status(status_word)

    def _settle(self, head: int, words: list[int]) -> None:
        """End the command that a reply belongs to; those before it, whose replies never came, are lost."""
        name, status, detail = (head & 0xFF, head >> 24), Status(head >> 8 & 0xFF), head >> 16 & 0xFF
        if all(ticket._name != name for ticket in self._pending):
            # A restart can make the firmware reply to a command twice.
            if self._recovering or (name == self._latest and status in _DOUBTFUL):
                self._doubt = True
                return
            raise HostError(f"a reply ({head:#010x}) belongs to no command")
        self._latest = name
        while (ticket := self._pending.popleft())._name != name:
            ticket._end(error=LostError(f"{ticket.operation.name}: the scheduler restarted and forgot it"))
            self._doubt = True
        if status in _DOUBTFUL:
            self._doubt = True
        where = (ticket.operation, ticket.sequence, ticket.layer)
        try:
            answers = self._answers(ticket, words)
        except HostError as error:
            self._doubt = True
            ticket._end(error=error)
            return
        if status is Status.OK:
            ticket._end(ticket._finish(words, answers) if ticket._finish else None)
            return
        error = command_error(status, *where, detail, ticket._words)
        error.answers = tuple(answers)
        ticket._end(error=error)

    def _answers(self, ticket: Ticket, words: list[int]) -> list:
        """The result packets of a command, decoded."""
        if ticket._decode is None or len(words) < ANSWERED_WORD:
            return []
        answers = []
        for _ in range(words[ANSWERED_WORD - 1]):
            try:
                answers.append(ticket._decode(self.transport.receive(self.patience)))
            except (NoPacketError, ValueError) as error:
                place = f"{ticket.operation.name} of sequence {ticket.sequence}, layer {ticket.layer}"
                raise HostError(f"{place}: {error}") from error
        return answers

    def _await_core(self) -> None:
        """Until INFO is replied to. Packets that steps wait for, and that never come, are made up."""
        ticket, fillers, quiet, unsent = None, 1, 0, 0
        while ticket is None or not ticket.done:
            if ticket is None and self._status()["room"]:
                ticket = self._post(Operation.INFO)
            if self.transport.wait(QUIET):
                self._take_replies()
                quiet = 0
                continue
            before, unsent = unsent, self.transport.unsent()
            quiet = quiet + 1 if unsent and unsent == before else 0
            if quiet * QUIET > (self.patience or PATIENCE):
                self._fail()
            if not unsent:
                self._make_up(fillers)
                fillers = min(2 * fillers, FILLERS)

    def _make_up(self, packets: int) -> None:
        for _ in range(packets):
            self.transport.send(bytes(self.transport.beat_bytes))

    def _clear_streams(self) -> None:
        """No step is under way: until no packet is awaited, none is on its way, and no answer either."""
        self._drop_answers()
        while not self.transport.unsent():
            self._make_up(1)
            self._drop_answers()
        while unsent := self.transport.unsent():
            # Those of a step that is refused are dropped.
            with suppress(BadSequenceError):
                self.do(Operation.STEP, NOBODY, 0, (min(unsent, STEP_LIMIT), 0, 0))
            self._drop_answers()
            if self.transport.unsent() >= unsent:
                raise HostError(f"{unsent} packets are not taken, although all commands are over")

    def _drop_answers(self) -> None:
        """Drop result packets that belong to nothing, once the unit has sent them."""
        self._doubt = False
        for _ in range(DROP_LIMIT):
            try:
                self.transport.receive(QUIET)
            except NoPacketError:
                if not self._status()["busy"]:
                    return
        raise HostError("the unit stays busy after an error, although all commands are over")
