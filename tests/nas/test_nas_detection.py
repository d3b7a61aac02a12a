"""Detectors: the head in training, average precision, and the boxes that the device finds."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.commands.plan import export_c
from tinyhil.harness.engine import Port
from tinyhil.harness.model.graph import DType
from tinyhil.harness.tinyengine.detect import (
    ONE,
    SIDE,
    Head,
    detect_files,
    find_boxes,
    pack,
    read_head,
    unpack,
    write_head,
)
from tinyhil.nas.detect.score import Found, average_precision, iou, mean_average_precision
from tinyhil.nas.voc import Corners, Scenes, Thing

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
pytest.importorskip("PIL", reason="needs Pillow: pip install '.[nas]'")

from tinyhil.nas.arch import parse  # noqa: E402
from tinyhil.nas.deliver import save_weights  # noqa: E402
from tinyhil.nas.detect.commands import detect  # noqa: E402
from tinyhil.nas.detect.device import as_found  # noqa: E402
from tinyhil.nas.detect.synthetic import write_shapes  # noqa: E402
from tinyhil.nas.detect.yolo import (  # noqa: E402
    _overlaps,
    anchors_of,
    detector_arch,
    float_boxes,
    load_backbone,
    targets_of,
    train_detector,
    yolo_loss,
)
from tinyhil.nas.size import Size, square  # noqa: E402
from tinyhil.nas.torchnet import Net  # noqa: E402
from tinyhil.nas.train import Recipe  # noqa: E402
from tinyhil.nas.voc import voc  # noqa: E402

GRIDS = {
    "many classes": (Head(((0.2, 0.3), (0.5, 0.4)), tuple("abcdefg"), 0.05, 0.45, 32), (6, 4), 0.06, 20),
    "one class, one anchor, no room": (Head(((0.9, 0.9),), ("face",), 0.3, 0.5, 3), (3, 3), 0.1, -5),
    "huge steps": (Head(((1.0, 1.0), (0.01, 0.02), (0.3, 0.1)), ("a", "b"), 0.01, 0.2, 64), (5, 7), 1.5, 9),
    "fine steps": (Head(((0.1, 0.1),), ("a", "b", "c"), 0.2, 0.9, 8), (2, 9), 0.003, 127),
}
DRIVER = r"""
#include <stdio.h>
#include "network_detect.h"

