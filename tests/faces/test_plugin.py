"""`pytest --board=stm32f746`: the plug-in in a user's project, with the real compiler and emulator."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from tiny import tiny_tflite

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    (pytester.path / "models").mkdir()
    (pytester.path / "models" / "tiny.tflite").write_bytes(tiny_tflite())
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def test_each_model_file_becomes_a_test_and_the_report_is_the_last_line(project: pytest.Pytester) -> None:
    result = run(project, "--board=stm32f746", "--hil-json=out.json", "models")
    result.assert_outcomes(passed=1)
    report = Path(result.outlines[-1])
    assert report.read_text().lstrip().lower().startswith("<!doctype html>")
    (record,) = json.loads((project.path / "out.json").read_text())
    assert record["correct"]["bit_exact"]
    assert record["instructions"] > 0
    assert record["kind"] == "counted"
    assert record["cycles"] is None
    assert record["peak_ram"]["arena"] == record["peak_ram"]["planned_arena"]
    assert sum(layer["instructions"] for layer in record["layers"]) <= record["instructions"]
    store = sqlite3.connect(project.path / ".tinyhil" / "results.db")
    assert store.execute("pragma integrity_check").fetchone() == ("ok",)
    store.close()


def test_counts_are_the_same_from_run_to_run(project: pytest.Pytester) -> None:
    for name in ("a.json", "b.json"):
        run(project, "--board=stm32f746", f"--hil-json={name}", "models").assert_outcomes(passed=1)
    first, second = (json.loads((project.path / name).read_text())[0] for name in ("a.json", "b.json"))
    assert first["instructions"] == second["instructions"]
    assert first["layers"] == second["layers"]


def test_without_a_board_model_files_are_none_of_our_business(project: pytest.Pytester) -> None:
    result = run(project, "models")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_models_of_the_settings_are_collected(project: pytest.Pytester) -> None:
    project.makepyprojecttoml('[tool.tinyhil]\nmodels = ["models"]\n')
    run(project, "--board=stm32f746").assert_outcomes(passed=1)


def test_several_boards_and_engines_multiply(project: pytest.Pytester) -> None:
    result = run(project, "--board=stm32f746,nucleo-l4r5zi", "--hil-engine=tinyengine,reference", "models")
    result.assert_outcomes(passed=4)


def test_own_tests_use_the_fixtures(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        def test_ram(measure):
            record = measure("models/tiny.tflite")
            assert record.peak_ram.total < 20_000

        def test_parts(firmware, dut, board):
            from tinyhil.harness.targets.target import Job
            built = firmware("models/tiny.tflite")
            raw = dut(built, Job(((bytes(8 * 8 * 3),),)))
            assert len(raw.outputs[0][0]) == 4
            assert board.core == "cortex-m7"
        """
    )
    run(project, "--board=stm32f746").assert_outcomes(passed=3)  # the model file itself is a test, too
    run(project).assert_outcomes(skipped=2)


def test_an_unknown_board_lists_the_known_ones(project: pytest.Pytester) -> None:
    result = run(project, "--board=stm32f999", "models")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown board 'stm32f999'*stm32f746*"])


def test_a_damaged_model_is_a_failed_test_with_one_clear_sentence(project: pytest.Pytester) -> None:
    (project.path / "models" / "broken.tflite").write_bytes(tiny_tflite()[:100])
    result = run(project, "--board=stm32f746", "models")
    result.assert_outcomes(passed=1, failed=1)
    assert "Traceback" not in result.stdout.str()


def test_a_network_too_big_is_refused_before_the_build(project: pytest.Pytester) -> None:
    (project.path / "models" / "big.tflite").write_bytes(tiny_tflite(channels=64, side=160))
    result = run(project, "--board=stm32f746", "models")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*DoesNotFit*"])


def test_a_missing_tool_is_the_bench_s_fault(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(project, "--board=stm32f746", "--junit-xml=junit.xml", "models")
    assert result.ret == 10
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*arm-none-eabi-gcc is not on PATH*"])
    assert 'errors="1" failures="0"' in (project.path / "junit.xml").read_text()


def test_what_cannot_be_stored_is_the_benchs_fault_and_is_shown_all_the_same(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(project, "--board=native", "--hil-json=/dev/null/out.json", "models")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["tiny *native*exact*", "*StoreError: /dev/null/out.json cannot be written*"])
    monkeypatch.setenv("TINYHIL_STORE", "/dev/null/results.db")
    result = run(project, "--board=native", "models")
    assert result.ret == 10
    result.assert_outcomes(errors=1)


def test_hardware_can_be_required(project: pytest.Pytester) -> None:
    result = run(project, "--board=stm32f746", "--hil-require-hardware", "models")
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*no stm32f746 on this bench*"])


def test_another_plugin_may_own_board(project: pytest.Pytester) -> None:
    (project.path / "other_plugin.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--board')\n"
    )
    project.syspathinsert()
    result = run(project, "-p", "other_plugin", "--hil-board=stm32f746", "models")
    result.stdout.fnmatch_lines(["*--board belongs to the plug-in other_plugin; use --hil-board"])
    result.assert_outcomes(passed=1)
