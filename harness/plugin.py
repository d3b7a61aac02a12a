"""The pytest face: `pytest --board=stm32f746 models/` measures every network on every engine.

Thin by intent: options become Settings, files become Cases, the Runner does the work, and what it
says becomes a passed, failed or broken test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tinyhil.errors import BenchError, TinyhilError, UsageError
from tinyhil.harness.boards import Board, get_board
from tinyhil.harness.build.firmware import Firmware
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.engine import Options
from tinyhil.harness.engines import get_engine
from tinyhil.harness.measure import Case, Network
from tinyhil.harness.runner import Runner
from tinyhil.harness.settings import Settings, load_settings, override
from tinyhil.harness.targets.target import Job, RawRun
from tinyhil.harness.terminal import summary_lines
from tinyhil.results.record import Measurement

EXIT_BENCH_ONLY = 10  # every failure of the session was the bench's, none the network's

_RUNNER = pytest.StashKey[Runner]()
_RECORDS = pytest.StashKey[list[Measurement]]()
_NETWORKS = pytest.StashKey[dict[Path, Network]]()
_BENCH_ERROR = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--board` is the only bare option; all others are prefixed."""
    group = parser.getgroup("tinyhil", "tiny neural networks on microcontrollers")
    text = "board kind to measure on, e.g. stm32f746; repeat or separate with commas"
    try:
        group.addoption("--board", "--hil-board", dest="hil_board", action="append", default=[], help=text)
    except ValueError:  # another plug-in owns --board: keep out of its way
        group.addoption("--hil-board", dest="hil_board", action="append", default=[], help=text)
    add = group.addoption
    add("--hil-emulate", action="store_true", help="use the emulator twin even if the board is on the bench")
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
    add("--hil-build-only", action="store_true", help="generate and build, do not run")
    add("--hil-json", metavar="FILE", help="write the records of this session to FILE")
    add("--hil-report", metavar="FILE", help="where the HTML report goes (default: .tinyhil/report.html)")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, settings, and the models that the settings name."""
    config.addinivalue_line("markers", "hil: needs a board or its emulator twin (given with --board)")
    config.addinivalue_line("markers", 'budget(peak_ram="64KiB", …): limits for what `measure` returns')
    config.addinivalue_line("markers", "requires_hardware: meaningless on an emulator")
    try:
        settings = _settings(config)
        boards = [get_board(name) for name in settings.boards]
    except TinyhilError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[_RUNNER] = Runner(
        settings, emulate=config.option.hil_emulate, require_hardware=config.option.hil_require_hardware
    )
    config.stash[_RECORDS] = []
    config.stash[_NETWORKS] = {}
    nothing_named = config.args_source is not pytest.Config.ArgsSource.ARGS
    if boards and settings.models and (nothing_named or config.option.hil_model):
        named = [] if nothing_named and config.option.hil_model else config.args
        config.args = [*named, *(str(settings.path(Path(model))) for model in settings.models)]


def _settings(config: pytest.Config) -> Settings:
    option = config.option
    return override(
        load_settings(config.rootpath),
        boards=_split(option.hil_board),
        engine=_split(option.hil_engine),
        models=tuple(str(Path(model).absolute()) for model in option.hil_model),
        repeats=option.hil_repeats,
        timeout=option.hil_timeout,
        report=Path(option.hil_report).absolute() if option.hil_report else None,
        map=Path(option.hil_map).absolute() if option.hil_map else None,
    )


def _split(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Which boards are real and which are twins."""
    runner = config.stash[_RUNNER]
    lines = []
    for name in runner.settings.boards:
        try:
            mode = runner.target(get_board(name)).mode
        except TinyhilError as error:
            mode = f"not available: {error}"
        lines.append(f"tinyhil: {name} ({mode if mode == 'hardware' else f'emulated: {mode}'})")
    return lines


# --- networks as tests -----------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Every .tflite file is a test module when a board is given."""
    if file_path.suffix == ".tflite" and parent.config.stash[_RUNNER].settings.boards:
        collector: pytest.Collector = ModelFile.from_parent(parent, path=file_path)
        return collector
    return None


class ModelFile(pytest.File):
    """One network; its items are the engines on the boards."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item per engine and board."""
        settings = self.config.stash[_RUNNER].settings
        for board in settings.boards:
            for engine in settings.engine:
                yield MeasureItem.from_parent(self, name=f"{board}-{engine}", board=board, engine=engine)


