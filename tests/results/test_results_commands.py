"""Commands that read and write the store: what to compare with, records out and in again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click.testing
import pytest

from tinyhil.cli import cli
from tinyhil.results.store import Store


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with one commit on the branch `main`."""
    monkeypatch.chdir(tmp_path)
    for words in (
        ("init", "-q", "-b", "main"),
        ("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "first"),
    ):
        subprocess.run(["git", *words], check=True, capture_output=True)
    return tmp_path


def tinyhil(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, words)


def store(project: Path) -> Store:
    return Store.open(project / ".tinyhil" / "results.db")


def test_a_revision_may_be_a_branch_and_its_uncommitted_states_are_left_out(project: Path, make) -> None:
    said = subprocess.run(["git", "rev-parse", "main"], check=True, capture_output=True, text=True)
    commit = said.stdout[:12]
    with store(project) as opened:
        for flash, git in ((1000, commit), (5000, f"{commit}-dirty"), (1010, "")):
            opened.add(make(flash=flash, provenance={"git": git}))
    done = tinyhil("compare", "git:main", "--fail", "flash:0")
    assert done.exit_code == 1, done.output
    assert "flash of mlperf_kws by tinyengine on stm32f746 (qemu): 1,000 -> 1,010" in done.output
    assert tinyhil("compare", f"git:{commit[:7]}", "--fail", "flash:1%").exit_code == 0
    unmeasured = tinyhil("compare", "git:nothing")
    assert "which git does not know here" in str(unmeasured.exception)


def test_records_leave_in_pytest_benchmarks_shape_and_come_back_once(project: Path, make) -> None:
    with store(project) as opened:
        opened.add_all([make(), make(engine="tflm")])
        before = opened.query()
    assert tinyhil("export", "--pytest-benchmark", "bench.json", "--json", "all.json").exit_code == 0
    for words in ("2 added, 0 known, 2 in", "0 added, 2 known, 2 in"):
        done = tinyhil("import", "bench.json", "--store", "other.db")
        assert words in done.output, done.output
    assert "0 added, 4 known" in tinyhil("import", "bench.json", "all.json", "--store", "other.db").output
    with Store.open(project / "other.db") as opened:
        assert opened.query() == before


def test_what_is_not_there_to_compare_with_is_wrong_usage(project: Path, make) -> None:
    with store(project) as opened:
        opened.add(make())
    for base, words in (("nosuch", "no baseline 'nosuch'"), ("x.json", "no such file to compare with")):
        done = tinyhil("compare", base)
        assert words in str(done.exception)
        assert getattr(done.exception, "exit_code", None) == 2
