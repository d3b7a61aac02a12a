"""The shortest path through a table of options is the one that trying all paths finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from tinyhil.harness.tinyengine.paths import Option, Paths, Row, least_memory, shortest
from tinyhil.nas.prices import Price

PER_BYTE = 16
HELPERS = {"a.c": 40, "b.c": 100, "c.c": 7}


@st.composite
def tables(draw: st.DrawFn) -> list[list[Option]]:
    """Up to four steps, each with options that lead at most two steps on."""
    count = draw(st.integers(1, 4))
    table = []
    for first in range(count):
        here = []
        for _ in range(draw(st.integers(0 if first else 1, 4))):
            shared = {name: HELPERS[name] for name in draw(st.sets(st.sampled_from(sorted(HELPERS))))}
            own, scratch, instructions = draw(st.tuples(*[st.integers(0, 30)] * 3))
            price = Price("k", scratch, own, shared, instructions, ())
            after = min(first + draw(st.integers(1, 2)), count)
            flash = own + sum(shared.values())
            here.append(Option(first, after, price, draw(st.integers(1, 20)), instructions, flash, scratch))
        table.append(sorted(here, key=lambda option: option.after))
    return table


def all_paths(table: Sequence[Sequence[Option]], first: int = 0) -> Iterator[list[Option]]:
    if first == len(table):
        yield []
        return
    for option in table[first]:
        for rest in all_paths(table, option.after):
            yield [option, *rest]


def cost(path: Sequence[Option], users: Mapping[str, int]) -> int:
    """Instructions and flash of a path, with the code of each helper split among its users."""
    code = sum(size // users.get(name, 1) for o in path for name, size in o.candidate.shared.items())
    return sum(o.instructions + PER_BYTE * o.candidate.flash for o in path) + PER_BYTE * code


@given(tables(), st.dictionaries(st.sampled_from(sorted(HELPERS)), st.integers(2, 3)), st.data())
def test_the_cheapest_path_is_found_for_every_budget(
    table: list[list[Option]], users: dict[str, int], data: st.DataObject
) -> None:
    paths = Paths([Row(here, PER_BYTE) for here in table], users)
    for budget in sorted(data.draw(st.lists(st.integers(0, 20), min_size=1)), reverse=True):
        fitting = [path for path in all_paths(table) if all(o.memory <= budget for o in path)]
        found = paths.within(budget)
        if not fitting:
            assert found is None
            continue
        assert found is not None
        assert all(o.memory <= budget for o in found)
        best = min((cost(path, users), sum(o.scratch for o in path)) for path in fitting)
        assert (cost(found, users), sum(o.scratch for o in found)) == best
        assert paths.cost == best[0]


@given(tables())
def test_the_least_memory_is_that_of_the_narrowest_path(table: list[list[Option]]) -> None:
    every = list(all_paths(table))
    if not every:
        assert shortest(table, 20, PER_BYTE) is None
        return
    least = least_memory([Row(here, PER_BYTE) for here in table])
    assert least == min(max(o.memory for o in path) for path in every)
    assert shortest(table, least, PER_BYTE) is not None
    assert shortest(table, least - 1, PER_BYTE) is None
