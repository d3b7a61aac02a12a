"""A regression is a failed test of its own metric, in pytest as on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_tflite

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    (pytester.path / "tiny.tflite").write_bytes(tiny_tflite())
    run(pytester, "--hil-json=base.json", "--hil-save=main").assert_outcomes(passed=1)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess(
        "-p", "no:cacheprovider", "--board=stm32f746", "tiny.tflite", *arguments
    )


def lower(path: Path, key: str) -> None:
    """Pretends that the baseline was better than it is."""
    records = json.loads(path.read_text())
    for record in records:
        record[key] -= 1
    path.write_text(json.dumps(records))


def test_the_same_network_passes_every_gate(project: pytest.Pytester) -> None:
    result = run(project, "--hil-compare=main", "--hil-fail=instructions:0,peak_ram:0,flash:0")
    result.assert_outcomes(passed=4)


def test_a_regression_fails_its_own_metric_only_and_junit_sees_it(project: pytest.Pytester) -> None:
    lower(project.path / "base.json", "flash")
    result = run(
        project, "--hil-compare=base.json", "--hil-fail=instructions:0,flash:0", "--junit-xml=junit.xml"
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*flash of tiny by tinyengine on stm32f746*+1*regressed*"])
    assert 'failures="1"' in (project.path / "junit.xml").read_text()


def test_growth_within_the_rule_passes(project: pytest.Pytester) -> None:
    lower(project.path / "base.json", "flash")
    run(project, "--hil-compare=base.json", "--hil-fail=flash:+1KiB").assert_outcomes(passed=2)


def test_an_unknown_baseline_or_rule_is_wrong_usage(project: pytest.Pytester) -> None:
    unknown = run(project, "--hil-compare=yesterday")
    assert unknown.ret == pytest.ExitCode.USAGE_ERROR
    unknown.stderr.fnmatch_lines(["*no baseline 'yesterday'*main*"])
    wrong = run(project, "--hil-compare=main", "--hil-fail=speed:2%")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR


def test_a_budget_is_held_where_it_is_written(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.budget(peak_ram="64KiB", flash="1MiB", latency="10s")
        def test_roomy(measure):
            measure("tiny.tflite")

        @pytest.mark.budget(peak_ram="100B")
        def test_tight(measure):
            measure("tiny.tflite")
        """
    )
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "--board=stm32f746")
    result.assert_outcomes(passed=2, failed=1)  # the model file itself is a test, too
    result.stdout.fnmatch_lines(["peak_ram*exceeds the budget*"])


def test_the_command_line_judges_by_the_same_rules(project: pytest.Pytester) -> None:
    def tinyhil(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tinyhil", *arguments]
        return subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=False)

    assert tinyhil("compare", "main").returncode == 0
    lower(project.path / "base.json", "flash")
    worse = tinyhil("compare", "base.json", "--fail", "flash:0")
    assert worse.returncode == 1
    assert "regressed" in worse.stdout
    assert "tiny by tinyengine on stm32f746" in tinyhil("history").stdout
    assert "| tiny" in tinyhil("ci-summary", "base.json").stdout
    assert "tinyengine" in tinyhil("compare", "--engines").stdout
