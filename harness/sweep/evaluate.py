"""Candidates of a search as jobs for any executor: each measured once, whoever does it and however often
the search starts again."""

from __future__ import annotations

from collections.abc import Sequence

from tinyhil.errors import BenchError
from tinyhil.harness.runner import Runner
from tinyhil.harness.sweep.plan import Item
from tinyhil.harness.sweep.progress import Reporter
from tinyhil.harness.sweep.sweep import Sweep
from tinyhil.harness.sweep.work import first_causes
from tinyhil.harness.sweep.workers import Workers
from tinyhil.results.record import Measurement


def evaluate(
    items: Sequence[Item], runner: Runner, workers: Workers, say: Reporter | None = None
) -> list[Measurement]:
    """The good record of each item (a network file, an engine, a board, options), in their order.

    What the runner's store knows by the firmware's content is not measured again, and what failed
    before is tried again. Raises BenchError with the first causes if an item has no good record; all
    that could be measured is in the store by then.
    """
    with say or Reporter(len(items)) as reporter:
        outcome = Sweep(runner, items, workers, reporter, retry_failed=True).run()
    failed = [*outcome.failures, *outcome.bench]
    if failed:
        causes = (f"{c.code} × {len(c.items)}, first {c.items[0]}: {c.message}" for c in first_causes(failed))
        raise BenchError(f"{len(failed)} of {len(items)} not measured: {'; '.join(causes)}")
    return [outcome.rows[item] for item in items]
