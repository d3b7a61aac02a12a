"""One search as the command line asks for it: data, family and effort chosen, results delivered."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tinyhil.harness.model.graph import Graph
from tinyhil.harness.model.tflite_reader import load_tflite
from tinyhil.harness.sweep.workers import Workers
from tinyhil.nas.arch import Arch
from tinyhil.nas.chainstore import chains_folder
from tinyhil.nas.crew import open_needs
from tinyhil.nas.data import Dataset
from tinyhil.nas.datasets import load
from tinyhil.nas.deliver import (
    INT8,
    Delivered,
    Form,
    best_alone,
    best_mobilenet,
    deliver,
    finished,
    write_card,
    write_project,
)
from tinyhil.nas.evolution import Judge, Settings
from tinyhil.nas.lowbits import BITS, deliver_int4, in_form
from tinyhil.nas.meter import HarnessMeter
from tinyhil.nas.ownplan import plan_of
from tinyhil.nas.search import Effort, Limits, Result, Say, Search
from tinyhil.nas.size import Size, square
from tinyhil.nas.space import RESOLUTIONS, WIDTHS, Family, grid, resolutions_within
from tinyhil.nas.supertrain import SuperRecipe, calibration_batches, inherit
from tinyhil.nas.torchnet import Net
from tinyhil.nas.train import Progress, Recipe, pick_device, seed_everything

SMALL_IMAGES = 32
SMALL_RESOLUTIONS = tuple(map(square, (16, 20, 24, 28, 32)))
TUNING_RATE = 0.05
NARROWING_RATE = 0.02


@dataclass(frozen=True)
class Request:
    """What the user asked for; sizes in bytes, run time in milliseconds or as a count. All networks are
    delivered in `form`; with `bits` 4 the winner once more with weights of four bits."""

    board: str
    engine: str
    data: str
    ram: int
    flash: int
    milliseconds: float | None
    count: float | None
    seed: int
    quick: bool
    emulate: bool
    device: str = "cpu"
    bits: int = 8
    form: Form = INT8


def effort_for(request: Request) -> Effort:
    """How hard to search: the default effort, or the least that goes through all steps."""
    effort = Effort(seed=request.seed)
    effort = replace(
        effort,
        training=replace(effort.training, seed=request.seed),
        evolution=replace(effort.evolution, seed=request.seed),
    )
    if not request.quick:
        return effort
    return replace(
        effort, stage1=8, minimum=2, spaces=2, measured=6, held_out=3, pool=40,
        training=SuperRecipe(largest=2, epochs=3, subnets=2, shift=2, rate=0.1, seed=request.seed),
        evolution=Settings(8, 4, 4, 4, generations=2, remeasure_every=2, top=3, seed=request.seed),
        finalists=1, tuning=3, narrowing=1,
    )  # fmt: skip


def family_for(data: Dataset) -> tuple[Family, tuple[float, ...], tuple[Size, ...]]:
    """Family, widths and resolutions to search for `data`: MCUNet's, or a short one for small images."""
    size, channels = data.size, data.train.images.shape[3]
    if size.area > SMALL_IMAGES**2:
        family = Family(classes=len(data.classes), channels=channels)
        return family, WIDTHS, resolutions_within(size, RESOLUTIONS)
    family = Family(
        stem=16, first=8, stages=((16, 2, 3), (24, 2, 3), (48, 1, 3), (64, 1, 1)),
        classes=len(data.classes), channels=channels,
    )  # fmt: skip
    return family, (0.5, 0.75, 1.0), resolutions_within(size, SMALL_RESOLUTIONS)


