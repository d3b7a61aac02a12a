"""The command line's face of the search."""

from __future__ import annotations

from pathlib import Path

import click

from tinyhil.nas.zoo import make, networks


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1)
def zoo(folder: Path, names: tuple[str, ...]) -> None:
    """Make the shipped networks (or NAMES) as .tflite files in FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or networks():
        click.echo(make(name, folder))
