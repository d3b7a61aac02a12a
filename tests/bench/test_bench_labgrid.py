"""labgrid places, through a stand-in for its client that keeps owners in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinyhil.errors import BenchError, BoardBusy, MissingTool
from tinyhil.harness.bench.labgrid import acquired
from tinyhil.harness.bench.map import Place
from tinyhil.harness.deadline import Deadline

PLACE = Place("left", "stm32f746", "A1", labgrid="desk-3")

CLIENT = """#!/bin/sh
# labgrid-client -p PLACE acquire|release
[ -f slow ] && exec sleep 20
case $3 in
acquire)
    if [ -f "$2" ]; then
        owner=$(cat "$2")
        [ "$owner" = me ] && { echo "You have already acquired this place" >&2; exit 1; }
        echo "place $2 has already been acquired by $owner" >&2; exit 1
    fi
    echo me > "$2" ;;
release) rm "$2" ;;
esac
"""


@pytest.fixture(autouse=True)
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "labgrid-client"
    file.write_text(CLIENT)
    file.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_a_place_is_ours_for_the_measurement_and_free_after_it(client: Path) -> None:
    with acquired(PLACE, Deadline.after(10)):
        assert (client / "desk-3").read_text() == "me\n"
    assert not (client / "desk-3").exists()


def test_it_is_released_after_an_error_too(client: Path) -> None:
    with pytest.raises(KeyError), acquired(PLACE, Deadline.after(10)):
        raise KeyError
    assert not (client / "desk-3").exists()


def test_what_was_ours_before_stays_ours(client: Path) -> None:
    (client / "desk-3").write_text("me\n")
    with acquired(PLACE, Deadline.after(10)):
        pass
    assert (client / "desk-3").exists()


def test_another_owner_is_named(client: Path) -> None:
    (client / "desk-3").write_text("lab/anna\n")
    with pytest.raises(BoardBusy, match="acquired by lab/anna"), acquired(PLACE, Deadline.after(10)):
        pass
    assert (client / "desk-3").read_text() == "lab/anna\n"


def test_a_coordinator_that_does_not_answer_is_not_waited_for_for_ever(client: Path) -> None:
    (client / "slow").touch()
    with (
        pytest.raises(BenchError, match="did not answer `acquire` in time"),
        acquired(PLACE, Deadline.after(0.3)),
    ):
        pass


def test_a_missing_client_says_how_to_get_it(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingTool, match="pipx install labgrid"), acquired(PLACE, Deadline.after(10)):
        pass


def test_a_board_of_no_place_needs_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with acquired(Place("right", "stm32f746", "A2"), Deadline.after(10)):
        pass
