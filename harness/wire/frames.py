"""Frames on a byte stream: COBS between zero bytes, CRC-32 inside. Pure; docs/wire.md has a picture.

Bytes between frames that are no frame are text for people; anything else is reported as damaged.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TypeAlias

from cobs import cobs

MAX_PAYLOAD = 1024
_HEADER = struct.Struct("<BHH")  # type, sequence number, payload length
_TRAILER = struct.Struct("<I")  # CRC-32 of header and payload
_MAX_BODY = _HEADER.size + MAX_PAYLOAD + _TRAILER.size
_MAX_ENCODED = _MAX_BODY + _MAX_BODY // 254 + 1


@dataclass(frozen=True)
class Frame:
    """One good frame. `type` 0-255, `seq` 0-65535, `payload` up to `MAX_PAYLOAD` bytes."""

    type: int
    seq: int
    payload: bytes = b""


@dataclass(frozen=True)
class Text:
    """Readable text outside of frames, as the firmware or a boot loader printed it."""

    text: str


@dataclass(frozen=True)
class Damaged:
    """Bytes that are neither a frame nor text: a frame that was hurt on its way."""

    data: bytes
    reason: str


Event: TypeAlias = Frame | Text | Damaged


def encode(frame: Frame) -> bytes:
    """The frame's bytes on the line; ValueError if a field does not fit its place."""
    if not (0 <= frame.type <= 0xFF and 0 <= frame.seq <= 0xFFFF and len(frame.payload) <= MAX_PAYLOAD):
        raise ValueError(f"type {frame.type}, number {frame.seq} or {len(frame.payload)} bytes fit no frame")
    body = _HEADER.pack(frame.type, frame.seq, len(frame.payload)) + frame.payload
    stuffed: bytes = cobs.encode(body + _TRAILER.pack(zlib.crc32(body)))
    return b"\0" + stuffed + b"\0"


class Decoder:
    """Turns bytes, in pieces of any size, into events. Holds at most one frame, and never raises."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        *whole, rest = data.split(b"\0")
        for piece in whole:
            self._pending += piece
            events += self._close()
        self._pending += rest
        if len(self._pending) > _MAX_ENCODED:  # no frame is that long, so it can go out at once
            events += self._close()
        return events

    def flush(self) -> list[Event]:
        """What is left when the stream has ended, such as a last line of text."""
        return self._close()

    def _close(self) -> list[Event]:
        data = bytes(self._pending)
        self._pending.clear()
        return [_classify(data)] if data else []


def _classify(data: bytes) -> Event:
    frame = _frame(data)
    if isinstance(frame, Frame):
        return frame
    text = _text(data)
    return Damaged(data, frame) if text is None else Text(text)


def _frame(data: bytes) -> Frame | str:
    """The frame in `data`, or why there is none."""
    try:
        raw = cobs.decode(data)
    except cobs.DecodeError:
        return "broken byte stuffing: bytes were lost or changed"
    if len(raw) < _HEADER.size + _TRAILER.size:
        return "too short for a frame"
    body = raw[: -_TRAILER.size]
    if _TRAILER.unpack(raw[-_TRAILER.size :])[0] != zlib.crc32(body):
        return "wrong checksum: bytes were lost or changed"
    kind, seq, length = _HEADER.unpack_from(body)
    if length != len(body) - _HEADER.size or length > MAX_PAYLOAD:
        return f"says {length} bytes, has {len(body) - _HEADER.size}"
    return Frame(kind, seq, body[_HEADER.size :])


def _text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in "\t\r\n\x1b" for char in text) else None
