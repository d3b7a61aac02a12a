"""The command line's face of the search: `zoo` makes the shipped networks."""

from __future__ import annotations

from pathlib import Path

import click

from tinyhil.nas import cost
from tinyhil.nas.zoo import architectures, make, networks


@click.command("zoo")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--name", "names", multiple=True, help="Only this network; repeat for more. See --list.")
@click.option("--list", "show", is_flag=True, help="List every architecture with its MACs and weights.")
def zoo(folder: Path | None, names: tuple[str, ...], show: bool) -> None:
    """Make the shipped networks as .tflite files in FOLDER.

    Without --name these are the networks that the bench runs. Files that are already what this
    version makes are left alone.
    """
    if show or folder is None:
        for name, arch in architectures().items():
            mark = "*" if name in networks() else " "
            click.echo(
                f"{mark} {name:20} {cost.macs(arch):>12,} MACs {cost.weights(arch):>10,} weights  {arch}"
            )
        return
    for name in names or networks():
        path = make(name, folder)
        click.echo(f"{path} {path.stat().st_size:,} bytes")
