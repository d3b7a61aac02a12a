"""The recorder's cache in C does what a plain Python cache does, access by access."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.harness.targets.recorder import CacheModel

CC = shutil.which("cc")
SOURCES = Path(__file__).parents[2] / "harness" / "targets" / "recorder"

# Four numbers per access: missed, pushed a written line out, that line's owner, known beforehand.
DRIVER = """
#include "cache.h"
void drive(const char *geometry, const uint32_t *lines, const uint8_t *stores, unsigned count, int *out) {
    static struct cache cache;
    struct cache fresh = {0};
    cache = fresh;
    if (!cache_parse(&cache, geometry)) { out[0] = -1; return; }
    for (unsigned i = 0; i < count; i++) {
        uint8_t owner = lines[i] & 1;
        int known = cache_owner(&cache, lines[i], stores[i]);
        struct cache_access a = cache_touch(&cache, lines[i], stores[i], owner);
        out[4 * i] = a.miss; out[4 * i + 1] = a.evicted_dirty; out[4 * i + 2] = a.evicted_owner;
        out[4 * i + 3] = known;
    }
}
"""


@pytest.fixture(scope="module")
def drive(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, list[tuple[int, bool]]], list[list[int]]]:
    if CC is None:
        pytest.skip("needs a C compiler for this computer (cc)")
    folder = tmp_path_factory.mktemp("cache")
    (folder / "driver.c").write_text(DRIVER)
    library = folder / "cache.so"
    command = [
        CC,
        "-shared",
        "-fPIC",
        "-O1",
        f"-I{SOURCES}",
        str(folder / "driver.c"),
        str(SOURCES / "cache.c"),
    ]
    subprocess.run([*command, "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).drive

    def run(geometry: str, accesses: list[tuple[int, bool]]) -> list[list[int]]:
        count = len(accesses)
        lines = (ctypes.c_uint32 * count)(*(line for line, _ in accesses))
        stores = (ctypes.c_uint8 * count)(*(store for _, store in accesses))
        out = (ctypes.c_int * (4 * count))()
        function(geometry.encode(), lines, stores, count, out)
        return [list(out[4 * i : 4 * i + 4]) for i in range(count)]

    return run


class PlainCache:
    """The obvious cache: per set a list of [line, dirty], and the place to replace next."""

    def __init__(self, model: CacheModel) -> None:
        self.model = model
        self.sets = model.size // (model.line * model.ways)
        self.lines: dict[int, list[list[int] | None]] = {s: [None] * model.ways for s in range(self.sets)}
        self.next = dict.fromkeys(range(self.sets), 0)

    def touch(self, line: int, store: bool) -> tuple[bool, bool, int]:
        if not self.sets:
            return True, False, 0
        ways = self.lines[line % self.sets]
        lru = self.model.replacement == "lru"
        for place, entry in enumerate(ways):
            if entry is not None and entry[0] == line:
                entry[1] |= store
                if lru:
                    ways.insert(0, ways.pop(place))
                return False, False, 0
        index = len(ways) - 1 if lru else self.next[line % self.sets]
        old = ways[index]
        ways[index] = [line, int(store)]
        if lru:
            ways.insert(0, ways.pop(index))
        self.next[line % self.sets] = (self.next[line % self.sets] + 1) % len(ways)
        return True, old is not None and bool(old[1]), old[0] & 1 if old else 0


GEOMETRIES = [
    CacheModel(4096, 2),
    CacheModel(512, 4),
    CacheModel(256, 8, 32, "lru"),
    CacheModel(128, 2, 16, "lru"),
    CacheModel(0, 1),
]


@pytest.mark.parametrize("model", GEOMETRIES, ids=str)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 600), st.booleans()), min_size=1, max_size=300))
def test_every_access_hits_or_misses_as_in_a_plain_cache(
    drive: Callable[[str, list[tuple[int, bool]]], list[list[int]]],
    model: CacheModel,
    accesses: list[tuple[int, bool]],
) -> None:
    plain = PlainCache(model)
    for (line, store), (miss, dirty, owner, known) in zip(accesses, drive(str(model), accesses), strict=True):
        expected = plain.touch(line, store)
        assert (bool(miss), bool(dirty)) == expected[:2]
        if dirty:
            assert owner == expected[2]
        if known >= 0:
            assert not miss, "the short cut may only know lines that are there"


@pytest.mark.parametrize(
    "text", ["", "100:2:32:rr", "4096:2:33:rr", "4096:0:32:rr", "4096:2:32:best", "96:1:32:rr"]
)
def test_a_geometry_that_no_cache_has_is_refused(
    drive: Callable[[str, list[tuple[int, bool]]], list[list[int]]], text: str
) -> None:
    assert drive(text, [(1, False)])[0][0] == -1
