"""`tinyhil doctor`: what is present, what is missing, and what each missing part would enable."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from tinyhil.harness.bootstrap import TOOLS, install_command, missing_tools


@dataclass(frozen=True)
class Part:
    """Something optional: how to see it, how to get it, what for."""

    name: str
    present: Callable[[], bool]
    get: str
    enables: str


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


OPTIONAL = (
    Part("tflite-micro", _module("tflite_micro"), "pip install 'tinyhil[oracle]'",
         "the official int8 reference (without it: tinyhil's own interpreter)"),
    Part("pyarrow", _module("pyarrow"), "pip install 'tinyhil[parquet]'", "export to Parquet"),
    Part("torch", _module("torch"), "pip install torch==2.13.0", "training super-networks (tinyhil search)"),
    Part("unicorn", _module("unicorn"), "pip install 'tinyhil[unicorn]'", "the twin with the board's map"),
    Part("renode", _program("renode"), "the portable package from renode.io", "boards emulated by Renode"),
    Part("ccache", _program("ccache"), "apt-get install ccache", "faster firmware builds"),
)  # fmt: skip


@click.command()
def doctor() -> None:
    """What is present, what is missing, what each missing part would enable.

    Exits 1 if something is missing that every measurement needs.
    """
    click.echo(f"python {sys.version.split()[0]}  {sys.executable}")
    for tool in TOOLS:
        _line(tool.present(), tool.name, tool.enables, f"apt-get install {' '.join(tool.packages)}")
    for part in OPTIONAL:
        _line(part.present(), part.name, part.enables, part.get, optional=True)
    _kits()
    missing = missing_tools("bench")
    if missing:
        click.echo(f"\nAs root, run:\n  {' '.join(install_command(missing))}")
        sys.exit(1)


def _kits() -> None:
    """The library kits of the engines that need one."""
    from tinyhil.harness.boards import all_boards
    from tinyhil.harness.peers.kit import kit_status
    from tinyhil.harness.settings import load_settings

    tables = load_settings(Path.cwd()).engines
    for engine in ("cmsis-nn", "tflm"):
        usable, words = kit_status(engine, tables.get(engine, {}), all_boards())
        click.echo(f"{'ok     ' if usable else '-      '} {f'kit of {engine}':18} {words}")


def _line(present: bool, name: str, enables: str, get: str, optional: bool = False) -> None:
    mark = "ok     " if present else "-      " if optional else "MISSING"
    click.echo(f"{mark} {name:18} {enables}{'' if present else f'; {get}'}")