class MeasureItem(pytest.Item):
    """One network by one engine on one board."""

    def __init__(self, *, board: str, engine: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.board = board
        self.engine = engine
        self.add_marker("hil")

    def case(self) -> Case:
        """The case behind this item; ModelError if the file is not an int8 network."""
        return make_case(self.config, self.path, self.engine, get_board(self.board))

    def runtest(self) -> None:
        """Measures; a wrong answer or a network that does not fit is a failure."""
        runner = self.config.stash[_RUNNER]
        _prepare_all(self.session)
        if self.config.option.hil_build_only:
            runner.firmware(self.case())
            return
        record = runner.measure(self.case())
        self.config.stash[_RECORDS].append(record)
        if record.error is not None:
            raise Failed(record.error.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The message alone: these errors are written for users."""
        if isinstance(excinfo.value, TinyhilError):
            return f"{excinfo.value.code}: {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Shown in the terminal and in JUnit."""
        return self.path, 0, f"{self.path.stem} {self.name}"


class Failed(TinyhilError):
    """A measurement that was made and is not good; the message is the record's."""


def make_case(
    config: pytest.Config, path: Path, engine: str, board: Board, options: Options | None = None
) -> Case:
    """The case of one model file; the file is read once per session."""
    networks = config.stash[_NETWORKS]
    if path not in networks:
        networks[path] = Network.load(path)
    settings = config.stash[_RUNNER].settings
    options = options or Options(prefer=config.option.hil_prefer)
    return Case(networks[path], _engine(config, engine, settings), board, options)


def _engine(config: pytest.Config, name: str, settings: Settings) -> Any:
    engines = config.stash.setdefault(_ENGINES, {})
    if name not in engines:
        engines[name] = get_engine(name, settings.engines.get(name))
    return engines[name]


_ENGINES = pytest.StashKey[dict[str, Any]]()


def _prepare_all(session: pytest.Session) -> None:
    """Builds the firmware of all collected items in one go, the first time any of them runs."""
    cases = []
    for item in session.items:
        if isinstance(item, MeasureItem):
            try:
                cases.append(item.case())
            except TinyhilError:
                continue  # that item will say so itself
    session.config.stash[_RUNNER].prepare(cases)


# --- fixtures for the user's own tests -------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that use `board` (or what stands on it) run once per --board."""
    if "board" in metafunc.fixturenames:
        names = metafunc.config.stash[_RUNNER].settings.boards
        metafunc.parametrize("board", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def board(request: pytest.FixtureRequest) -> Board:
    """The board kind under test, one of --board."""
    return get_board(request.param)


@pytest.fixture
def firmware(request: pytest.FixtureRequest, board: Board) -> Callable[..., Firmware]:
    """`firmware(model, engine="tinyengine") -> Firmware`: generated and built, from the cache if known."""

    def make(model: str | Path, engine: str = "tinyengine", options: Options | None = None) -> Firmware:
        case = make_case(request.config, _model_path(request, model), engine, board, options)
        return request.config.stash[_RUNNER].firmware(case)

    return make


@pytest.fixture
def dut(request: pytest.FixtureRequest, board: Board) -> Callable[[Firmware, Job], RawRun]:
    """`dut(firmware, job) -> RawRun`: flashed or booted, greeted, run."""
    runner = request.config.stash[_RUNNER]

    def run(firmware: Firmware, job: Job) -> RawRun:
        return runner.target(board).run(firmware, job, Deadline.after(runner.settings.timeout))

    return run


@pytest.fixture
def measure(request: pytest.FixtureRequest, board: Board) -> Callable[..., Measurement]:
    """`measure(model, engine="tinyengine") -> Measurement`: a good one; anything else fails the test."""

    def run(model: str | Path, engine: str = "tinyengine", options: Options | None = None) -> Measurement:
        case = make_case(request.config, _model_path(request, model), engine, board, options)
        record = request.config.stash[_RUNNER].measure(case)
        request.config.stash[_RECORDS].append(record)
        if record.error is not None:
            pytest.fail(f"{record.error.code}: {record.error.message}", pytrace=False)
        return record

    return run


def _model_path(request: pytest.FixtureRequest, model: str | Path) -> Path:
    path = Path(model)
    if path.is_absolute():
        return path
    beside = request.path.parent / path
    return beside if beside.exists() else request.config.rootpath / path


# --- the end of a session --------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`requires_hardware` is skipped on emulators."""
    if item.get_closest_marker("requires_hardware") is None:
        return
    runner = item.config.stash[_RUNNER]
    names = runner.settings.boards
    if not names or any(runner.target(get_board(name)).mode != "hardware" for name in names):
        pytest.skip("needs a real board: list it in tinyhil-map.toml and leave out --hil-emulate")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Bench trouble is an error of the bench, not a failure of the network."""
    report: pytest.TestReport = yield  # type: ignore[misc]
    if call.excinfo is not None and isinstance(call.excinfo.value, BenchError):
        report.user_properties.append(("bench_error", call.excinfo.value.code))
        item.config.stash[_BENCH_ERROR] = True
        if report.when == "call":
            report.when = "setup"  # reported as an ERROR, also in JUnit
    return report  # type: ignore[return-value]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Writes JSON and report; sets exit code 10 if only the bench failed."""
    config = session.config
    records = config.stash[_RECORDS]
    if records and not hasattr(config, "workerinput"):
        _write(config, records)
    if exitstatus == pytest.ExitCode.TESTS_FAILED and config.stash.get(_BENCH_ERROR, False):
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and not reporter.stats.get("failed"):
            session.exitstatus = EXIT_BENCH_ONLY


def _write(config: pytest.Config, records: list[Measurement]) -> None:
    from tinyhil.results.export import write_json
    from tinyhil.results.report import render_report

    settings = config.stash[_RUNNER].settings
    if config.option.hil_json:
        write_json(Path(config.option.hil_json), records)
    report = settings.path(settings.report)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(render_report(records), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of this session."""
    records = config.stash[_RECORDS]
    if records:
        terminalreporter.section("tinyhil")
        for line in summary_lines(records):
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The report's path is the very last line."""
    records = config.stash.get(_RECORDS, [])
    if records and not hasattr(config, "workerinput"):
        settings = config.stash[_RUNNER].settings
        print(settings.path(settings.report))


__all__ = ["UsageError", "board", "dut", "firmware", "measure"]
