"""`--data`: every known set by its name, from the layout that users have; and what may see which part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click.testing
import numpy as np
import pytest
from tiny_trees import coco_tree, imagenet_tree, speech_tree

pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
pytest.importorskip("sklearn", reason="needs scikit-learn: pip install '.[nas]'")

from tinyhil.errors import UsageError
from tinyhil.nas.commands import search
from tinyhil.nas.data import Split
from tinyhil.nas.datasets import KINDS, load
from tinyhil.nas.detect.synthetic import write_shapes
from tinyhil.nas.session import family_for
from tinyhil.nas.size import Size, square


def npz(path: Path) -> Path:
    path.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (40, 20, 12), np.uint8)
    np.savez(path / "mine.npz", images=images, labels=np.arange(40) % 4)
    return path / "mine.npz"


# What is asked for, what makes the files, how many classes and channels come out, and height and width.
SETS: dict[str, tuple[str, Callable[[Path], Path] | None, int, int, Size]] = {
    "digits": ("digits,size=16", None, 10, 1, square(16)),
    "figures": ("figures,size=16", None, 2, 3, square(16)),
    "keywords": ("keywords", None, 6, 1, Size(49, 10)),
    "npz": ("npz:{}", npz, 4, 1, Size(20, 12)),
    "imagenet": ("imagenet:{},size=48", imagenet_tree, 3, 3, square(48)),
    "vww": ("vww:{}", coco_tree, 2, 3, square(32)),
    "voc": ("voc:{},size=16", lambda path: write_shapes(path, 12, 3, 32), 5, 3, square(16)),
    "speech": ("speech:{}", speech_tree, 3, 1, Size(49, 10)),
    "speech12": ("speech12:{}", speech_tree, 12, 1, Size(49, 10)),
}


def test_every_known_set_stands_in_the_table_below() -> None:
    assert SETS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_loaded_by_its_name_and_gets_a_family(name: str, tmp_path: Path) -> None:
    text, make, classes, channels, size = SETS[name]
    data = load(text.format(make(tmp_path / "set")) if make else text)
    assert len(data.classes) == classes
    for split in (data.train, data.valid, data.test):
        assert split.images.shape == (len(split.labels), size.height, size.width, channels)
        assert len(split) > 0
        assert np.abs(split.images).max() <= 1
    family, _, resolutions = family_for(data)
    assert (family.classes, family.channels) == (classes, channels)
    assert resolutions
    assert max(one.height for one in resolutions) <= size.height
    assert size.height == size.width or resolutions == (size,)


def test_a_file_is_known_by_its_ending_and_options_are_told_in_the_note(tmp_path: Path) -> None:
    assert load(str(npz(tmp_path / "set"))).name == "mine"
    tree = imagenet_tree(tmp_path / "tree")
    (tree / "some.txt").write_text("n01484850 great white shark\nn01440764 tench\n")
    data = load(f"imagenet:{tree},classes={tree / 'some.txt'},limit=3,size=8")
    assert data.classes == ("n01484850", "n01440764")
    assert len(data.train) + len(data.valid) == 6
    assert "limit 3" in data.note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cifar", r"unknown data set 'cifar'(.|\n)*digits(.|\n)*speech12:DIR"),
        ("imagenet", "needs its place, as in imagenet:DIR"),
        ("imagenet:/no/such/folder", "there is no /no/such/folder"),
        ("digits:here", "no files of its own"),
        ("digits,limit=5", "no option 'limit'"),
        ("keywords,size=24", "no option 'size'"),
        ("digits,noise=2", "no option 'noise'"),
        ("digits,size=0", "whole number above 0"),
        ("digits,size=x", "whole number above 0"),
        ("digits,colour=1", "unknown data set"),
        ("imagenet:.,classes=/no/list", "list of classes"),
        ("none.npz", "there is no none.npz"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(text)


def test_the_command_says_which_sets_it_knows(tmp_path: Path) -> None:
    found = click.testing.CliRunner().invoke(search, ["--data", "cifar", "--out", str(tmp_path)])
    assert found.exit_code != 0
    shown = found.output + str(found.exception)
    assert all(name in shown for name in KINDS)


def brightness(split: Split) -> set[float]:
    return {round(float(image.max()), 1) for image in split.images}


def test_the_part_to_choose_by_is_cut_from_train_and_never_from_val(tmp_path: Path) -> None:
    data = load(f"imagenet:{imagenet_tree(tmp_path / 'set', each=12)},size=8")
    assert brightness(data.train) == brightness(data.valid) == {1.0}
    assert len(data.train) + len(data.valid) == 36
    assert brightness(data.test) == {0.6}, "the darker pictures are those of val/"


def test_nobody_looks_at_a_sealed_test_part_unnoticed() -> None:
    """Every search of the tests runs on such data (tiny_search.py): it chooses without the test part."""
    from tiny_search import sealed

    with pytest.raises(AssertionError, match="looked at the test part"):
        len(sealed(load("figures,size=16")).test.images)
