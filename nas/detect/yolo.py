"""The YOLOv2 head in training: anchors from the boxes, what each anchor should say, and the loss.

Redmon and Farhadi, "YOLO9000" (2017): anchors by k-means with 1 - IoU as distance, centres bounded to
their cell, one anchor responsible for each object, objectness learns the overlap. Objectness and
classes use cross-entropy, centres and sizes squared errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tinyhil.errors import UsageError
from tinyhil.harness.tinyengine.detect import SIDE, Head
from tinyhil.nas.arch import Arch, layers
from tinyhil.nas.detect.score import Found, iou
from tinyhil.nas.size import Size
from tinyhil.nas.torchnet import Net
from tinyhil.nas.train import CPU, Recipe, device_of, make_optimizer, seed_everything
from tinyhil.nas.voc import Corners, Scenes, Thing

Progress = Callable[[int, int, float], None]  # epoch done, epochs in all, mean loss
IGNORED = 0.6  # an anchor that overlaps an object so well is not taught that nothing is there
COORDINATES, NOTHING, SOMETHING = 5.0, 0.5, 2.0  # weights of the loss


def anchors_of(scenes: Scenes, count: int, seed: int = 0) -> tuple[tuple[float, float], ...]:
    """`count` typical (width, height), as shares of the picture: k-means where near means large IoU, the
    best of ten starts, smallest first."""
    sizes = np.array([(t.box[2] - t.box[0], t.box[3] - t.box[1]) for s in scenes.things for t in s])
    if len(sizes) < count:
        raise UsageError(f"{len(sizes)} objects are too few for {count} anchors")
    random = np.random.default_rng(seed)
    starts = [sizes[random.choice(len(sizes), count, replace=False)] for _ in range(10)]
    best = max((_settled(sizes, start) for start in starts), key=lambda c: size_iou(sizes, c).max(1).mean())
    ordered = sorted(map(tuple, np.maximum(best, 2 / SIDE).tolist()), key=lambda s: s[0] * s[1])
    return tuple((round(width, 4), round(height, 4)) for width, height in ordered)


def _settled(sizes: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`centres` moved to the means of what is nearest to each, until they stay."""
    for _ in range(100):
        nearest = size_iou(sizes, centres).argmax(1)
        groups = [sizes[nearest == at] for at in range(len(centres))]
        moved = np.array([g.mean(0) if len(g) else c for g, c in zip(groups, centres, strict=True)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def size_iou(sizes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IoU [N,M] of boxes (width, height) [N,2] and [M,2] laid on one corner."""
    shared = np.minimum(sizes[:, None], others[None]).prod(-1)
    return np.asarray(shared / (sizes.prod(-1)[:, None] + others.prod(-1)[None] - shared))


def detector_arch(arch: Arch, head: Head) -> Arch:
    """`arch` with the head in the place of its classifier."""
    return replace(arch, grid=True, classes=head.channels)


def grid_size(arch: Arch) -> Size:
    """Rows and columns of cells."""
    return layers(arch)[-1].size_out


@dataclass(frozen=True, eq=False)
class Targets:
    """What the grid should say of N pictures, H x W cells, A anchors: `there` [N,H,W,A] where an object
    is in charge; offsets x, y in the cell and log sizes [N,H,W,A,4]; class; weight of small objects; and
    every object's box [N,M,4], zero where there are fewer."""

    there: torch.Tensor
    places: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    boxes: torch.Tensor

    def to(self, where: torch.device) -> Targets:
        """The same on another device."""
        return Targets(*(getattr(self, part.name).to(where) for part in fields(self)))


def targets_of(things: tuple[tuple[Thing, ...], ...], head: Head, grid: Size) -> Targets:
    """Each object goes to the cell of its centre and to the anchor of the most similar size that is free
    there."""
    shape = (len(things), grid.height, grid.width, len(head.anchors))
    there, labels = np.zeros(shape, np.bool_), np.zeros(shape, np.int64)
    places, weights = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32)
    boxes = np.zeros((len(things), max(1, *map(len, things)), 4), np.float32)
    for image, objects in enumerate(things):
        for number, thing in enumerate(objects):
            left, top, right, bottom = boxes[image, number] = thing.box
            width, height = float(right - left), float(bottom - top)
            x, y = (left + right) / 2 * grid.width, (top + bottom) / 2 * grid.height
            column, row = min(int(x), grid.width - 1), min(int(y), grid.height - 1)
            order = size_iou(np.array([[width, height]]), np.array(head.anchors))[0].argsort()[::-1]
            free = [anchor for anchor in order.tolist() if not there[image, row, column, anchor]]
            if not free:
                continue
            at = (image, row, column, free[0])
            anchor_width, anchor_height = head.anchors[free[0]]
            there[at], labels[at], weights[at] = True, thing.label, 2 - width * height
            places[at] = x - column, y - row, np.log(width / anchor_width), np.log(height / anchor_height)
    arrays = (there, places, labels, weights, boxes)
    return Targets(*map(torch.from_numpy, arrays))


def yolo_loss(grid: torch.Tensor, targets: Targets, head: Head) -> torch.Tensor:
    """Loss of the map [N,H,W,A*(5+C)], summed over the grid, mean over the pictures."""
    values = grid.view(*grid.shape[:3], len(head.anchors), -1)
    there = targets.there
    centres = values[..., :2].sigmoid()
    said = torch.cat((centres, values[..., 2:4]), -1)
    with torch.no_grad():
        best = _overlaps(said, targets.boxes, head).amax(-1)
    off = ((said - targets.places) ** 2).sum(-1) * targets.weights
    objectness = values[..., 4]
    wanted = torch.where(there, best.clamp(min=0.3), torch.zeros_like(best))
    judged = functional.binary_cross_entropy_with_logits(objectness, wanted, reduction="none")
    importance = torch.where(there, SOMETHING, torch.where(best > IGNORED, 0.0, NOTHING))
    named = functional.cross_entropy(values[there][:, 5:], targets.labels[there], reduction="sum")
    total: torch.Tensor = (
        COORDINATES * (off * targets.weights * there).sum() + (judged * importance).sum() + named
    )
    return total / len(grid)


def _overlaps(places: torch.Tensor, boxes: torch.Tensor, head: Head) -> torch.Tensor:
    """IoU [N,H,W,A,M] of predicted places (x, y in the cell, log sizes) with every object's box."""
    rows, columns = places.shape[1:3]
    where = places.device
    across, down = torch.arange(columns, device=where), torch.arange(rows, device=where)
    corner = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    centre = (places[..., :2] + corner[None, :, :, None]) / torch.tensor([columns, rows], device=where)
    half = places[..., 2:].clamp(-8, 3).exp() * torch.tensor(head.anchors, device=where) / 2
    low, high = (centre - half)[..., None, :], (centre + half)[..., None, :]
    objects = boxes[:, None, None, None]
    shared = (torch.minimum(high, objects[..., 2:]) - torch.maximum(low, objects[..., :2])).clamp(min=0)
    areas = (2 * half).prod(-1)[..., None] + (objects[..., 2:] - objects[..., :2]).prod(-1)
    area = shared.prod(-1)
    return area / (areas - area).clamp(min=1e-9)


def as_floats(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pixels as the network's input, in [-1, 1]."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def mirrored(things: tuple[tuple[Thing, ...], ...]) -> tuple[tuple[Thing, ...], ...]:
    """The objects of pictures whose left and right are exchanged."""
    return tuple(
        tuple(replace(t, box=(1 - t.box[2], t.box[1], 1 - t.box[0], t.box[3])) for t in objects)
        for objects in things
    )


def train_detector(
    arch: Arch,
    head: Head,
    scenes: Scenes,
    recipe: Recipe,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    device: torch.device = CPU,
    weights: Path | None = None,
) -> Net:
    """A detector trained on `scenes`, half of them mirrored in each epoch; in evaluation mode. The file
    `weights` is what its backbone begins with; without it, with nothing. `checkpoint` keeps the state after
    every epoch: training that was stopped goes on there, with the same result."""
    seed_everything(recipe.seed)
    net = Net(arch)
    if weights is not None:
        load_backbone(net, weights)
    torch.nn.init.normal_(net.fc.weight, std=0.01)
    with torch.no_grad():
        net.fc.bias.zero_().view(len(head.anchors), -1)[:, 4] = -4.0  # at first nothing is anywhere
    net = net.to(device)
    grid = grid_size(arch)
    plain, turned = (targets_of(each, head, grid) for each in (scenes.things, mirrored(scenes.things)))
    per_epoch = -(-len(scenes) // recipe.batch)
    optimizer, schedule = make_optimizer(net, recipe, recipe.epochs * per_epoch)
    first = _restore(checkpoint, net, optimizer, schedule)
    net.train()
    for epoch in range(first, recipe.epochs):
        random = np.random.default_rng([recipe.seed, epoch])
        order, flip, total = random.permutation(len(scenes)), random.random(len(scenes)) < 0.5, 0.0
        for start in range(0, len(order), recipe.batch):
            part = order[start : start + recipe.batch]
            images = torch.from_numpy(as_floats(scenes.images[part])).permute(0, 3, 1, 2)
            turn = torch.from_numpy(flip[part])
            images = torch.where(turn[:, None, None, None], images.flip(3), images).contiguous()
            wanted = _chosen(plain, turned, torch.from_numpy(part), turn).to(device)
            loss = yolo_loss(net(images.to(device)), wanted, head)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(part)
        _save(checkpoint, net, optimizer, schedule, epoch + 1)
        if progress is not None:
            progress(epoch + 1, recipe.epochs, total / len(scenes))
    return net.eval()


def load_backbone(net: Net, path: Path) -> None:
    """Give `net` the weights and statistics in `path` for all but its last layer, at whatever resolution
    they were trained. UsageError where they are those of another architecture."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        backbone = {name: state[name] for name in net.state_dict() if not name.startswith("fc.")}
        net.load_state_dict(backbone, strict=False)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise UsageError(f"{path} does not hold weights of {net.arch}: {error}") from error


def _chosen(plain: Targets, turned: Targets, part: torch.Tensor, turn: torch.Tensor) -> Targets:
    def pick(name: str) -> torch.Tensor:
        a, b = getattr(plain, name)[part], getattr(turned, name)[part]
        return torch.where(turn.view(-1, *[1] * (a.ndim - 1)), b, a)

    return Targets(*(pick(part.name) for part in fields(plain)))


def _save(
    path: Path | None,
    net: Net,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state | {"epoch": epoch}, part)
    part.replace(path)


def _restore(
    path: Path | None,
    net: Net,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    if path is None or not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return int(state["epoch"])


def float_boxes(grid: npt.NDArray[np.floating], head: Head) -> list[Found]:
    """The boxes in one picture's map [H,W,A*(5+C)] of reals: the device's rules, not rounded."""
    rows, columns = grid.shape[:2]
    cells = np.asarray(grid, np.float64).reshape(rows, columns, len(head.anchors), -1)
    sure = 1 / (1 + np.exp(-cells[..., 4]))
    shares = np.exp(cells[..., 5:] - cells[..., 5:].max(-1, keepdims=True))
    scores = sure / shares.sum(-1)
    found = []
    for row, column, anchor in np.argwhere(scores >= head.threshold).tolist():
        values = cells[row, column, anchor]
        x, y = (np.array([column, row]) + 1 / (1 + np.exp(-values[:2]))) / (columns, rows)
        half_w, half_h = np.minimum(np.exp(np.minimum(values[2:4], 3.0)), 16) * head.anchors[anchor] / 2
        corners = np.clip((x - half_w, y - half_h, x + half_w, y + half_h), 0.0, 1.0).tolist()
        box: Corners = (corners[0], corners[1], corners[2], corners[3])
        found.append(Found(int(values[5:].argmax()), box, float(scores[row, column, anchor])))
    found.sort(key=lambda one: -one.score)
    kept: list[Found] = []
    for one in found[: head.boxes]:
        if not any(o.label == one.label and iou(o.box, one.box) > head.overlap for o in kept):
            kept.append(one)
    return kept


@torch.no_grad()
def boxes_of(net: Net, head: Head, scenes: Scenes, batch: int = 100) -> list[list[Found]]:
    """What the float network (in evaluation mode) finds in every picture."""
    found = []
    for start in range(0, len(scenes), batch):
        images = torch.from_numpy(as_floats(scenes.images[start : start + batch])).permute(0, 3, 1, 2)
        found += [float_boxes(grid, head) for grid in net(images.to(device_of(net))).cpu().numpy()]
    return found