int main(void)
{
    static int8_t grid[GRID_SIZE]; /* exactly: the sanitizer sees one byte more */
    struct network_boxes found;

    while (fread(grid, 1, sizeof grid, stdin) == sizeof grid) {
        network_detect(grid, &found);
        fwrite(&found, 1, sizeof found, stdout);
    }
    return 0;
}
"""


def port_of(head: Head, shape: tuple[int, int], scale: float, zero: int) -> Port:
    size = shape[0] * shape[1] * head.channels
    return Port("grid", (1, *shape, head.channels), DType.INT8, size, scale, zero)


def drawn_grids(head: Head, shape: tuple[int, int], count: int) -> npt.NDArray[np.int8]:
    """Random grids, from silent ones to ones where every anchor shouts; many values are equal."""
    random = np.random.default_rng(1)
    grids = random.integers(-128, 128, (count, *shape, len(head.anchors), 5 + len(head.classes)))
    for at, grid in enumerate(grids):
        grid[..., 4] = np.clip(random.normal(-128 + 256 * at / count, 40, grid.shape[:-1]), -128, 127)
        grid[..., 5:] //= 1 + at % 3 * 40  # near ties between classes
    return grids.reshape(count, *shape, -1).astype(np.int8)


@pytest.mark.parametrize("name", GRIDS)
def test_the_c_finds_the_same_boxes_as_its_definition(name: str, tmp_path: Path) -> None:
    head, shape, scale, zero = GRIDS[name]
    port, compiler = port_of(head, shape, scale, zero), shutil.which("cc")
    if compiler is None:
        pytest.skip("no host C compiler; install gcc")
    for file, text in detect_files(head, port, "test").items():
        (tmp_path / file).write_text(text)
    (tmp_path / "driver.c").write_text(DRIVER.replace("GRID_SIZE", str(port.nbytes)))
    built = subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1",
         "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", "it",
         "driver.c", "network_detect.c"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[:3000]
    grids = drawn_grids(head, shape, 60)
    ran = subprocess.run([tmp_path / "it"], input=grids.tobytes(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()[:3000]
    expected = [find_boxes(head, port, grid) for grid in grids]
    assert ran.stdout == b"".join(pack(boxes, head) for boxes in expected)
    assert any(expected)
    size = len(ran.stdout) // len(grids)
    assert [unpack(ran.stdout[at * size :]) for at in range(len(grids))] == expected
    for boxes in expected:
        scores = [box.score for box in boxes]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= b.left <= b.right <= SIDE and 0 <= b.top <= b.bottom <= SIDE for b in boxes)
        assert all(round(head.threshold * ONE) <= score <= ONE for score in scores)


def test_integers_say_what_real_numbers_say() -> None:
    head, shape, scale, zero = GRIDS["many classes"]
    # Rounding may tip a comparison with a limit: no suppression, and scores well off the threshold.
    head = replace(head, overlap=1.0, threshold=0.001, boxes=500)
    port = port_of(head, shape, scale, zero)
    for grid in drawn_grids(head, shape, 8):
        exact = float_boxes((grid.astype(np.float64) - zero) * scale, head)
        given_ = sorted(find_boxes(head, port, grid), key=lambda box: (-box.score, box.label))
        strong = [box for box in given_ if box.score > 0.003 * ONE]
        assert len(strong) == pytest.approx(sum(one.score > 0.003 for one in exact), abs=2)
        for box in strong:
            near = [one for one in exact if abs(one.score - box.score / ONE) < 2e-4]
            near = [one for one in near if one.label == box.label]
            assert any(np.allclose(one.box, as_found(box).box, atol=3e-3) for one in near)


def test_overlapping_boxes_of_one_class_give_way_to_the_surest() -> None:
    head = Head(((0.5, 0.5),), ("a", "b"), 0.1, 0.4, 8)
    port = port_of(head, (1, 3), 0.1, 0)
    grid = np.zeros((1, 3, 7), np.int8)
    grid[0, :, 4] = 20, 40, 30  # all are likely, the middle one most
    grid[0, 1:, 0] = -100  # centres at 1/6, 1/3 and 2/3 of the width, boxes half as wide as the picture
    same = find_boxes(head, port, grid)
    assert [box.score for box in same] == sorted((box.score for box in same), reverse=True)
    assert [round(8 * (box.left + box.right) / SIDE) for box in same] == [5, 11]  # the first one went
    grid[0, 1, 6] = 50  # now it is of another class
    assert [box.label for box in find_boxes(head, port, grid)] == [1, 0, 0]


def test_what_is_not_a_detector_is_refused(tmp_path: Path) -> None:
    head = Head(((0.2, 0.3),), ("a", "b"), 0.1, 0.3, 7)
    write_head(head, tmp_path / "head.json")
    assert read_head(tmp_path / "head.json") == head
    with pytest.raises(UsageError, match="wants an int8 map of 1 anchors x"):
        find_boxes(head, Port("x", (1, 4, 4, 8), DType.INT8, 128, 0.1), np.zeros((4, 4, 8), np.int8))
    for text in ("", "[]", "{}", '{"anchors": [[1]], "classes": ["a"]}', '{"anchors": [], "classes": ["a"]}',
                 '{"anchors": [[0.1, 2]], "classes": ["a"]}', '{"anchors": [[0.1, NaN]], "classes": ["a"]}',
                 '{"anchors": [[0.1, 0.2]], "classes": ["a"], "typo": 1}', "[" * 100_000,
                 '{"anchors": [[0.1, 0.2]], "classes": ["a"], "threshold": 1.5}'):  # fmt: skip
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError, match="does not describe a detector"):
            read_head(tmp_path / "bad.json")


def test_average_precision_of_cases_worked_by_hand() -> None:
    assert average_precision([True, True], 2) == average_precision([True, True], 2, eleven=True) == 1
    assert average_precision([], 3) == average_precision([False], 3, eleven=True) == 0
    # Recall 1/2 at precision 1, recall 1 at precision 2/3.
    assert average_precision([True, False, True], 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([True, False, True], 2, eleven=True) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    # Precision is made monotone: 1/2 at recall 1/2 counts as the 2/3 that comes later.
    assert average_precision([False, True, True], 2) == pytest.approx(2 / 3)
    # Recall of exactly 3/10 reaches the point 0.3.
    assert average_precision([True] * 3, 10, eleven=True) == pytest.approx(4 / 11)


def test_matching_follows_vocs_rules() -> None:
    here, there = (0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9)
    truth = [[Thing(0, here), Thing(0, there, difficult=True)], [Thing(1, there)]]
    twice = [Found(0, here, 0.9), Found(0, here, 0.8)]  # the second is a false alarm
    score = mean_average_precision([[*twice, Found(0, there, 0.95)], [Found(1, there, 0.1)]], truth)
    assert score.every == {0: 1.0, 1: 1.0}  # the box on the difficult object counts neither way
    wrong_picture = mean_average_precision([[Found(1, there, 0.9)], [Found(1, there, 0.1)]], truth)
    assert wrong_picture.every == {0: 0.0, 1: 0.5}
    half = (0.0, 0.0, 0.4, 0.2)
    assert iou(here, half) == pytest.approx(0.5)
    for share, right in ((0.49, 1.0), (0.51, 0.0)):
        found = mean_average_precision([[Found(0, half, 1)], []], truth, share)
        assert found.every[0] == right
    assert mean_average_precision([[]], [[Thing(0, here, difficult=True)]]).mean == 0.0


edges = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 4)] * 2).map(
    lambda e: (e[0] / 12, e[1] / 12, (e[0] + e[2]) / 12, (e[1] + e[3]) / 12)
)
things_in = st.lists(st.builds(Thing, st.integers(0, 2), edges, st.booleans()), max_size=4)
truths = st.lists(things_in, min_size=1, max_size=4)
some_found = st.lists(st.builds(Found, st.integers(0, 2), edges, st.integers(0, 50).map(float)), max_size=5)


@given(truths, st.data())
@settings(max_examples=60)
def test_average_precision_is_a_fair_judge(truth: list[list[Thing]], data: st.DataObject) -> None:
    found = [data.draw(some_found) for _ in truth]
    score = mean_average_precision(found, truth)
    assert all(0 <= value <= 1 for value in (*score.every.values(), *score.eleven.values()))
    # Only the order of the scores counts.
    stretched = [[replace(one, score=one.score**3 + one.score) for one in given_] for given_ in found]
    assert mean_average_precision(stretched, truth) == score
    # A false alarm below everything else never helps.
    worse = [[*given_, Found(0, (0.99, 0.99, 1.0, 1.0), -1.0)] for given_ in found]
    assert mean_average_precision(worse, truth).mean <= score.mean
    # The truth itself is perfect, each object once.
    once = [list({(t.label, t.box): t for t in things}.values()) for things in truth]
    perfect = [[Found(t.label, t.box, 1.0) for t in things] for things in once]
    assert set(mean_average_precision(perfect, once).every.values()) <= {1.0}


def test_anchors_are_the_typical_sizes_of_the_boxes() -> None:
    random = np.random.default_rng(0)
    sizes = [(0.1, 0.3), (0.4, 0.4), (0.8, 0.2)]
    things = tuple(
        (Thing(0, (0.0, 0.0, w * random.uniform(0.95, 1.05), h * random.uniform(0.95, 1.05))),)
        for _ in range(40)
        for w, h in sizes
    )
    scenes = Scenes(np.zeros((len(things), 2, 2, 3), np.uint8), things)
    np.testing.assert_allclose(anchors_of(scenes, 3), sorted(sizes, key=lambda s: s[0] * s[1]), rtol=0.03)
    with pytest.raises(UsageError, match="too few for 200 anchors"):
        anchors_of(scenes, 200)


@given(st.lists(st.tuples(st.integers(0, 2), edges), min_size=1, max_size=5))
@settings(max_examples=40)
def test_a_grid_that_says_what_it_was_taught_gives_the_objects_back(
    objects: list[tuple[int, Corners]],
) -> None:
    head = Head(((0.1, 0.1), (0.3, 0.2), (0.2, 0.3)), ("a", "b", "c"), overlap=1.0)
    things = tuple(Thing(label, box) for label, box in objects)
    wanted = targets_of((things,), head, Size(4, 6))
    places = wanted.places.clone()
    places[..., :2] = torch.logit(places[..., :2], eps=1e-6)
    sure = torch.where(wanted.there, 12.0, -12.0)[..., None]
    classes = 12.0 * torch.nn.functional.one_hot(wanted.labels, 3)
    grid = torch.cat((places, sure, classes), -1).flatten(-2)
    found = float_boxes(grid[0].numpy(), head)
    assert len(found) == int(wanted.there.sum()) <= len(things)
    for one in found:
        assert any(t.label == one.label and np.allclose(t.box, one.box, atol=1e-4) for t in things)
    if len(things) <= len(head.anchors):  # more may fall in one cell
        assert len(found) == len(things)
        assert float(yolo_loss(grid, wanted, head)) < float(yolo_loss(torch.zeros_like(grid), wanted, head))


def test_what_is_wanted_of_a_grid_follows_it_to_its_device() -> None:
    """PyTorch's meta device holds shapes only; whatever stayed behind on the CPU would not meet it."""
    meta, head = torch.device("meta"), Head(((0.1, 0.1), (0.3, 0.2)), ("a",))
    wanted = targets_of(((Thing(0, (0.1, 0.2, 0.5, 0.4)),),), head, Size(3, 4)).to(meta)
    said = torch.empty(1, 3, 4, 2, 4, device=meta)
    shared = _overlaps(said, wanted.boxes, head)
    assert (shared.device, tuple(shared.shape)) == (meta, (1, 3, 4, 2, 1))
    assert {getattr(wanted, part.name).device for part in dataclasses.fields(wanted)} == {meta}


