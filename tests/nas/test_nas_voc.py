"""Pascal VOC's layout, on miniature trees of the true shape; and what is wrong with others."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.nas.crops import NOTHING, around, beside, voc_crops
from tinyhil.nas.detect.synthetic import SHAPES, write_shapes
from tinyhil.nas.size import square
from tinyhil.nas.voc import Thing, read_annotation, voc

pytest.importorskip("PIL", reason="needs Pillow: pip install '.[nas]'")

OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>
<difficult>{difficult}</difficult><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
</bndbox>{part}</object>"""
PART = (
    "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
)


def thing(name: str, *edges: object, difficult: int = 0, part: str = "") -> str:
    return OBJECT.format(*edges, name=name, difficult=difficult, part=part)


def annotation(*objects: str, size: tuple[int, int] = (40, 20)) -> str:
    return (
        "<annotation><folder>VOC2007</folder><filename>elsewhere/ignored.jpg</filename><size>"
        f"<width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
        f"<segmented>0</segmented>{''.join(objects)}</annotation>"
    )


def add_year(devkit: Path, year: str, lists: dict[str, dict[str, str]]) -> Path:
    """A year's folder; `lists` maps ImageSets/Main names to pictures and their annotations."""
    from PIL import Image

    folder = devkit / year
    for name in ("JPEGImages", "Annotations", "ImageSets/Main", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    for part, pictures in lists.items():
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(pictures) + "\n")
        for name, text in pictures.items():
            Image.new("RGB", (40, 20), (255, 0, 128)).save(folder / "JPEGImages" / f"{name}.jpg")
            (folder / "Annotations" / f"{name}.xml").write_text(text)
    return folder


DOG = annotation(thing("dog", 5, 6, 24, 15))
CAT = annotation(
    thing("cat", 1, 1, 40, 20, difficult=1), thing("person", "10.5", "2", "20.5", "12", part=PART)
)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    add_year(tmp_path, "VOC2007", {"trainval": {"000005": DOG, "000007": CAT}, "test": {"000001": CAT}})
    add_year(tmp_path, "VOC2012", {"trainval": {f"2008_00000{i}": DOG for i in range(3)}})
    return tmp_path


def test_a_devkit_of_two_years_is_trained_on_both_and_judged_on_the_part_that_is_published(
    devkit: Path,
) -> None:
    data = voc(devkit, square(8))
    assert data.classes == ("cat", "dog", "person")
    assert [len(part) for part in (data.train, data.valid, data.test)] == [4, 1, 1]
    assert data.test.images.shape == (1, 8, 8, 3)
    assert data.test.images.dtype == np.uint8
    whole, person = data.test.things[0]
    assert whole == Thing(0, (0.0, 0.0, 1.0, 1.0), difficult=True)  # 1-based, inclusive at both ends
    assert person.box == pytest.approx((9.5 / 40, 1 / 20, 20.5 / 40, 12 / 20))
    assert not person.difficult
    dogs = [each for each in (*data.train.things, *data.valid.things) if len(each) == 1]
    assert len(dogs) == 4
    assert all(each[0].box == pytest.approx((0.1, 0.25, 0.6, 0.75)) for each in dogs)


def test_objects_are_cut_out_square_and_difficult_ones_left_out(devkit: Path) -> None:
    data = voc_crops(devkit, square(8))
    assert data.classes == ("cat", "dog", "person", NOTHING)
    # 000001, the one test picture: a difficult cat that fills it, so nothing is beside it, and a person.
    assert data.test.labels.tolist() == [2]
    assert data.test.images.shape == (1, 8, 8, 3)
    train = [*data.train.labels, *data.valid.labels]
    assert train.count(1) == train.count(3) == 4, "four pictures of one dog, and a place beside each"
    assert 0 not in train


@given(st.data(), st.integers(4, 90), st.integers(4, 90))
@settings(max_examples=50)
def test_what_is_cut_out_lies_in_the_picture(data: st.DataObject, width: int, height: int) -> None:
    def edges(full: int) -> tuple[float, float]:
        first, second = sorted(data.draw(st.lists(st.integers(0, full), min_size=2, max_size=2, unique=True)))
        return first, second

    (left, right), (top, bottom) = edges(width), edges(height)
    box = (left, top, right, bottom)
    x, y, end, low = around(box, width, height)
    assert 0 <= x < end <= width
    assert 0 <= y < low <= height
    assert end - x == pytest.approx(low - y)
    if max(right - left, bottom - top) <= min(width, height):
        assert (x, y) <= (left, top)
        assert right <= end
        assert bottom <= low
    empty = beside([box], width, height, np.random.default_rng(0))
    if empty is not None:
        apart = (empty[2] <= left, right <= empty[0], empty[3] <= top, bottom <= empty[1])
        assert any(apart)
        assert 0 <= empty[0] < empty[2] <= width
        assert 0 <= empty[1] < empty[3] <= height


