"""Registers at addresses: one address map of a SystemRDL source, elaborated with the sizes of a build."""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from amaranth.utils import ceil_log2
from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html.exporter import HTMLExporter
from systemrdl import RDLCompiler
from systemrdl.node import AddrmapNode, FieldNode, RegNode
from systemrdl.rdltypes import OnWriteType

__all__ = ["AddressMap", "Field", "Register"]


@dataclass(frozen=True)
class Field:
    """Bits ``low ... low + width - 1`` of a register.

    ``kind`` says who drives it: ``constant`` (never changes), ``status`` (hardware writes), ``storage`` (software
    writes), ``sticky`` (hardware sets, software clears by writing 1), ``pulse`` (an event when software writes 1) or
    ``event`` (when it writes anything). ``checked``: hardware remembers whether the latest write had bits above the
    field.
    """

    name: str
    low: int
    width: int
    reset: int
    kind: str
    signed: bool = False
    checked: bool = False

    @property
    def mask(self) -> int:
        """The field's bits within the register."""
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A register, or an array of them: element (i, j, ...) is ``address`` plus the indices times ``strides``.

    ``external`` registers live in a table outside of the register block.
    """

    name: str
    address: int
    fields: tuple[Field, ...]
    readable: bool
    writable: bool
    external: bool
    dimensions: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def field(self, name: str) -> Field:
        """The field called ``name``; raises KeyError."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"register {self.name} has no field {name!r}: {', '.join(f.name for f in self.fields)}")

    @property
    def count(self) -> int:
        """Elements of the array; 1 for a plain register."""
        count = 1
        for dimension in self.dimensions:
            count *= dimension
        return count


class AddressMap:
    """Addresses, fields and resets of a map's registers, and the files that software needs.

    Names are those of the source, with dots between levels: ``"JOB_N"``, ``"HEAD_TABLE.THETA"``, ``"BUSY_CYCLES.LO"``.
    Array registers take indices: ``address("HEAD_TABLE.THETA", profile, head)``. What was not built is absent.

    Parameters
    ----------
    source
        SystemRDL file.
    top
        The address map in it; other address maps of the file are no part of it.
    parameters
        Its parameters in this build, all of them.
    prefix
        What macros of the C header begin with.

    Attributes
    ----------
    registers
        Name to :class:`Register`, in order of address.
    counters
        Names of the counters that have a low and a high half, in order of address.
    address_width
        Bits of a byte address.
    """

    def __init__(self, source: Path, top: str, parameters: dict[str, int], prefix: str):
        self.source, self.top, self.parameters, self.prefix = source, top, parameters, prefix
        node, self.registers = self._elaborate()
        self.counters = tuple(name.removesuffix(".LO") for name in self.registers if name.endswith(".LO"))
        self.address_width = ceil_log2(node.size)

    def _elaborate(self) -> tuple[AddrmapNode, dict[str, Register]]:
        return _elaborate(self.source, self.top, tuple(self.parameters.items()))

    def register(self, name: str) -> Register:
        """The register called ``name``; raises KeyError with the names that exist."""
        try:
            return self.registers[name]
        except KeyError:
            raise KeyError(f"no register {name!r} in this build: {', '.join(self.registers)}") from None

    def fields(self, name: str) -> dict[str, Field]:
        """The fields of register ``name`` by name, from bit 0 up."""
        return {field.name: field for field in self.register(name).fields}

    def address(self, name: str, *indices: int) -> int:
        """Byte address of a register, or of one element of an array.

        Raises
        ------
        KeyError
            If there is no such register.
        IndexError
            If the number of indices, or one of them, does not fit the array.
        """
        register = self.register(name)
        if len(indices) != len(register.dimensions):
            raise IndexError(f"{name} takes {len(register.dimensions)} indices {register.dimensions}: got {indices}")
        for index, dimension in zip(indices, register.dimensions, strict=True):
            if not 0 <= index < dimension:
                raise IndexError(f"{name}{list(indices)}: {index} is not below {dimension}")
        return register.address + sum(i * stride for i, stride in zip(indices, register.strides, strict=True))

    def encode(self, name: str, **values: int) -> int:
        """The word with these field values, all others at their reset.

        Raises
        ------
        KeyError
            If a field does not exist.
        ValueError
            If a value does not fit its field.
        """
        register = self.register(name)
        fields = {register.field(key): value for key, value in values.items()}
        word = 0
        for field in register.fields:
            value = fields.get(field, field.reset)
            low = -(1 << (field.width - 1)) if field.signed else 0
            if not low <= value < 1 << field.width:
                raise ValueError(f"{name}.{field.name} is {value}: {field.width} bits are there")
            word |= (value << field.low) & field.mask
        return word

    def decode(self, name: str, word: int) -> dict[str, int]:
        """Field values of a word read from register ``name``; signed fields as signed integers."""
        values = {}
        for field in self.register(name).fields:
            value = (word & field.mask) >> field.low
            if field.signed and value >> (field.width - 1):
                value -= 1 << field.width
            values[field.name] = value
        return values

    def write_systemrdl(self, path: Path | str) -> None:
        """Write the SystemRDL source with this build's sizes as the defaults of its parameters."""
        text = self.source.read_text(encoding="utf-8")
        text = re.sub(rf"(?ms)^addrmap (?!{self.top} ).*?^}};\n", "", text)
        head, separator, body = text.partition(f"addrmap {self.top} #(")
        ports, close, rest = body.partition(") {")
        for name, value in self.parameters.items():
            ports, found = re.subn(rf"(\b{name} = )\d+", rf"\g<1>{value}", ports)
            assert found == 1, f"{self.source.name} declares {name} {found} times"
        Path(path).write_text(head + separator + ports + close + rest, encoding="utf-8")

    def write_header(self, path: Path | str) -> None:
        """Write the C header: sizes of the build, address offsets, field masks, and a structure of the registers."""
        path = Path(path)
        CHeaderExporter().export(self._elaborate()[0], str(path), reuse_typedefs=False)
        text = path.read_text(encoding="utf-8")
        include = "#include <stdint.h>\n"
        assert text.count(include) == 1, "peakrdl-cheader's output has changed"
        path.write_text(text.replace(include, include + "\n".join(self._definitions()) + "\n"), encoding="utf-8")

    def write_html(self, folder: Path | str) -> None:
        """Write the HTML reference; ``index.html`` in ``folder`` is its start."""
        # The exporter puts the time into addresses of its own files so that browsers load them anew: the hash does too.
        build = {"build_ts": self.parameters.get("HASH", 0)}
        HTMLExporter(generate_source_links=False, user_context=build).export(self._elaborate()[0], str(folder))

    def _definitions(self) -> list[str]:
        lines = [""]
        if "HASH" in self.parameters:
            lines += [
                "/* Sizes of this build. Compare CONFIG_HASH with the register of that name at start. */",
                f"#define {self.prefix}CONFIG_HASH {self.parameters['HASH']:#010x}u",
            ]
        lines += [f"#define {self.prefix}{name} {value}u" for name, value in self._sizes().items()]
        lines += [
            "",
            "/* Byte offsets from the base, for whole-word accesses through a volatile uint32_t pointer. The",
            "   structures below are packed: a compiler may split an access through them into bytes, and what one",
            "   write starts would then be started four times. */",
        ]
        return lines + [_offset_definition(self.prefix, register) for register in self.registers.values()]

    def _sizes(self) -> dict[str, int]:
        """Sizes that become macros of the header."""
        return {name: value for name, value in self.parameters.items() if name != "HASH"}