def test_a_backbone_begins_with_weights_of_the_same_architecture_at_any_size(tmp_path: Path) -> None:
    file, rest = tmp_path / "winner.pt", "s8 k3e1 | k3e2:16/2"
    classifier, detector = Net(parse(f"r16 | {rest} | fc4")), Net(parse(f"r32x24 | {rest} | grid18"))
    save_weights(classifier, file)
    head = detector.fc.weight.clone()
    load_backbone(detector, file)
    known = classifier.state_dict()
    for name, value in detector.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, known[name]), name
    assert torch.equal(detector.fc.weight, head)
    for other in (f"r32 | {rest} k3e2 | grid18", "r32 | s8 k3e1 | k3e3:16/2 | grid18"):
        with pytest.raises(UsageError, match=r"winner\.pt does not hold weights of r32"):
            load_backbone(Net(parse(other)), file)
    file.write_bytes(b"no weights")
    with pytest.raises(UsageError, match="does not hold weights"):
        load_backbone(detector, file)


def test_training_learns_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    data = voc(write_shapes(tmp_path, 24, 4, size=32), square(32))
    head = Head(anchors_of(data.train, 2), data.classes)
    arch = detector_arch(parse("r32 | s8 k3e1:8 | k3e2:16/2 | fc2"), head)
    recipe, losses = Recipe(epochs=4, batch=8, rate=0.02), []
    whole = train_detector(arch, head, data.train, recipe, lambda *at: losses.append(at[2]))
    assert losses[-1] < 0.95 * losses[0]

    def stop(done: int, of: int, loss: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    file = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        train_detector(arch, head, data.train, recipe, stop, file)
    again: list[int] = []
    resumed = train_detector(arch, head, data.train, recipe, lambda *at: again.append(at[0]), file)
    assert again == [3, 4]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.slow
def test_the_command_delivers_a_detector_whose_boxes_the_emulated_board_finds(tmp_path: Path) -> None:
    winner = {"name": "winner", "architecture": "r16 w0.5 | s8 k3e1 | k3e2:16/2 | fc4"}
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "card.json").write_text(json.dumps({"networks": [winner]}))
    save_weights(Net(parse(winner["architecture"])), tmp_path / "search" / "winner.pt")
    arguments = ["--data", "synthetic", "--limit", "24", "--arch", str(tmp_path / "search"),
                 "--weights", str(tmp_path / "search" / "winner.pt"),
                 "--size", "32x24", "--epochs", "4", "--threshold", "0.001", "--anchors", "2", "--boxes", "8",
                 "--pictures", "2", "--out", str(tmp_path)]  # fmt: skip
    shown = CliRunner().invoke(detect, arguments, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["mode"] == "qemu"
    assert card["began_with"] == "winner.pt"
    assert card["architecture"] == "r32x24 w0.5 | s8 k3e1 | k3e2:16/2 | grid18"
    assert card["data"] == "synthetic shapes, seeded"
    assert 0 < card["boxes_instructions"] < card["instructions"]
    assert 0 <= card["map_int8"] <= 1
    assert f"{card['instructions']:,} instructions, counted" in shown.output
    assert "byte for byte" in shown.output
    assert card["boxes_on_board"] > 0
    assert read_head(tmp_path / "head.json").boxes == 8
    assert "network_detect(answer, &boxes)" in (tmp_path / "c" / "src" / "main.c").read_text()
    arguments = [
        str(tmp_path / "detector.tflite"),
        "--board",
        "native",
        "--detect",
        str(tmp_path / "head.json"),
    ]
    out = tmp_path / "project"
    CliRunner().invoke(export_c, [*arguments, "--out", str(out)], catch_exceptions=False)
    assert "## Boxes" in (out / "README.md").read_text()
    if compiler := shutil.which("cc"):
        built = subprocess.run(
            [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "it", *out.glob("src/*.c")],
            cwd=out, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr[:3000]
        assert subprocess.run([out / "it"], check=False).returncode == 0
