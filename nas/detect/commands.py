"""`tinyhil detect`: from pictures with boxes to a detector on a board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

SMALL = "r64 | s16 k3e1:8 | k3e4:16/2 k3e3 | k5e4:24/2 k3e4 k3e4 | k3e4:32 | m64 fc2"
_count = click.IntRange(1)


@click.command()
@click.option("--data", default="synthetic", show_default=True, help="`synthetic`, or a folder as VOC's.")
@click.option(
    "--arch",
    "text",
    default=SMALL,
    show_default=True,
    help="Written out, a name of the zoo, or a search's folder: its winner. The head takes the place of its "
    "classifier.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What its backbone begins with: winner.pt of a search, if --arch is that search's.",
)
@click.option("--size", help="Pictures' size, if not the architecture's: 64, or height x width as in 48x64.")
@click.option("--board", default="stm32f746", show_default=True, help="The board it is for.")
@click.option("--engine", default="tinyengine", show_default=True, help="The engine that will run it.")
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), required=True, help="Folder of results and state."
)
@click.option("--anchors", type=_count, default=3, show_default=True, help="Anchors per cell.")
@click.option("--epochs", type=_count, default=40, show_default=True)
@click.option("--threshold", default=0.05, show_default=True, help="Smallest score of a box.")
@click.option("--overlap", default=0.45, show_default=True, help="Beyond it the weaker of two boxes goes.")
@click.option("--boxes", type=_count, default=32, show_default=True, help="Boxes kept at most.")
@click.option("--pictures", type=_count, default=4, show_default=True, help="Test pictures run on the board.")
@click.option("--limit", type=click.IntRange(2), help="Pictures per list, to try something quickly.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="Where to train: cpu, cuda, or auto.")
@click.option("--hardware", is_flag=True, help="Measure on the board on the bench, not on its emulator.")
def detect(folder: Path, text: str, size: str | None, hardware: bool, **asked: Any) -> None:
    """Train a detector; measure it, with decoding and suppression, on BOARD.

    Writes detector.tflite, head.json (anchors and thresholds, for `export-c --detect`), the C project c/
    and card.json. The same command goes on where it was stopped.
    """
    from tinyhil.nas.configs import find_arch
    from tinyhil.nas.detect.session import Request, run_detection
    from tinyhil.nas.size import parse_size

    arch = find_arch(text)
    if size is not None:
        arch = replace(arch, resolution=parse_size(size))
    request = Request(arch=arch, emulate=not hardware, **asked)
    facts = run_detection(request, folder, lambda words: click.echo(words, err=True))
    click.echo("\n".join([*card_lines(facts), f"files          {folder}"]))


def card_lines(facts: dict[str, Any]) -> list[str]:
    """What a card says, for people."""
    whole, part, unit = facts["cycles"], facts["boxes_cycles"], "cycles, measured"
    if whole is None:
        whole, part, unit = facts["instructions"], facts["boxes_instructions"], "instructions, counted"
    lines = [
        f"architecture   {facts['architecture']}",
        f"data           {facts['data']}: {facts['test_pictures']} test pictures",
        *(
            f"mAP@0.5 {kind:6} {facts[f'map_{kind}']:.1%} (by 11 points {facts[f'map_{kind}_11_points']:.1%})"
            for kind in ("int8", "float")
        ),
        f"checked        {facts['pictures_on_board']} pictures on {facts['board']} ({facts['mode']}), byte "
        f"for byte: the grid as {facts['grids_by']}, {facts['boxes_on_board']} boxes as defined",
    ]
    if whole is not None:
        lines.append(f"run time       {whole:,} {unit}; decoding and suppression {part or 0:,} of them")
    if facts["cycles_estimated"] and facts["clock_hz"]:
        value, low, high = (
            1e3 * facts["cycles_estimated"][name] / facts["clock_hz"] for name in ("value", "low", "high")
        )
        clock = f"{facts['clock_hz'] / 1e6:g} MHz"
        lines.append(f"latency        {value:.2f} ms at {clock}, estimated ({low:.2f} to {high:.2f})")
    return [*lines, f"memory         peak RAM {facts['peak_ram'] or 0:,} B, flash {facts['flash'] or 0:,} B"]
