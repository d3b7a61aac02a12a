"""The pytest face: `pytest --board=stm32f746 models/` measures every network on every engine.

Thin by intent: options become Settings, files become Cases, the Runner does the work, and what it
says becomes a passed, failed or broken test. Nothing heavy is imported before a board is given.
"""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tinyhil.errors import TinyhilError, files_told
from tinyhil.harness.pytest_fixtures import EXIT_BENCH_ONLY, SESSION
from tinyhil.harness.pytest_fixtures import board as board
from tinyhil.harness.pytest_fixtures import dut as dut
from tinyhil.harness.pytest_fixtures import firmware as firmware
from tinyhil.harness.pytest_fixtures import measure as measure
from tinyhil.harness.settings import DEFAULT_RULES, Settings, load_settings, override

if TYPE_CHECKING:
    from tinyhil.harness.pytest_items import HilSession


class BoardTaken:
    """Registered as a plug-in when another one owns `--board`, to say so in the header."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def pytest_report_header(self) -> str:
        """Which plug-in it is, and what to write instead."""
        return f"tinyhil: --board belongs to {self.owner}; use --hil-board"


def _owner(pluginmanager: pytest.PytestPluginManager, option: str) -> str:
    for name, plugin in pluginmanager.list_name_plugin():
        hook = getattr(plugin, "pytest_addoption", None)
        if (
            hook is not None
            and name != __name__
            and f'"{option}"' in inspect.getsource(hook).replace("'", '"')
        ):
            return f"the plug-in {name}"
    return "another plug-in"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """`--board` is the only bare option; all others are prefixed."""
    group = parser.getgroup("tinyhil", "tiny neural networks on microcontrollers")
    add = group.addoption
    text = "board kind to measure on, e.g. stm32f746; repeat or separate with commas"
    try:
        add("--board", "--hil-board", dest="hil_board", action="append", default=[], help=text)
    except (ValueError, ArgumentError):
        pluginmanager.register(BoardTaken(_owner(pluginmanager, "--board")))
        add("--hil-board", dest="hil_board", action="append", default=[], help=text)
    add("--hil-emulate", action="store_true", help="use the emulator twin even if the board is on the bench")
    add(
        "--hil-target",
        metavar="NAME",
        help="the emulator to use in place of any board: qemu, unicorn, renode",
    )
    add("--hil-require-hardware", action="store_true", help="refuse to fall back to the emulator twin")
    add("--hil-map", metavar="FILE", help="the boards on this bench (default: tinyhil-map.toml)")
    add("--hil-model", metavar="FILE", action="append", default=[], help="a .tflite file or a folder of them")
    add(
        "--hil-engine",
        metavar="NAME",
        action="append",
        default=[],
        help="engine to run (default: tinyengine)",
    )
    add("--hil-prefer", choices=("speed", "ram", "flash"), default="speed", help="what the engine optimises")
    add("--hil-repeats", type=int, metavar="N", help="timed inferences per input (default: 1)")
    add("--hil-timeout", type=float, metavar="S", help="seconds for one measurement (default: 120)")
    add("--hil-lock-timeout", type=float, metavar="S", help="seconds to wait for a free board (default: 60)")
    add("--hil-build-only", action="store_true", help="generate and build, do not run")
    add("--hil-save", metavar="NAME", help="give this session's records a name to compare with later")
    add("--hil-compare", metavar="BASE", help="compare with a saved NAME, git:REV, or a JSON file")
    add(
        "--hil-fail",
        metavar="RULES",
        default=DEFAULT_RULES,
        help="how much each metric may grow against --hil-compare (default: %(default)s)",
    )
    add("--hil-compare-unlike", action="store_true", help="compare rows that are not alike, and mark them")
    add("--hil-json", metavar="FILE", help="write the records of this session to FILE")
    add("--hil-report", metavar="FILE", help="where the HTML report goes (default: .tinyhil/report.html)")


def pytest_configure(config: pytest.Config) -> None:
    """Markers always; everything else only when a board is given."""
    config.addinivalue_line("markers", "hil: needs a board or its emulator twin (given with --board)")
    config.addinivalue_line(
        "markers", 'budget(peak_ram="64KiB", latency="20ms"): limits for what `measure` returns'
    )
    config.addinivalue_line("markers", "requires_hardware: meaningless on an emulator")
    try:
        settings = _settings(config)
        if settings.boards:
            _start(config, settings)
    except TinyhilError as error:
        raise pytest.UsageError(str(error)) from error


def _start(config: pytest.Config, settings: Settings) -> None:
    from tinyhil.harness.boards import get_board
    from tinyhil.harness.pytest_items import Gates, HilSession
    from tinyhil.harness.reporting import load_baseline, noise_runs
    from tinyhil.harness.runner import Runner
    from tinyhil.results.gates import parse_rules

    option = config.option
    runner = Runner(settings, emulate=option.hil_emulate, require_hardware=option.hil_require_hardware)
    for name in settings.boards:
        runner.target(get_board(name))
    gates = None
    if option.hil_compare:
        baseline = load_baseline(option.hil_compare, runner.store)
        rules, noise = parse_rules(option.hil_fail), noise_runs(runner.store)
        gates = Gates(rules, baseline, option.hil_compare_unlike, noise)
    config.stash[SESSION] = HilSession(runner, option.hil_prefer, gates)
    _add_models(config, settings)


def _add_models(config: pytest.Config, settings: Settings) -> None:
    """Models named by --hil-model, or by the settings when no path is given, are collected too."""
    paths_given = config.args_source is pytest.Config.ArgsSource.ARGS
    if not settings.models or (paths_given and not config.option.hil_model):
        return
    models = [str(settings.path(Path(model))) for model in settings.models]
    only_models = bool(config.option.hil_model) and not paths_given
    config.args = models if only_models else [*config.args, *models]


def _settings(config: pytest.Config) -> Settings:
    option = config.option
    return override(
        load_settings(config.rootpath),
        boards=_split(option.hil_board),
        engine=_split(option.hil_engine),
        models=tuple(str(Path(model).absolute()) for model in option.hil_model),
        target=option.hil_target,
        repeats=option.hil_repeats,
        timeout=option.hil_timeout,
        lock_timeout=option.hil_lock_timeout,
        report=Path(option.hil_report).absolute() if option.hil_report else None,
        map=Path(option.hil_map).absolute() if option.hil_map else None,
    )


def _split(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which boards are real and which are twins."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return []
    from tinyhil.harness.boards import get_board

    modes = {name: session.runner.target(get_board(name)).mode for name in session.runner.settings.boards}
    return [
        f"tinyhil: {name} ({'on the bench' if mode == 'hardware' else f'emulated by {mode}'})"
        for name, mode in modes.items()
    ]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Every .tflite file is a test module when a board is given."""
    if file_path.suffix != ".tflite" or SESSION not in parent.config.stash:
        return None
    from tinyhil.harness.pytest_items import ModelFile

    collector: pytest.Collector = ModelFile.from_parent(parent, path=file_path)
    return collector


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use `board` (or what stands on it) run once per --board; without one they skip.
    A test that parametrises `board` itself is left alone."""
    own = any("board" in str(mark.args[:1]) for mark in metafunc.definition.iter_markers("parametrize"))
    if "board" in metafunc.fixturenames and not own:
        session = metafunc.config.stash.get(SESSION, None)
        names = session.runner.settings.boards if session else ()
        metafunc.parametrize("board", names, indirect=True, scope="session")


# --- the end of a session --------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`requires_hardware` is skipped on emulators."""
    if item.get_closest_marker("requires_hardware") is None:
        return
    session = item.config.stash.get(SESSION, None)
    targets = session.runner.targets if session else []
    if not targets or any(target.mode != "hardware" for target in targets):
        pytest.skip("needs a real board: list it in tinyhil-map.toml and leave out --hil-emulate")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Bench trouble is an error of the bench, not a failure of the network, also in JUnit."""
    report = yield
    session = item.config.stash.get(SESSION, None)
    error = call.excinfo.value if call.excinfo is not None else None
    if session and isinstance(error, TinyhilError) and error.exit_code == EXIT_BENCH_ONLY:
        session.bench_error = True
        report.user_properties.append(("bench_error", error.code))
        report.when = "setup"
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes JSON and report; exit code 10 if only the bench failed."""
    hil = session.config.stash.get(SESSION, None)
    if hil is None or hasattr(session.config, "workerinput"):
        return
    try:
        _keep(session.config, hil)
    except TinyhilError as error:
        hil.trouble = f"tinyhil: {error.code}: {error}"
        session.exitstatus = exitstatus or error.exit_code
    if exitstatus == pytest.ExitCode.TESTS_FAILED and hil.bench_error:
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and not reporter.stats.get("failed"):
            session.exitstatus = EXIT_BENCH_ONLY


