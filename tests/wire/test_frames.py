"""Frames survive any splitting, any garbage around them, and never raise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.harness.wire import MAX_PAYLOAD, Damaged, Decoder, Frame, Text, encode

frames = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=300) | st.just(bytes(MAX_PAYLOAD))
)


def decode(data: bytes, pieces: int = 1) -> list[object]:
    decoder, events = Decoder(), []
    step = max(1, len(data) // pieces)
    for start in range(0, len(data), step):
        events += decoder.feed(data[start : start + step])
    return [*events, *decoder.flush()]


@given(st.lists(frames, max_size=5), st.integers(1, 50))
def test_what_is_encoded_comes_back_however_it_is_cut(sent: list[Frame], pieces: int) -> None:
    assert decode(b"".join(map(encode, sent)), pieces) == sent


@given(st.binary(max_size=4000), st.integers(1, 20))
def test_no_bytes_make_it_raise_and_none_get_lost(data: bytes, pieces: int) -> None:
    heard = 0
    for event in decode(data, pieces):
        if isinstance(event, Damaged):
            heard += len(event.data)
        elif isinstance(event, Text):
            heard += len(event.text.encode())
    assert heard == len(data) - data.count(0)


@given(st.binary(max_size=3000), frames)
def test_it_finds_the_next_frame_after_any_garbage(garbage: bytes, frame: Frame) -> None:
    assert decode(garbage + encode(frame))[-1] == frame


@given(frames, st.data())
def test_one_changed_byte_is_never_a_frame(frame: Frame, data: st.DataObject) -> None:
    line = bytearray(encode(frame))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    heard = [event for event in decode(bytes(line)) if isinstance(event, Frame)]
    # Only the delimiters around a frame may change without hurting it.
    assert heard in ([], [frame])
    if 0 < place < len(line) - 1:
        assert heard == []


@given(frames, st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=80))
@settings(max_examples=50)
def test_readable_text_passes_between_frames(frame: Frame, text: str) -> None:
    line = text + "\r\n"
    assert decode(line.encode() + encode(frame) + line.encode()) == [Text(line), frame, Text(line)]


def test_an_endless_line_without_a_delimiter_is_given_out_and_not_kept() -> None:
    decoder = Decoder()
    given_out = sum(len(e.text) for _ in range(1000) for e in decoder.feed(b"a" * 100) if isinstance(e, Text))
    assert given_out > 98_000


@pytest.mark.parametrize("frame", [Frame(256, 0), Frame(0, 65536), Frame(0, 0, bytes(MAX_PAYLOAD + 1))])
def test_what_fits_no_frame_is_refused(frame: Frame) -> None:
    with pytest.raises(ValueError, match="fit no frame"):
        encode(frame)
