"""The bench map: strict, by full ids, from tinyhil's file or from twister's."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.bench.map import (
    Place,
    find_place,
    parse_map,
    parse_twister,
    places_of,
    read_map,
    write_map,
)

FILE = Path("/bench/tinyhil-map.toml")

TWO = """
[boards.left]
kind = "stm32f746"
probe = "066BFF373541"
serial = "usb:066BFF373541"
power = "uhubctl -l 1-1 -p 2 -a cycle"

[boards.right]
kind = "stm32f767"
probe = "066BFF373542"
serial = "ports/right"
"""


def test_a_map_names_boards_by_probe_port_and_power() -> None:
    left, right = parse_map(TWO, FILE)
    assert left == Place(
        "left", "stm32f746", "066BFF373541", "usb:066BFF373541",
        ("uhubctl", "-l", "1-1", "-p", "2", "-a", "cycle"),
    )  # fmt: skip
    assert right.serial == "/bench/ports/right"
    assert places_of((left, right), "stm32f767") == (right,)


def test_a_missing_file_is_an_empty_bench(tmp_path: Path) -> None:
    assert read_map(tmp_path / "tinyhil-map.toml") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boards = 3", "not a table"),
        ("[board.left]", "unknown key 'board'"),
        ("[boards.left]\nkind = 'stm32f746'", "probe is missing"),
        ("[boards.left]\nkind = 'a'\nprobe = 'b'\nspeed = 3", "unknown key 'speed'"),
        ("[boards.left]\nkind = 'a'\nprobe = '../b'", "not a unique id"),
        ("[boards.left]\nkind = 'a'\nprobe = 'b'\npower = 3", "must be a command"),
        ("[boards.left]\nkind = 'a'\nprobe = 'b'\npower = 'x \"'", "quotation"),
        ("[boards.left]\nkind = 'a'\nprobe = 'b'\nemulated = 'no'", "true or false"),
        ("[boards.left]\nkind = 'a'\nprobe = 'b'\ntransport = 'ftdi'", "none of serial, rtt"),
        ("[boards.left", "not valid TOML"),
        ("[boards.a]\nkind='k'\nprobe='b'\n[boards.c]\nkind='k'\nprobe='b'", "the same probe 'b'"),
    ],
)
def test_what_is_wrong_with_a_map_is_said_with_its_file(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        parse_map(text, FILE)
    assert str(FILE) in str(error.value)


def test_a_board_is_found_by_name_or_full_id_only() -> None:
    places = parse_map(TWO, FILE)
    assert find_place(places, "066BFF373542").name == "right"
    with pytest.raises(UsageError, match=r"no board '066BFF37354'.*left, right"):
        find_place(places, "066BFF37354")


TWISTER = """
- connected: true
  id: 066BFF373541
  platform: stm32f746g_disco
  product: STM32 STLink
  runner: openocd
  serial: /dev/ttyACM0
- connected: true
  id: 066BFF373542
  probe_id: 066BFF373549
  platform: nucleo_h743zi/stm32h743xx
  serial_pty: /tmp/pty
- connected: false
  id: 1
  platform: nucleo_f767zi
- connected: true
  id: 2
  platform: nrf52840dk
"""


def test_a_twister_map_is_accepted() -> None:
    first, second = parse_twister(TWISTER, Path("map.yaml"))
    assert (first.kind, first.probe, first.serial) == ("stm32f746", "066BFF373541", "/dev/ttyACM0")
    assert (second.kind, second.probe, second.serial) == ("stm32h743", "066BFF373549", "/tmp/pty")


@pytest.mark.parametrize("text", ["{a: 1}", "[1, 2]", "- [", "x"])
def test_what_is_no_twister_map_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"map\.yaml"):
        parse_twister(text, Path("map.yaml"))


NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
PLACES = st.builds(
    Place,
    name=NAMES,
    kind=NAMES,
    probe=st.from_regex(r"[A-Za-z0-9_.:-]{1,24}", fullmatch=True),
    serial=st.from_regex(r"(usb:[A-Z0-9]{1,8}|/dev/[a-z0-9]{1,12}|COM[0-9]|)", fullmatch=True),
    power=st.lists(NAMES, max_size=3).map(tuple),
    emulated=st.booleans(),
    transport=st.sampled_from(["", "serial", "rtt"]),
)


@settings(max_examples=40)
@given(st.lists(PLACES, max_size=4, unique_by=(lambda p: p.name, lambda p: p.probe, lambda p: p.serial)))
def test_what_is_written_is_read_back(places: list[Place]) -> None:
    assert parse_map(write_map(places), FILE) == tuple(places)


@settings(max_examples=40)
@given(st.text(max_size=80))
def test_any_text_is_a_map_or_a_usage_error(text: str) -> None:
    for parse in (parse_map, parse_twister):
        with contextlib.suppress(UsageError):
            parse(text, FILE)