@files_told()
def _keep(config: pytest.Config, hil: HilSession) -> None:
    if hil.records:
        _write(config, hil)
    if hil.runner.stored and config.option.hil_save:
        hil.runner.store.save_baseline(config.option.hil_save, hil.runner.stored)


def _write(config: pytest.Config, hil: HilSession) -> None:
    from tinyhil.harness.reporting import write_report
    from tinyhil.results.export import write_json

    settings = hil.runner.settings
    if config.option.hil_json:
        write_json(Path(config.option.hil_json), hil.records)
    write_report(settings.path(settings.report), hil.records, hil.runner.store)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of this session, and where it is kept."""
    hil = config.stash.get(SESSION, None)
    if hil is None or not hil.records:
        return
    from tinyhil.harness.terminal import summary_lines

    terminalreporter.section("tinyhil")
    for line in summary_lines(hil.records):
        terminalreporter.write_line(line)
    settings = hil.runner.settings
    terminalreporter.write_line(f"records: {settings.path(settings.store)}")
    if hil.trouble:
        terminalreporter.write_line(hil.trouble, red=True)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The report's path is the very last line."""
    hil = config.stash.get(SESSION, None)
    if hil is not None and hil.records and not hil.trouble and not hasattr(config, "workerinput"):
        print(hil.runner.settings.path(hil.runner.settings.report))
