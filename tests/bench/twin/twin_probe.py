"""A debug probe for pyOCD whose wire ends in an emulated board, of this process or of another one.

pyOCD finds it through its own plug-in mechanism (the dist-info folder beside this file): whoever has
this folder on PYTHONPATH has the probe. Boards of another process are reached through
`$TINYHIL_TWINS/<id>.sock`; see twin_server.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from pyocd.core import exceptions
from pyocd.core.plugin import Plugin
from pyocd.probe.debug_probe import DebugProbe
from twin_swd import BOARDS, Faulted, Gone, InUse, NoAck


class RemotePort:
    """The SwdPort of another process, with the same methods."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._line: Connection | None = None

    def open(self) -> None:
        """Claims the probe; it is free again when this process closes it or dies."""
        try:
            self._line = Client(str(self._path), "AF_UNIX")
        except OSError:
            raise Gone from None
        try:
            self._ask("open")
        except (InUse, Gone):
            self._line.close()
            raise

    def close(self) -> None:
        """Gives the probe back, and knows that it is given back."""
        if self._line is not None:
            with suppress(Gone):
                self._ask("close")
            self._line.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._ask(name, *arguments)

    def _ask(self, name: str, *arguments: Any) -> Any:
        assert self._line is not None
        try:
            self._line.send((name, arguments))
            good, value = self._line.recv()
        except (OSError, EOFError):
            raise Gone from None
        if good:
            return value
        raise {"NoAck": NoAck, "Faulted": Faulted, "Gone": Gone, "InUse": InUse}[value]


def _connected() -> dict[str, Any]:
    ports: dict[str, Any] = dict(BOARDS)
    folder = os.environ.get("TINYHIL_TWINS")
    if folder:
        ports.update({path.stem: RemotePort(path) for path in Path(folder).glob("*.sock")})
    return ports


class TwinProbe(DebugProbe):
    """What pyOCD asks of a probe, passed on to the board's debug port."""

    is_emulated = True  # the harness never shows cycles that come through such a probe

    def __init__(self, uid: str, port: Any) -> None:
        super().__init__()
        self._uid, self._port = uid, port
        self._open = self._low = False
        self._protocol: DebugProbe.Protocol | None = None

    @classmethod
    def get_all_connected_probes(cls, unique_id: Any = None, is_explicit: bool = False) -> list[TwinProbe]:
        return [cls(uid, port) for uid, port in _connected().items()]

    @classmethod
    def get_probe_with_id(cls, unique_id: str, is_explicit: bool = False) -> TwinProbe | None:
        port = _connected().get(unique_id)
        unplugged = port is not None and unique_id in BOARDS and port.board.faults.unplugged
        return cls(unique_id, port) if port is not None and not unplugged else None

    vendor_name = "tinyhil"
    product_name = "emulated STM32"
    supported_wire_protocols = (DebugProbe.Protocol.DEFAULT, DebugProbe.Protocol.SWD)
    capabilities = frozenset({DebugProbe.Capability.SWJ_SEQUENCE})

    @property
    def unique_id(self) -> str:
        return self._uid

    @property
    def wire_protocol(self) -> DebugProbe.Protocol | None:
        return self._protocol

    @property
    def is_open(self) -> bool:
        return self._open

    def open(self) -> None:
        with _pyocd_words(self._uid):
            self._port.open()
        self._open = True

    def close(self) -> None:
        if self._open:
            self._open = False
            self._port.close()

    def connect(self, protocol: Any = None) -> None:
        self._protocol = DebugProbe.Protocol.SWD

    def disconnect(self) -> None:
        self._protocol = None

    def set_clock(self, frequency: float) -> None:
        pass

    def flush(self) -> None:
        pass

    def swj_sequence(self, length: int, bits: int) -> None:
        with _pyocd_words(self._uid):
            self._port.swj_sequence(length, bits)

    def reset(self) -> None:
        self.assert_reset(True)
        self.assert_reset(False)

    def assert_reset(self, asserted: bool) -> None:
        self._low = asserted
        with _pyocd_words(self._uid):
            self._port.set_reset(asserted)

    def is_reset_asserted(self) -> bool:
        return self._low

    def read_dp(self, addr: int, now: bool = True) -> Any:
        return self._read(now, lambda: self._port.read_dp(addr))

    def write_dp(self, addr: int, data: int) -> None:
        with _pyocd_words(self._uid):
            self._port.write_dp(addr, data)

    def read_ap(self, addr: int, now: bool = True) -> Any:
        return self._read(now, lambda: self._port.read_ap(addr, 1)[0])

    def read_ap_multiple(self, addr: int, count: int = 1, now: bool = True) -> Any:
        return self._read(now, lambda: self._port.read_ap(addr, count))

    def write_ap(self, addr: int, data: int) -> None:
        self.write_ap_multiple(addr, [data])

    def write_ap_multiple(self, addr: int, values: Any) -> None:
        with _pyocd_words(self._uid):
            self._port.write_ap(addr, list(values))

    def _read(self, now: bool, transfer: Callable[[], Any]) -> Any:
        """A deferred read happens now, in order; what it gave comes out of the callback."""
        try:
            with _pyocd_words(self._uid):
                value = transfer()
        except exceptions.Error as error:
            if now:
                raise
            failed = error

            def fail() -> None:
                raise failed

            return fail
        return value if now else lambda: value


@contextmanager
def _pyocd_words(uid: str) -> Any:
    try:
        yield
    except Gone:
        raise exceptions.ProbeDisconnected(f"probe {uid} has been unplugged") from None
    except InUse:
        raise exceptions.ProbeError(f"probe {uid}: resource busy") from None
    except NoAck:
        raise exceptions.TransferError("no ACK received") from None
    except Faulted:
        raise exceptions.TransferFaultError from None


class TwinProbePlugin(Plugin):
    """The entry point."""

    @property
    def name(self) -> str:
        return "twin"

    @property
    def description(self) -> str:
        return "emulated STM32 boards"

    def load(self) -> type[TwinProbe]:
        return TwinProbe
