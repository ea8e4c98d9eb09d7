"""The firmware's image: sizes for many systems, and what is refused."""

import pytest

from reluctant.firmware import build as module_folder
from reluctant.firmware.build import STACK_BYTES, FirmwareError, build
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

TEXT_LIMIT = 8192
SMALL = UnitConfig(lanes=4, head_dim=16, slots=32, heads=2, kv_heads=1)
LARGE = UnitConfig(lanes=16, head_dim=64, slots=65536, heads=32, kv_heads=32, profiles=4, position_bits=32)
ODD = UnitConfig(lanes=4, head_dim=36, slots=300, heads=15, kv_heads=5, profiles=7, mass_bits=32, job_queue=2)
BARE = UnitConfig(softmax=False, normalisers=())
SYSTEMS = {
    "default": SystemConfig(),
    "multiply": SystemConfig(multiply=True),
    "small": SystemConfig(unit=SMALL, sequences=1, memory=8192 * 2, messages=2),
    "large": SystemConfig(unit=LARGE, sequences=16, memory=65536),
    "large, multiply": SystemConfig(unit=LARGE, sequences=16, memory=65536, multiply=True),
    "odd": SystemConfig(unit=ODD, sequences=3),
    "odd, multiply": SystemConfig(unit=ODD, sequences=3, multiply=True),
    "bare": SystemConfig(unit=BARE, sequences=16),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_fits(name):
    config = SYSTEMS[name]
    firmware = build(config)
    assert firmware.text_bytes <= len(firmware.image) <= TEXT_LIMIT
    assert len(firmware.image) % 4 == 0
    assert 64 <= firmware.stack_bytes <= STACK_BYTES
    assert len(firmware.image) + firmware.data_bytes + STACK_BYTES <= config.memory


def test_the_same_system_gives_the_same_image(tmp_path, monkeypatch):
    kept = build(SYSTEMS["odd"])
    for name in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        assert build(SYSTEMS["odd"]) == kept


def test_systems_have_their_own_images():
    images = {build(config).image for config in SYSTEMS.values()}
    assert len(images) == len(SYSTEMS)


def test_what_does_not_fit_is_refused():
    config = SystemConfig(unit=LARGE, sequences=16, memory=16384)
    with pytest.raises(FirmwareError, match=r"needs [\d,]+ bytes of memory .* memory is 16,384"):
        build(config)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("main.c", "state.waiting = 0;", "state.waiting = nothing;", "undeclared identifier 'nothing'"),
        ("main.c", "state.waiting = 0;", "int unused; state.waiting = 0;", "unused variable"),
        ("main.c", "struct state state;", "struct state state = {.restarts = 7};", "initial values"),
        ("main.c", "state.waiting = 0;", "volatile uint32_t a[99]; a[state.waiting] = 0;", "are reserved"),
    ],
)
def test_what_cannot_run_is_refused(file, old, new, complaint, tmp_path, monkeypatch):
    folder = tmp_path / "firmware"
    folder.mkdir()
    for path in module_folder.FOLDER.iterdir():
        if path.suffix in (".c", ".h", ".S", ".ld"):
            (folder / path.name).write_text(path.read_text())
    source = (folder / file).read_text()
    assert old in source
    (folder / file).write_text(source.replace(old, new))
    monkeypatch.setattr(module_folder, "FOLDER", folder)
    with pytest.raises(FirmwareError, match=complaint):
        build(SystemConfig())


def test_a_missing_compiler_is_named(monkeypatch):
    def missing(name):
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(FirmwareError, match=r"pip install 'reluctant\[firmware\]'"):
        build(SystemConfig())
