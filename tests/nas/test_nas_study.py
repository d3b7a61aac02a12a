"""Several searches as one table: what is asked, compared and said, and what is not done twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import click.testing
import pytest

pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")

from tinyhil.errors import UsageError
from tinyhil.harness.boards import get_board
from tinyhil.harness.sweep.workers import Workers
from tinyhil.nas import study
from tinyhil.nas.commands import parse_numbers, search
from tinyhil.nas.deliver import INT8, Form
from tinyhil.nas.search import Effort
from tinyhil.nas.session import Request
from tinyhil.nas.space import NothingFits
from tinyhil.nas.study import FREE, Case, Row, apart, draw, equal_flash, frame_rates, keep, table

REQUEST = Request(
    "nucleo-l4r5zi", "tinyengine", "digits", 65536, 262144, 5.0, None, seed=3, quick=True, emulate=True
)
CLOCK = get_board("nucleo-l4r5zi").clock_hz


class Straw:
    """Runs of cases: a network takes half of the time it may, or a fiftieth of a second where it is free."""

    def __init__(self) -> None:
        self.asked: list[tuple[Case, int]] = []

    def __call__(self, case: Case, seed: int) -> list[Row]:
        self.asked.append((case, seed))
        limit = case.request.milliseconds
        time = round(CLOCK * (0.02 if limit is None else 0.5e-3 * limit))
        shares = {"winner": 0.9, "random": 0.85, "mobilenetv2": 0.8}
        return [
            Row(
                case.name, seed, name, share - 0.01 * seed, time, "cycles_est", 9000, 60_000, 20_000, "", "r8"
            )
            for name, share in shares.items()
        ]


def test_a_frame_rate_that_all_networks_reach_anyway_is_no_limit_and_is_not_searched() -> None:
    run = Straw()
    rows = frame_rates(REQUEST, (5, 10, 100), (0, 1), run)
    assert [(case.name, seed) for case, seed in run.asked] == [
        (FREE, 0), ("100 FPS", 0), (FREE, 1), ("100 FPS", 1)
    ]  # fmt: skip
    assert [case.request.milliseconds for case, _ in run.asked[:2]] == [None, 10.0]
    assert list(dict.fromkeys(row.case for row in rows)) == [FREE, "5 FPS", "10 FPS", "100 FPS"]
    assert "5 FPS, 10 FPS: no limit here" in table(rows)


def test_eight_and_four_bits_share_a_budget_of_flash_and_everything_else() -> None:
    run = Straw()
    equal_flash(REQUEST, (65536,), (0,), run)
    eight, four = (case.request for case, _ in run.asked)
    assert (eight.form, four.form) == (Form(8, trained=True, prefer="flash"), Form(4, True, "flash"))
    assert eight.milliseconds is None
    assert eight == replace(four, form=eight.form)
    assert [case.name for case, _ in run.asked] == ["64 KiB, int8", "64 KiB, int4"]


def test_the_table_gives_mean_and_spread_and_says_what_cannot_be_told_apart() -> None:
    rows = [row for seed in (0, 1, 2) for row in Straw()(Case(FREE, REQUEST), seed)]
    text = table(rows)
    assert "| no limit | winner | 89.0% (88.0% to 90.0%) |" in text
    assert apart(rows)[0].startswith("no limit: winner minus random +5.0 points, 90 % interval +5.0 to +5.0")
    noisy = [
        replace(row, accuracy=row.accuracy + (0.1 * (row.seed - 1) if row.network == "random" else 0))
        for row in rows
    ]
    # Differences of 15, 5 and -5 points: mean 5, deviation 10, 2.92 * 10 / sqrt(3) to either side.
    assert apart(noisy)[0].endswith("+5.0 points, 90 % interval -11.9 to +21.9 (not told apart)")
    assert "interval" not in apart(rows[:3])[0]
    late = [replace(rows[0], beyond="run time 9 where 8 are allowed")]
    assert "winner is beyond: run time 9" in table(late)


def test_rows_are_kept_and_drawn_with_what_they_stand_on(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib (pymoo brings it)")
    matplotlib.rcParams["svg.fonttype"] = "none"
    rows = [row for seed in (0, 1) for row in Straw()(Case(FREE, REQUEST), seed)]
    csv, markdown = keep(rows, tmp_path, "seeds", "digits on a board")
    assert csv.read_text().splitlines()[1] == "no limit,0,winner,0.9,300000,cycles_est,9000,60000,20000,,r8"
    assert markdown.read_text().startswith("digits on a board\n")
    picture = draw(rows, tmp_path / "seeds.svg", "digits on a board").read_text()
    assert all(text in picture for text in ("digits on a board", "winner", "mobilenetv2", FREE))


def test_a_search_that_has_ended_is_not_begun_again_unless_something_else_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, Path | None]] = []

    def straw(
        request: Request, folder: Path, workers: object, say: object, effort: object, shared: Path | None
    ) -> None:
        begun.append((request.seed, shared))
        folder.mkdir(parents=True, exist_ok=True)
        card = {
            "name": "winner", "test_accuracy_int8": 0.5, "run_time": 7, "unit": "cycles_est", "peak_ram": 1,
            "flash": 2, "weights": 3, "beyond_the_budget": "", "architecture": "r8",
        }  # fmt: skip
        others = {**card, "name": "winner-int4"}
        (folder / "card.json").write_text(json.dumps({"networks": [card, others]}))

    monkeypatch.setattr(study, "run_search", straw)
    workers = cast(Workers, None)
    for effort in (Effort(), Effort(), Effort(tuning=9)):
        run = study.Searches(tmp_path, effort, workers, lambda text: None, share=True)
        found = run(Case("64 KiB, int8", REQUEST), 2)
    assert found == [Row("64 KiB, int8", 2, "winner", 0.5, 7, "cycles_est", 1, 2, 3, "", "r8")]
    assert begun == [(2, tmp_path / "seed-2")] * 2, "the second time everything was there"


def test_a_budget_that_nothing_fits_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (pymoo brings it)")

    def straw(request: Request, *rest: object) -> None:
        raise NothingFits("the nearest network takes 9")

    monkeypatch.setattr(study, "run_search", straw)
    paths = study.trained_figures(
        REQUEST, (5,), (65536,), 1, tmp_path, cast(Workers, None), lambda text: None, Effort()
    )
    assert {path.suffix for path in paths} == {".csv", ".md", ".svg"}
    said = (tmp_path / "frame-rates.md").read_text()
    assert "5 FPS, seed 3: the nearest network takes 9" in said
    assert "64 KiB, int4, seed 3: the nearest" in (tmp_path / "equal-flash.md").read_text()


def test_frame_rates_are_read_and_nonsense_is_refused() -> None:
    assert parse_numbers("5,10,12.5") == [5, 10, 12.5]
    for wrong in ("", "5,,10", "fast", "0", "-5", "nan", "inf"):
        with pytest.raises(UsageError):
            parse_numbers(wrong)


def test_the_command_asks_for_what_its_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Request, int]] = []

    def compared(request: Request, seeds: int, *rest: object) -> list[Path]:
        asked.append((request, seeds))
        return []

    monkeypatch.setattr(study, "seeds_compared", compared)
    line = [
        "--data",
        "digits",
        "--quick",
        "--latency",
        "5ms",
        "--seeds",
        "3",
        "--qat",
        "--out",
        str(tmp_path),
    ]
    done = click.testing.CliRunner().invoke(search, line)
    assert done.exit_code == 0, done.output
    request, seeds = asked[0]
    assert (seeds, request.milliseconds, request.form) == (3, 5.0, Form(trained=True))
    assert Form() == INT8


def test_ctrl_c_ends_with_a_word_on_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*rest: object) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "seeds_compared", stopped)
    done = click.testing.CliRunner().invoke(search, ["--quick", "--seeds", "2", "--out", str(tmp_path)])
    assert done.exit_code == 130
    assert f"kept in {tmp_path}; the same command goes on from there" in done.output
    assert "Traceback" not in done.output
