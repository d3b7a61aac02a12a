"""The `tinyhil timing` command: estimates for any ELF or raw binary with a recorded trace."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click

from tinyhil.errors import UsageError
from tinyhil.harness.boards import Board, boards_folder, get_board, parse_board
from tinyhil.harness.targets.recorder import Trace, parse
from tinyhil.harness.timing.block_costs import BlockCosts, block_costs
from tinyhil.harness.timing.conditions import Conditions
from tinyhil.harness.timing.estimate import Estimate, estimate_segment, total
from tinyhil.harness.timing.explain import as_text, explain
from tinyhil.harness.timing.image import Image, load_image


def _board(name: str) -> Board:
    """A board by name, among them those that can only be estimated, or from a .toml file of one's own."""
    path = boards_folder() / "estimate_only" / f"{name}.toml"
    if name.endswith(".toml"):
        path = Path(name)
    elif not path.is_file():
        return get_board(name)
    try:
        return parse_board(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the board file {name}: {error}") from error


def _overrides(words: tuple[str, ...]) -> dict[str, float]:
    values = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            values[key] = float(value)
        except ValueError:
            raise UsageError(f"--set {word}: write KEY=NUMBER, such as flash_wait_states=6") from None
    return values


def _row(estimate: Estimate, clock_hz: int) -> dict[str, object]:
    milliseconds = round(1000 * estimate.value / clock_hz, 4) if clock_hz else None
    return {
        "kind": "estimated",
        "instructions": estimate.instructions,
        "cycles_est": estimate.record(),
        "milliseconds_est": milliseconds,
        "parts": {name: round(cycles) for name, cycles in estimate.parts.items()},
        "notes": list(estimate.notes),
    }


def _table(rows: list[tuple[str, Estimate]], clock_hz: int) -> str:
    lines = [f"{'segment':<34}{'instructions':>14}{'est. cycles':>14}{'low':>13}{'high':>13}{'est. ms':>10}"]
    for name, e in rows:
        time = f"{1000 * e.value / clock_hz:>10.3f}" if clock_hz else ""
        lines.append(
            f"{name[:33]:<34}{e.instructions:>14,}{e.value:>14,.0f}{e.low:>13,.0f}{e.high:>13,.0f}{time}"
        )
    return "\n".join(lines)


def _pick(
    costs: BlockCosts, trace: Trace, image: Image, marks: tuple[str, ...]
) -> list[tuple[str, Estimate]]:
    try:
        wanted = {int(mark, 0) & ~1 for mark in marks}
    except ValueError:
        raise UsageError(f"--mark {' '.join(marks)}: no address; write 0x08001234") from None
    rows = []
    for segment in trace.segments:
        if wanted and segment.mark not in wanted:
            continue
        name = image.function_at(segment.mark) if segment.mark else "from reset"
        label = f"{segment.index} 0x{segment.mark:08x} {name}".rstrip()
        rows.append((label, estimate_segment(costs, segment)))
    if not rows:
        raise UsageError(
            "no segment of the trace begins at that mark" if wanted else "the trace has no segment"
        )
    return rows


@click.command()
@click.option("--core", default=None, help="The core to model; by default the board's.")
@click.option("--board", "board_name", required=True, help="A board kind, or the path of a .toml file.")
@click.option("--blocks", required=True, type=click.Path(path_type=Path), help="The recorder's trace.")
@click.option("--image", "images", multiple=True, help="An ELF, or FILE@ADDRESS for raw bytes. Repeatable.")
@click.option("--mark", "marks", multiple=True, help="Only segments that begin at this address. Repeatable.")
@click.option("--set", "changes", multiple=True, metavar="KEY=NUMBER", help="Change a value of [timing].")
@click.option("--clock", "clock_hz", type=int, metavar="HZ", help="The core clock, if not the board's.")
@click.option(
    "--caches",
    type=click.Choice(["ID", "I", "D", "none"]),
    help="Which caches (or parts of the flash accelerator) were on; by default as recorded.",
)
@click.option("--explain", "explained", is_flag=True, help="Also show where the cycles go.")
@click.option("--top", default=10, show_default=True, help="How many blocks --explain shows.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the estimates here; - is stdout."
)
def timing(
    core: str | None,
    board_name: str,
    blocks: Path,
    images: tuple[str, ...],
    marks: tuple[str, ...],
    changes: tuple[str, ...],
    clock_hz: int | None,
    caches: str | None,
    explained: bool,
    top: int,
    json_path: Path | None,
) -> None:
    """Estimate cycles from a recorded block trace of any firmware."""
    board = _board(board_name)
    if core is not None and core != board.core:
        raise UsageError(f"board {board.name} has a {board.core}, not a {core}")
    image = load_image(images)
    trace = parse(blocks)
    on = (None, None) if caches is None else ("I" in caches, "D" in caches)
    conditions = Conditions(clock_hz, None, *on)
    costs = block_costs(trace, board, image, _overrides(changes), conditions)
    rows = _pick(costs, trace, image, marks)
    hz = clock_hz or board.clock_hz
    whole = total(e for _, e in rows)
    if json_path is not None:
        data = {
            "model": whole.model,
            "clock_hz": hz,
            "total": _row(whole, hz),
            "segments": [{"segment": name, **_row(e, hz)} for name, e in rows],
        }
        text = json.dumps(data, indent=2) + "\n"
        if str(json_path) == "-":
            click.echo(text, nl=False)
            return
        json_path.write_text(text, encoding="utf-8")
    click.echo(f"Estimated by {whole.model} at {hz / 1e6:g} MHz; not a measurement.")
    for note in whole.notes:
        click.echo(f"Note: {note}.")
    click.echo(_table([*rows, ("total", whole)], hz))
    if explained:
        chosen = {row[0].split()[0] for row in rows}
        segments = [segment for segment in trace.segments if str(segment.index) in chosen]
        click.echo("\n" + as_text(explain(costs, segments, image, top)))
