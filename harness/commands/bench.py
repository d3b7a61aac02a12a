"""`tinyhil boards`, `lock`, `unlock`: what is known, what is connected, which is which, who may use it."""

from __future__ import annotations

from pathlib import Path

import click

from tinyhil.errors import BenchError, UsageError
from tinyhil.harness.bench.labgrid import free
from tinyhil.harness.bench.lock import holder, keep, release
from tinyhil.harness.bench.map import find_place, read_map, write_map
from tinyhil.harness.boards import all_boards
from tinyhil.harness.deadline import Deadline
from tinyhil.harness.settings import Settings, load_settings


@click.command()
@click.option("--discover", is_flag=True, help="List the debug probes that are connected.")
@click.option("--write", is_flag=True, help="With --discover: add new boards to the bench map.")
@click.option("--blink", is_flag=True, help="Prove by flashing which port belongs to which probe.")
def boards(discover: bool, write: bool, blink: bool) -> None:
    """The board kinds: core, clock, memories, and the emulator that stands in; and this bench."""
    from rich.console import Console
    from rich.table import Table

    settings = load_settings(Path.cwd())
    if write and not discover:
        raise UsageError("--write goes with --discover")
    if discover:
        show_connected(settings, write)
    if blink:
        prove_ports(settings)
    if discover or blink:
        return

    table = Table(box=None, pad_edge=False)
    for head in ("board", "core", "clock MHz", "flash KiB", "RAM KiB", "twin"):
        table.add_column(head, justify="right" if "i" in head and " " in head else "left")
    for name, board in all_boards().items():
        twin = "the host" if board.is_native else board.twin.machine if board.twin else "-"
        clock = "-" if board.is_native else f"{board.clock_hz / 1e6:g}"
        sizes = (f"{memory.size / 1024:g}" for memory in (board.flash, board.ram))
        table.add_row(name, board.core, clock, *sizes, twin)
    Console().print(table)
    show_bench(settings)


def show_connected(settings: Settings, write: bool) -> None:
    """`tinyhil boards --discover [--write]`: lists probes, and appends unknown boards to the map."""
    from tinyhil.harness.targets.pyocd_discover import discover, new_places

    path = settings.path(settings.map)
    known = read_map(path)
    named = {place.probe: place.name for place in known}
    found = discover(all_boards())
    if not found:
        click.echo("no debug probe is connected, or none that you may open (udev rules: docs/hardware.md)")
    for entry in found:
        name = named.get(entry.probe, "not in the map")
        kinds = " or ".join(entry.kinds) or "?"
        click.echo(f"{entry.probe}  {kinds}  {entry.serial or '-'}  {name}  ({entry.product})")
        if entry.note:
            click.echo(f"    {entry.note}")
    missing = new_places(found, known)
    if missing and not write:
        click.echo(f"\nto add to {path} (--write does it):\n\n{_tables(write_map(missing))}")
    elif missing:
        _append(path, write_map(missing))
        click.echo(f"added to {path}: {', '.join(place.name for place in missing)}")


def _tables(text: str) -> str:
    return text.partition("\n\n")[2]


def _append(path: Path, text: str) -> None:
    """Behind what is there: the user's own lines and comments stay."""
    if path.suffix in (".yaml", ".yml"):
        raise UsageError(f"{path} is twister's map: `west twister --generate-hardware-map` writes it")
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{old.rstrip()}\n\n{_tables(text)}" if old.strip() else text, encoding="utf-8")


def prove_ports(settings: Settings) -> None:
    """`tinyhil boards --blink`: every board of the map must answer on the port that the map gives it."""
    from tinyhil.harness.targets.hardware_blink import blink

    path = settings.path(settings.map)
    places = read_map(path)
    if not places:
        raise UsageError(f"{path} lists no board; `tinyhil boards --discover --write` makes a map")
    results = blink(places, settings.cache, Deadline.after(60.0 * len(places)))
    for result in results:
        name = result.place.name
        if result.good:
            click.echo(f"{name}: answers on its own port")
        elif result.heard_on:
            click.echo(f"{name}: answers on the port of {result.heard_on.name}; swap their `serial`")
        else:
            click.echo(f"{name}: {result.note or 'is heard on no port of the map'}")
    if not all(result.good for result in results):
        raise BenchError(f"not every board answers on its own port; correct {path}")


@click.command()
@click.argument("name")
@click.option("--why", default="kept by hand", show_default=True, help="What others get to read.")
def lock(name: str, why: str) -> None:
    """Keep board NAME (of the bench map) out of use, until `tinyhil unlock`."""
    settings = load_settings(Path.cwd())
    place = find_place(read_map(settings.path(settings.map)), name)
    keep(place, why)
    click.echo(f"{place.name} is kept out of use: {why}")


@click.command()
@click.argument("name")
def unlock(name: str) -> None:
    """Put board NAME back into use. A board that a running process holds stays with it."""
    settings = load_settings(Path.cwd())
    place = find_place(read_map(settings.path(settings.map)), name)
    was = release(place)
    if free(place):
        click.echo(f"labgrid's place {place.labgrid}, left acquired by a tinyhil that died, is released")
    click.echo(
        f"{place.name} is free again; it was kept by {was}" if was else f"{place.name} was free already"
    )


def show_bench(settings: Settings) -> None:
    """One line per board of the map, and who has it."""
    for place in read_map(settings.path(settings.map)):
        click.echo(f"{place.name}: {place.kind}, probe {place.probe}, {holder(place) or 'free'}")
