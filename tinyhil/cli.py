"""The command line: a table of commands, each imported when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

import click

import tinyhil
from tinyhil.errors import TinyhilError, files_told

INTERRUPTED = 130  # Ctrl-C, as shells have it: nothing is known of the network

# name -> (module:command, what it does)
COMMANDS = {
    "run": ("tinyhil.harness.commands.run:run", "Measure models on boards with one or more engines."),
    "plan": ("tinyhil.harness.commands.plan:plan", "Kernels and memory that TinyEngine would choose."),
    "export-c": ("tinyhil.harness.commands.plan:export_c", "A network as a C project to take away."),
    "ablate": ("tinyhil.harness.commands.plan:ablate", "What each optimisation of TinyEngine is worth."),
    "tune": ("tinyhil.harness.commands.tune:tune", "Choose kernels by measuring the candidates."),
    "bits": ("tinyhil.harness.commands.bits:bits", "What weights of four or two bits save and cost."),
    "boards": ("tinyhil.harness.commands.bench:boards", "The board kinds, and what stands in for each."),
    "lock": ("tinyhil.harness.commands.bench:lock", "Keep a board out of use."),
    "unlock": ("tinyhil.harness.commands.bench:unlock", "Put a board back into use."),
    "doctor": (
        "tinyhil.harness.commands.doctor:doctor",
        "What is present, missing, and what it would enable.",
    ),
    "sweep": ("tinyhil.harness.sweep.commands:sweep", "Measure everything in a plan, resumably."),
    "compare": ("tinyhil.harness.commands.results:compare", "What got better or worse, or engine by engine."),
    "history": ("tinyhil.harness.commands.results:history", "A metric over time, and where it stepped."),
    "ci-summary": ("tinyhil.harness.commands.results:ci_summary", "Markdown for a pull request."),
    "explain": ("tinyhil.harness.commands.latency:explain", "Where a model's estimated cycles go."),
    "calibrate": ("tinyhil.harness.commands.latency:calibrate", "Fit a board's memory penalties on it."),
    "timing": ("tinyhil.harness.timing.commands:timing", "Estimated cycles of any recorded trace."),
    "report": ("tinyhil.harness.commands.results:report", "The HTML report of what is in the store."),
    "export": ("tinyhil.harness.commands.results:export", "The store as JSON, CSV, Parquet and more."),
    "import": ("tinyhil.harness.commands.results:import_", "Records of JSON files into the store."),
    "search": ("tinyhil.nas.commands:search", "The best network within a budget, measured and delivered."),
    "detect": ("tinyhil.nas.detect.commands:detect", "Train a detector, and measure it with its boxes."),
    "zoo": ("tinyhil.nas.commands:zoo", "Make the networks that tinyhil ships."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command is asked for: `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        return cast(click.Command, getattr(import_module(module), name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tinyhil.__version__, prog_name="tinyhil")
def cli() -> None:
    """What a tiny neural network really costs on a microcontroller.

    Exit codes: 0 good, 1 the network failed, 2 wrong usage, 10 only the bench failed, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> Any:
    """Entry point of `tinyhil`; errors that are the user's to read are printed without traceback."""
    try:
        with files_told():
            cli.main(
                None if arguments is None else list(arguments), prog_name="tinyhil", standalone_mode=False
            )
    except TinyhilError as error:
        click.echo(f"tinyhil: {error.code}: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("tinyhil: interrupted; what was measured until now is kept", err=True)
        sys.exit(INTERRUPTED)
