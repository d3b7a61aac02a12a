"""Mutates .tflite files and reads them: `python tests/model/fuzz_reader.py COUNT [SEED] [FILE…]`.

Every mutated file must be read or refused with a TinyhilError within ten seconds and one GiB of memory;
what is read must also run in the reference interpreter. Anything else ends the script with a traceback
and the number of the mutation, which with the seed makes it again.
"""

from __future__ import annotations

import collections
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from test_moves import FILES, dilated, upsampling
from test_variables import ASSIGN, stream, sums

from tinyhil.errors import TinyhilError
from tinyhil.harness.model import Interpreter, read_tflite, write_tflite
from tinyhil.harness.model.random_graphs import LAYERS, random_inputs, random_layer, random_network

SECONDS = 10
GIB = 1 << 30
WORDS = (0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def seeds() -> list[bytes]:
    """Sound files to begin with: every operator, some networks, what becomes several operators, variables."""
    layers = [random_layer(kind, seed) for kind in LAYERS for seed in (0, 1)]
    graphs = [*layers, *(random_network(seed) for seed in range(10)), stream()]
    several = [*FILES.values(), upsampling((3, 3), (2, 2), True, True, True), dilated(True, 2, False, 0)]
    return [*map(write_tflite, graphs), *several, sums(ASSIGN)]


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """`data` with one to four damages: bytes, words, offsets, moved or lost pieces, a cut."""
    octets = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(len(octets)))
        word = at & ~3
        match int(random.integers(7)):
            case 0:
                octets[at] ^= 1 << int(random.integers(8))
            case 1:
                octets[at] = int(random.integers(256))
            case 2:
                octets[word : word + 4] = WORDS[int(random.integers(len(WORDS)))].to_bytes(4, "little")
            case 3:  # an offset or a count, a little beside
                value = int.from_bytes(octets[word : word + 4], "little") + int(random.integers(-8, 9))
                octets[word : word + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
            case 4:  # a word from elsewhere
                other = int(random.integers(len(octets))) & ~3
                octets[word : word + 4] = octets[other : other + 4]
            case 5:
                length = int(random.integers(1, 64))
                octets[at : at + length] = bytes(length)
            case _:
                if random.random() < 0.3:
                    del octets[at:]
                else:
                    del octets[at : at + int(random.integers(1, 9))]
        if len(octets) < 8:
            break
    if len(octets) >= 8 and random.random() < 0.9:
        octets[4:8] = b"TFL3"  # otherwise the first check catches most
    return bytes(octets)


def fuzz(count: int, seed: int, files: list[bytes]) -> collections.Counter[str]:
    """How many of `count` mutations ended in which way."""
    results: collections.Counter[str] = collections.Counter()
    for number in range(count):
        random = np.random.default_rng([seed, number])
        data = mutated(files[int(random.integers(len(files)))], random)
        signal.alarm(SECONDS)
        try:
            graph = read_tflite(data, "mutated")
            interpreter = Interpreter(graph)
            if graph.total_macs < 50_000_000:
                interpreter(*random_inputs(graph))
            results["read and run"] += 1
        except TinyhilError as error:
            if not str(error).startswith("mutated: "):
                raise RuntimeError("a message without the name of the model") from error
            results[error.code] += 1
        except BaseException:
            print(f"mutation {number} of seed {seed}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
    return results


def main(arguments: list[str]) -> None:
    """Limits the address space to what is in use plus one GiB, and fuzzes."""
    warnings.simplefilter("error")
    count, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    files = seeds() + [Path(name).read_bytes() for name in arguments[2:]]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB, used + GIB))
    start = time.monotonic()
    results = fuzz(count, seed, files)
    took = time.monotonic() - start
    print(f"{count} mutations in {took:.0f} s:", ", ".join(f"{v} {k}" for k, v in sorted(results.items())))


if __name__ == "__main__":
    main(sys.argv[1:])
