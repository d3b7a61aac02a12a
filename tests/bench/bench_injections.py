"""How faults are brought onto an emulated bench. The list of them is in bench_faults.py."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Bench:
    """What an injection may reach: the emulated board, the map's entry for it, the user's project."""

    board: Any
    place: dict[str, Any]
    project: Path
    patch: pytest.MonkeyPatch
    plug_in: Callable[..., Any]
    write_map: Callable[[], None]
    run: Callable[..., Any]
    elf: Path = Path()
    undo: list[Callable[[], None]] = field(default_factory=list)

    @property
    def faults(self) -> Any:
        """The board's switchboard."""
        return self.board.faults


def switch(**faults: Any) -> Callable[[Bench], None]:
    """Sets switches of the board."""

    def inject(bench: Bench) -> None:
        for name, value in faults.items():
            setattr(bench.faults, name, value)

    return inject


def flashed(then: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """The same, on a board that already holds the firmware: all the time is the conversation's."""

    def inject(bench: Bench) -> None:
        _put_on(bench, bench.elf)
        then(bench)

    return inject


def _put_on(bench: Bench, elf: Path) -> None:
    from tinyhil.harness.targets.pyocd_chip import flash_segments

    for segment in flash_segments(elf):
        bench.board.poke(segment.address, segment.data)


def firmware_with(code: str) -> Callable[[Bench], None]:
    """The network's second layer is replaced by `code`. It is on the board already: see `flashed`."""

    def inject(bench: Bench) -> None:
        from dataclasses import replace

        from tinyhil.harness.tinyengine import engine

        generate = engine.TinyEngine.generate

        def broken(*arguments: Any) -> Any:
            sources = generate(*arguments)
            text = sources.files["network.c"]
            assert "    TH_LAYER(1);" in text
            files = {
                **sources.files,
                "network.c": text.replace("    TH_LAYER(1);", code + "\n    TH_LAYER(1);"),
            }
            return replace(sources, files=files)

        bench.patch.setattr(engine.TinyEngine, "generate", broken)
        _put_on(bench, _built(bench))

    return inject


def _built(bench: Bench) -> Path:
    """What `tinyhil run` is going to find built."""
    from tinyhil.harness.boards import get_board
    from tinyhil.harness.engines import get_engine
    from tinyhil.harness.measure import Case, Network
    from tinyhil.harness.runner import Runner
    from tinyhil.harness.settings import load_settings

    bench.write_map()
    case = Case(Network.load(Path("tiny.tflite")), get_engine("tinyengine"), get_board("stm32f746"))
    return Runner(load_settings(Path.cwd())).firmware(case).elf


# ---- frames


class Frames:
    """Changes whole frames on their way from the board; lone zero bytes pass."""

    def __init__(self, change: Callable[[int, bytes], bytes]) -> None:
        self._change, self._count = change, 0

    def __call__(self, data: bytes) -> bytes:
        if len(data) < 2:
            return data
        self._count += 1
        return self._change(self._count, data)


def reorder() -> Frames:
    """Every fifth frame comes behind the next one."""
    held: list[bytes] = []

    def change(count: int, data: bytes) -> bytes:
        if count % 5 == 0:
            held.append(data)
            return b""
        late = b"".join(held)
        held.clear()
        return data + late

    return Frames(change)


def noise(rate: float) -> Callable[[bytes], bytes]:
    """Each byte is another one with probability `rate`."""
    source = random.Random(1)
    return lambda data: bytes(source.randrange(256) if source.random() < rate else byte for byte in data)


def garbage() -> Callable[[bytes], bytes]:
    """Every byte is another one. Each burst ends in a zero, as noise does sooner or later: until then nothing
    tells it from silence."""
    change = noise(1.0)
    return lambda data: change(data) + b"\0"


def transmit(make: Callable[[], Callable[[bytes], bytes]]) -> Callable[[Bench], None]:
    """Puts a fresh change of the line in."""
    return lambda bench: setattr(bench.faults, "transmit", make())


def asked_again_soon(then: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """The host repeats a request sooner: what is lost on purpose costs less of the suite's time."""

    def inject(bench: Bench) -> None:
        from tinyhil.harness.targets import hardware

        bench.patch.setattr(hardware, "_RETRY", 0.1)
        then(bench)

    return inject


# ---- injections that take more than a switch


MIDDLE = 4  # frames until the conversation is surely under way: boot and hello take up to three


def unplug_while_running(bench: Bench) -> None:
    """Probe and serial port share one cable."""

    def pull(count: int, data: bytes) -> bytes:
        if count == MIDDLE:
            bench.faults.unplugged = bench.faults.silent = True
        return data

    bench.faults.transmit = Frames(pull)


def unplug_after_two_requests(bench: Bench) -> None:
    """The probe goes while the host talks through it."""
    from tinyhil.harness.targets.pyocd_rtt import RttLine

    write, sent = RttLine.write, []

    def pull(line: RttLine, data: bytes) -> None:
        sent.append(data)
        bench.faults.unplugged = len(sent) > 2
        write(line, data)

    bench.patch.setattr(RttLine, "write", pull)


def brown_out(bench: Bench) -> None:
    """The supply breaks down whenever the board has sent a few frames."""

    def sag(count: int, data: bytes) -> bytes:
        if count % 4 == 0:
            bench.board.brown_out()
        return data

    bench.faults.transmit = Frames(sag)


def port_vanishes(bench: Bench) -> None:
    """The USB bridge goes away in the middle of the conversation."""

    def vanish(count: int, data: bytes) -> bytes:
        if count == MIDDLE:
            os.close(bench.board.peripherals._master)
            bench.board.peripherals._master = os.open(os.devnull, os.O_RDWR)
        return data

    bench.faults.transmit = Frames(vanish)


def port_is_open_elsewhere(bench: Bench) -> None:
    import serial

    port = serial.Serial(bench.board.port, exclusive=True)
    bench.undo.append(port.close)


def port_is_missing(bench: Bench) -> None:
    bench.place["serial"] = "/dev/tinyhil-no-such-port"


def wrong_baud(bench: Bench) -> None:
    """The host opens the port at another speed than the firmware's."""
    from tinyhil.harness.targets import hardware_line

    opened = hardware_line.open_port
    bench.patch.setattr(hardware_line, "open_port", lambda place, baud: opened(place, 115_200))


def erase_does_nothing(bench: Bench) -> None:
    """On a sector that is all zeros, so that not a bit can be set."""
    bench.board.poke(0x0800_0000, bytes(0x8000))
    bench.faults.erase_does_nothing = True


def stale_firmware(bench: Bench) -> None:
    """Somebody flashed something else since; its build id happens to stand where ours would."""
    address = 0x0800_0000 + 64
    bench.board.poke(address, b"\0" * 16)


def second_board(bench: Bench) -> None:
    """One of two boards of a kind is held by another process; the other one serves."""
    from tinyhil.harness.bench import lock
    from tinyhil.harness.bench.map import Place

    held = lock.locked([Place("first", "stm32f746", bench.place["probe"])], lock.Deadline.after(1))
    held.__enter__()
    bench.undo.append(lambda: held.__exit__(None, None, None))
    other, _ = bench.plug_in("T2")
    bench.place["second"] = other


def board_is_held(bench: Bench) -> None:
    from tinyhil.harness.bench import lock
    from tinyhil.harness.bench.map import Place

    held = lock.locked([Place("first", "stm32f746", bench.place["probe"])], lock.Deadline.after(1))
    held.__enter__()
    bench.undo.append(lambda: held.__exit__(None, None, None))


def power(command: list[str], **faults: Any) -> Callable[[Bench], None]:
    """A power command, and faults that resets do not mend."""

    def inject(bench: Bench) -> None:
        bench.place["power"] = command
        switch(**faults)(bench)

    return inject


def power_that_helps(bench: Bench) -> None:
    """The command only runs; the twin's own supply is switched when the harness calls it."""
    from tinyhil.harness.targets import hardware

    run = hardware.subprocess.run

    def cycle(command: Any, **options: Any) -> Any:
        done = run(command, **options)
        bench.board.power_cycle()
        return done

    bench.patch.setattr(hardware.subprocess, "run", cycle)
    power(["true"], silent=True, heals_at_power=True)(bench)


def disk_is_full(bench: Bench) -> None:
    """The kernel refuses every byte beyond what the results file has now."""
    from tinyhil.results.store import Store

    add = Store.add

    def full(store: Store, record: Any) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            return add(store, record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    bench.patch.setattr(Store, "add", full)