def _offset_definition(prefix: str, register: Register) -> str:
    name = prefix + "OFFSET_" + register.name.replace(".", "_")
    if not register.dimensions:
        return f"#define {name} {register.address:#x}u"
    arguments = [f"i{level}" for level in range(len(register.dimensions))]
    terms = "".join(f" + {s:#x}u * ({a})" for a, s in zip(arguments, register.strides, strict=True))
    return f"#define {name}({', '.join(arguments)}) ({register.address:#x}u{terms})"


@lru_cache(maxsize=32)
def _elaborate(source: Path, top: str, parameters: tuple) -> tuple[AddrmapNode, dict[str, Register]]:
    compiler = RDLCompiler()
    compiler.compile_file(str(source))
    node = compiler.elaborate(top, parameters=dict(parameters)).top
    registers = {}
    _collect(node, "", (), (), False, registers)
    return node, dict(sorted(registers.items(), key=lambda item: item[1].address))


def _collect(node, prefix, dimensions, strides, external, registers) -> None:
    """Add every register below ``node``, once per array, to ``registers``."""
    for child in node.children(unroll=False):
        sizes = tuple(child.array_dimensions or ())
        steps = []
        step = child.array_stride
        for size in reversed(sizes):
            steps.insert(0, step)
            step *= size
        name, outside = prefix + child.inst_name, external or child.external
        if isinstance(child, RegNode):
            registers[name] = _register(child, name, dimensions + sizes, strides + tuple(steps), outside)
        else:
            _collect(child, name + ".", dimensions + sizes, strides + tuple(steps), outside, registers)


def _register(node: RegNode, name, dimensions, strides, external) -> Register:
    return Register(
        name=name,
        address=node.raw_absolute_address,
        fields=tuple(_field(field) for field in node.fields()),
        readable=node.has_sw_readable,
        writable=node.has_sw_writable,
        external=external,
        dimensions=dimensions,
        strides=strides,
    )


def _field(node: FieldNode) -> Field:
    return Field(
        name=node.inst_name,
        low=node.low,
        width=node.width,
        reset=node.get_property("reset", default=0),
        kind=_kind(node),
        signed=bool(node.get_property("is_signed", default=False)),
        checked=bool(node.get_property("is_checked", default=False)),
    )


def _kind(node: FieldNode) -> str:
    if node.get_property("singlepulse"):
        return "event" if node.get_property("swmod") else "pulse"
    if node.get_property("onwrite") is OnWriteType.woclr:
        return "sticky"
    if node.is_sw_writable:
        return "storage"
    return "status" if node.is_hw_writable else "constant"
