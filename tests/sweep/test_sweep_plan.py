"""A plan is a product of lists; its items are dealt to shards, and what the store knows is not done again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.harness.engine import Options
from tinyhil.harness.sweep.plan import Item, Source, parse_plan, parse_subset, read_plan, subset
from tinyhil.harness.sweep.work import batches, clock, eta, exit_code, first_causes, left

names = st.text("abcxyz", min_size=1, max_size=3)
items = st.builds(
    Item,
    st.builds(Source, kind=names, seed=st.integers(0, 9)),
    names,
    names,
    st.sampled_from([Options(), Options("ram"), Options(disabled=frozenset({"x"}))]),
)
firms = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["qemu", "native"]))


def test_a_plan_is_the_product_of_its_lists_networks_outermost() -> None:
    plan = parse_plan(
        {
            "networks": ["*.tflite"],
            "boards": ["b1", "b2"],
            "engines": ["e1", "e2"],
            "options": [{}, {"prefer": "ram", "without": ["overlap"], "float_io": True}],
        },
        "plan.toml",
    )
    rows = plan.items([Path("m/one.tflite"), Path("m/two.tflite")])
    assert len(rows) == len(set(rows)) == 2 * 2 * 2 * 2
    assert str(rows[0]) == "one e1 b1"
    assert str(rows[-1]) == "two e2 b2 prefer=ram float-io without=overlap"


def test_layers_are_counted_per_kind() -> None:
    plan = parse_plan({"boards": ["b"], "layers": {"kinds": ["Conv2D", "Add"], "count": 3, "seed": 5}}, "p")
    assert [str(item.source) for item in plan.items(())] == [
        "conv2d_5", "add_5", "conv2d_6", "add_6", "conv2d_7", "add_7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "nothing to measure"),
        ({"networks": ["x"]}, "which board"),
        ({"networks": "x", "boards": ["b"]}, "networks must be a list"),
        ({"networks": ["x"], "boards": ["b"], "engine": ["e"]}, "unknown key 'engine'"),
        ({"layers": {"kinds": ["Nonesuch"]}, "boards": ["b"]}, "no layer 'Nonesuch'"),
        ({"layers": {"count": 0}, "boards": ["b"]}, "count must be 1 or more"),
        ({"networks": ["x"], "boards": ["b"], "options": [{"prefer": "luck"}]}, "speed, ram, flash"),
        ({"networks": ["x"], "boards": ["b"], "options": [{"without": "a"}]}, "without must be a list"),
        ({"networks": ["x"], "boards": ["b"], "options": {"prefer": "ram"}}, "[[options]]"),
    ],
)
def test_a_wrong_plan_says_which_key(table: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_plan(table, "plan.toml")
    assert words in str(error.value)
    assert "plan.toml" in str(error.value)


def test_files_are_found_relative_to_the_plan(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("b", "a"):
        (tmp_path / "models" / f"{name}.tflite").write_bytes(b"")
    path = tmp_path / "plan.toml"
    path.write_text('networks = ["models", "models/a*.tflite"]\nboards = ["b"]\n')
    assert [file.name for file in read_plan(path)[1]] == ["a.tflite", "b.tflite"]
    path.write_text('networks = ["none/*.tflite"]\nboards = ["b"]\n')
    with pytest.raises(UsageError, match=r"nothing matches 'none/\*\.tflite'"):
        read_plan(path)
    path.write_text("networks = [")
    with pytest.raises(UsageError, match="not valid TOML"):
        read_plan(path)


@given(st.lists(items, unique=True, max_size=40), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_shards_are_a_partition_and_balanced(rows: list[Item], parts: int) -> None:
    shards = [subset(rows, part, parts) for part in range(1, parts + 1)]
    assert sorted(map(str, rows)) == sorted(str(item) for shard in shards for item in shard)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    order = {item: place for place, item in enumerate(rows)}
    assert all([order[item] for item in shard] == sorted(order[item] for item in shard) for shard in shards)


@pytest.mark.parametrize("words", ["0/2", "3/2", "1", "a/b", "-1/2", "1/0", ""])
def test_a_wrong_subset_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match="PART/PARTS"):
        parse_subset(words)


@given(st.lists(firms, max_size=20), st.sets(firms), st.sets(firms), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_item_is_in_one_place_and_each_firmware_is_measured_once(
    batch: list[tuple[str, str]], good: set[tuple[str, str]], bad: set[tuple[str, str]], retry: bool
) -> None:
    work = left(list(enumerate(batch)), good, bad, retry_failed=retry)
    places = [work.todo, work.known, work.failed, work.twins]
    assert sorted(item for place in places for item in place) == list(range(len(batch)))
    measured = [batch[item] for item in work.todo]
    assert len(set(measured)) == len(measured)
    assert set(measured) == set(batch) - good - (set() if retry else bad)
    again = left(list(enumerate(batch)), good | set(measured), bad, retry_failed=retry)
    assert again.todo == ()


@given(st.lists(st.integers(), max_size=30), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_batches_keep_everything_in_order(rows: list[int], size: int) -> None:
    parts = list(batches(rows, size))
    assert [row for part in parts for row in part] == rows
    assert all(len(part) <= size for part in parts)


def test_the_time_to_go_is_that_of_what_is_done() -> None:
    assert eta(0, 10, 5.0) is None
    assert eta(4, 10, 8.0) == 20.0
    assert [clock(None), clock(7), clock(83), clock(3723)] == ["-:--", "0:07", "1:23", "1:02:03"]


def test_a_cause_is_told_once_with_all_that_it_hit() -> None:
    causes = first_causes([("a", "X", "first"), ("b", "Y", "other"), ("c", "X", "second")])
    assert [(c.code, c.message, c.items) for c in causes] == [
        ("X", "first", ("a", "c")),
        ("Y", "other", ("b",)),
    ]
    assert [exit_code(True, True), exit_code(False, True), exit_code(False, False)] == [1, 10, 0]
