"""The board's serial port: which one it is, and bytes through it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import serial
from serial.tools import list_ports

from tinyhil.errors import BenchError, BoardBusy
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline

_WRITE_TIMEOUT = 5.0  # seconds; a port that takes no byte for so long is dead


class SerialLine:
    """An open serial port as the wire's transport. EOFError once the port is gone."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port

    def write(self, data: bytes) -> None:
        """Sends all of `data`."""
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise EOFError(str(error)) from error

    def read(self, deadline: Deadline) -> bytes:
        """What has come, waiting until `deadline` for the first byte."""
        try:
            self._port.timeout = deadline.remaining()
            first: bytes = self._port.read(1)
            return first + bytes(self._port.read(self._port.in_waiting)) if first else b""
        except (serial.SerialException, OSError, TypeError) as error:  # TypeError: closed while reading
            raise EOFError(str(error)) from error

    def clear(self) -> None:
        """Forgets what has come so far: it is from before the reset."""
        with contextlib.suppress(serial.SerialException, OSError):
            self._port.reset_input_buffer()


def find_port(place: Place) -> str:
    """The path of the board's serial port; BenchError says which ports there are.

    By path, or by the USB serial number of the adapter, or of the probe. Never by a part of it.
    """
    if place.serial and not place.serial.startswith("usb:"):
        return place.serial
    wanted = place.serial.removeprefix("usb:") or place.probe.rpartition(":")[2]
    ports = list(list_ports.comports())
    found = sorted(port.device for port in ports if port.serial_number == wanted)
    if found:
        return found[0]  # the V3E with two ports has its target on the first
    there = ", ".join(f"{port.device} ({port.serial_number or 'no serial number'})" for port in ports)
    raise BenchError(
        f"{place.name}: no serial port whose USB serial number is {wanted}; there are: {there or 'none'}. "
        'Name one in the bench map: serial = "/dev/serial/by-id/..." or serial = "usb:NUMBER"'
    )


@contextlib.contextmanager
def open_port(place: Place, baud: int) -> Iterator[SerialLine]:
    """The board's port, open for this process alone."""
    path = find_port(place)
    try:
        port = _open(path, baud)
    except (serial.SerialException, OSError, ValueError) as error:
        raise _refused(place, path, str(error)) from error
    try:
        yield SerialLine(port)
    finally:
        with contextlib.suppress(serial.SerialException, OSError):
            port.close()


def _open(path: str, baud: int) -> serial.Serial:
    if path.startswith("rfc2217://"):  # it takes no write timeout: its socket has one of 5 s
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pyserial 3.5 names its thread the old way
            return serial.serial_for_url(path, baud, timeout=1)
    exclusive = None if "://" in path else True
    return serial.serial_for_url(path, baud, timeout=1, write_timeout=_WRITE_TIMEOUT, exclusive=exclusive)


def _refused(place: Place, path: str, said: str) -> BenchError:
    if "exclusively lock" in said or "busy" in said:
        return BoardBusy(
            f"{place.name}: another program has {path} open ({said}): a terminal, or a modem manager"
        )
    return BenchError(
        f"{place.name}: serial port {path} cannot be opened: {said}. Unplugged, or you are not in the group "
        "that owns it (dialout on Debian)"
    )