def test_one_year_without_a_test_part_is_judged_on_val(tmp_path: Path) -> None:
    add_year(tmp_path, "VOC2012", {"train": {"a": DOG, "b": DOG}, "val": {"c": DOG}})
    for root in (tmp_path, tmp_path / "VOC2012"):
        data = voc(root, square(8))
        assert [len(part) for part in (data.train, data.valid, data.test)] == [1, 1, 1]


def test_lists_of_one_class_and_limits_are_read(devkit: Path) -> None:
    (devkit / "VOC2007" / "ImageSets" / "Main" / "trainval.txt").write_text("000005 -1\n\n000007  1\n")
    assert len(voc(devkit / "VOC2007", square(8)).train) == 1
    assert len(voc(devkit, square(8), limit=1).train) == 1
    assert voc(devkit, square(8), classes=("person", "cat", "dog")).test.things[0][0].label == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<annotation>", "not a VOC annotation"),
        ("", "not a VOC annotation"),
        ("<html></html>", "the root is <html>"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation></annotation>', "declares a document type"),
        (annotation(thing("dog", 9, 6, 4, 15)), r"object 1 \(dog\)"),
        (annotation(thing("dog", "nan", 6, 4, 15)), "<xmin> in <bndbox> is 'nan'"),
        (annotation(thing("dog", "", 6, 4, 15)), "not a number"),
        (annotation(thing("dog", "1e9", 6, "1e10", 15)), "not a number"),
        (annotation(thing("", 1, 1, 2, 2)), "object 1 has no name"),
        (annotation(thing("a;b", 1, 1, 2, 2)), "odd characters"),
        (annotation("<object><name>dog</name></object>"), "has no <bndbox>"),
        (annotation(thing("dog", 1, 1, 2, 2) * 2001), "are more than 2000"),
        (annotation(thing("dog", 50, 1, 60, 2)), "lies outside of the picture"),
        (annotation(thing("dog", 1, 1, 2, 2), size=(20, 40)), "its boxes would lie in wrong places"),
    ],
)  # fmt: skip
def test_a_wrong_annotation_is_named(devkit: Path, text: str, complaint: str) -> None:
    file = devkit / "VOC2007" / "Annotations" / "000007.xml"
    file.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        voc(devkit, square(8))
    assert str(file) in str(caught.value)


def test_what_is_missing_or_leads_elsewhere_is_named(devkit: Path) -> None:
    year = devkit / "VOC2007"
    names = year / "ImageSets" / "Main" / "trainval.txt"
    with pytest.raises(UsageError, match="not in Pascal VOC's layout"):
        voc(year / "JPEGImages", square(8))
    for wrong in ("../../etc/passwd", "/etc/passwd", "..", "a\0b"):
        names.write_text(f"000005\n{wrong}\n")
        with pytest.raises(UsageError, match=r"line 2.*is not the name of a picture"):
            voc(devkit, square(8))
    names.write_text("000005\n000006\n")
    with pytest.raises(UsageError, match=r"000006 is listed, but .*000006.jpg is not there"):
        voc(devkit, square(8))
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a list of names"):
        voc(devkit, square(8))
    names.write_text("000005\n000007\n")
    with pytest.raises(UsageError, match="class 'person' is not one of cat, dog"):
        voc(devkit, square(8), classes=("cat", "dog"))
    (year / "JPEGImages" / "000005.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"000005.jpg is not a readable picture"):
        voc(devkit, square(8))


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
@settings(max_examples=60)
def test_any_bytes_give_an_annotation_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.xml"
    file.write_bytes(b"<annotation>" + data + b"</annotation>")
    with contextlib.suppress(UsageError):
        assert read_annotation(file).size is None or data


def test_the_synthetic_set_is_in_the_layout_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    year = write_shapes(tmp_path / "a", 12, 3, size=32, seed=5)
    write_shapes(tmp_path / "b", 12, 3, size=32, seed=5)
    write_shapes(tmp_path / "c", 12, 3, size=32, seed=6)
    texts = [
        (tmp_path / root / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml").read_text()
        for root in "abc"
    ]
    assert texts[0] == texts[1] != texts[2]
    data = voc(year, square(32))
    assert set(data.classes) <= set(SHAPES)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [11, 1, 3]
    every = [each for part in (data.train, data.test) for things in part.things for each in things]
    assert all(0.1 < each.box[2] - each.box[0] < 0.55 for each in every)
    other = voc(tmp_path / "b" / "VOCdevkit", square(32))
    np.testing.assert_array_equal(data.train.images, other.train.images)