def run_search(
    request: Request,
    folder: Path,
    workers: Workers,
    say: Say,
    effort: Effort,
    shared: Path | None = None,
) -> list[Delivered]:
    """The whole search, and its winner delivered beside scaled MobileNetV2 and random search. Several
    searches may have a folder `shared` between them, for what they measure and their super-network."""
    started = time.monotonic()
    data = load(request.data)
    family, widths, resolutions = family_for(data)
    device = pick_device(request.device)
    form = request.form
    folder.mkdir(parents=True, exist_ok=True)

    def meter_of(bits: int, prefer: str) -> HarnessMeter:
        return HarnessMeter(
            request.board, request.engine, shared or folder, workers,
            emulate=request.emulate, bits=bits, prefer=prefer,
        )  # fmt: skip

    meter = meter_of(INT8.bits, INT8.prefer)
    usual = (form.bits, form.prefer) == (INT8.bits, INT8.prefer)
    limits = Limits(request.ram, request.flash, request.milliseconds, request.count)
    say(f"{data.name}: {data.note}; {len(data.train)} to train, {len(data.valid)} to choose by")
    with open_needs(meter.board, cache=chains_folder()) as planner:
        result = Search(
            data, family, widths, resolutions, limits, meter.board, request.engine, folder, meter, effort,
            say, ticker(say), device, form.bits, None if usual else meter_of(form.bits, form.prefer), shared,
            planner,
        ).run()  # fmt: skip
    budget, tuned = result.budget, (shared or folder) / "tuned"
    recipe = Recipe(epochs=effort.tuning, rate=TUNING_RATE, decay=5e-5, shift=2, seed=request.seed)
    short = replace(recipe, epochs=effort.narrowing, rate=NARROWING_RATE)
    delivered = []
    chosen = {}
    narrow = None
    for name, group in (("winner", result.finalists), ("random", result.rivals)):
        trained = []
        for number, (one, _) in enumerate(group, 1):
            arch = one.sample.arch
            say(f"training {name} {number} of {len(group)} alone, {effort.tuning} epochs: {arch}")
            inherited = inherit(result.net, arch, calibration_batches(data, arch.resolution))
            alone = finished(inherited, data, recipe, tuned)
            trained.append(in_form(alone, form, data, short, tuned))
        best, chosen[name] = best_alone(trained, data)
        delivered.append(deliver(best, name, data, meter, folder, budget, form))
        if name == "winner" and request.bits == BITS:
            say(f"training the winner on weights of {BITS} bits, {effort.narrowing} epochs")
            narrow = deliver_int4(best, name, data, meter, short, folder, budget)
            delivered.append(narrow.delivered)

    def latency(arch: Arch) -> float:
        return result.model.price(result.needs.plan(arch)).high

    judge = Judge(budget, result.asked, lambda arch: 0.0, latency)
    mobile = best_mobilenet(grid(family, widths, resolutions), judge)
    if mobile is not None:
        epochs = effort.tuning + effort.training.largest + effort.training.epochs
        say(f"training scaled MobileNetV2 from nothing, {epochs} epochs: {mobile}")
        seed_everything(request.seed)
        alone = finished(Net(mobile).to(device), data, replace(recipe, epochs=epochs, rate=0.1), tuned)
        alone = in_form(alone, form, data, short, tuned)
        chosen["mobilenetv2"] = best_alone([alone], data)[1]
        delivered.append(deliver(alone, "mobilenetv2", data, meter, folder, budget, form))
    for network in delivered:
        if network.beyond:
            say(f"{network.name} is beyond the budget: {network.beyond}")
    graph = load_tflite(delivered[0].path)
    write_project(graph, meter.engine, meter.board, folder / "c", form.prefer)
    facts = {
        "board": request.board,
        "engine": request.engine,
        "data": f"{data.name}: {data.note}",
        "budget": f"RAM {budget.ram:,} B, flash {budget.flash:,} B, "
        + (f"run time {budget.latency:,.0f} {result.model.unit}" if budget.latency else "run time free"),
        "weights": f"{form.bits} bits" + (", trained on their grid" if form.trained else ""),
        "spaces": ", ".join(map(str, result.spaces)),
        "predicted": predicted(result, delivered[0].arch, graph),
        "scored": result.outcome.scored,
        "rejected": result.outcome.rejected,
        "beyond the budget when measured": result.violations,
        "inherited accuracy on the validation part": f"{result.finalists[0][1]:.4f} (evolution), "
        f"{result.rivals[0][1]:.4f} (random search, as many networks)",
        "accuracy on the validation part when trained": ", ".join(
            f"{share:.4f} ({name})" for name, share in chosen.items()
        ),
        **({"weights of four bits": str(narrow)} if narrow else {}),
        "seed": request.seed,
        "seconds": round(time.monotonic() - started),
        "latency model": [asdict(report) for report in result.reports],
        "history": list(result.outcome.history),
    }
    write_card(folder, f"Search on {data.name} for {request.board}", facts, delivered)
    return delivered


def predicted(result: Result, arch: Arch, graph: Graph) -> str:
    """What was predicted of the network that won, in words; `graph` is it with its trained weights."""
    need, time = result.asked(arch), result.model.price(result.needs.plan(arch))
    own = plan_of(arch, graph, result.needs.board)
    by_weights = f", {result.model.price(own).value:,.0f} by the plan for its weights" if own else ""
    return (
        f"run time {time.value:,.0f} ({time.low:,.0f} to {time.high:,.0f}{by_weights}) {result.model.unit}, "
        f"RAM {need.ram:,} B, flash {need.flash:,} B"
    )


def ticker(say: Say, every: float = 10.0) -> Progress:
    """A progress function that says where training is, every few seconds, with the time left as the steps
    after its first call took it."""
    begun: tuple[float, int] | None = None
    last = 0.0

    def tick(done: int, total: int, loss: float) -> None:
        nonlocal begun, last
        now = time.monotonic()
        if begun is None or done <= begun[1]:
            begun, last = (now, done), now
        if done == total or (done > begun[1] and now - last >= every):
            last = now
            left = (now - begun[0]) / max(done - begun[1], 1) * (total - done)
            say(f"  training: step {done}/{total}, loss {loss:.3f}, about {left:.0f} s left")

    return tick
