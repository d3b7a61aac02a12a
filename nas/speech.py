"""Google Speech Commands v2 as it is unpacked: a folder of one-second sounds per word, and two lists.

The set's authors put all takes of a speaker into one part, by a hash of the speaker's name; their lists
say the outcome. The same hash cuts the search's own part off the training speakers. The sounds of
validation_list.txt are left alone: a search chooses by a part of its own.
"""

from __future__ import annotations

import hashlib
import math
import random
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyhil.errors import UsageError
from tinyhil.nas.audio import RATE, TIME, mfcc
from tinyhil.nas.data import Dataset, Split

TEN_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = 0.1  # `unknown` and `silence` have each a tenth as many examples as the ten words together
NOISE = "_background_noise_"
PARTS = ("train", "valid", "test")
STRETCH = {"train": (0.0, 0.8), "valid": (0.8, 0.9), "test": (0.9, 1.0)}  # of each noise file

Sound = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """Up to a second of a file, from sample `start`, `length` samples long, times `gain`; and its label."""

    path: Path
    label: int
    start: int = 0
    length: int = RATE
    gain: float = 1.0


def speech_commands(root: Path, words: int = 35, limit: int | None = None, seed: int = 0) -> Dataset:
    """`root/<word>/<speaker>_nohash_<take>.wav`, validation_list.txt and testing_list.txt.

    `words` is 35 (every folder), or 12: ten commands, `unknown` (drawn from the other words) and `silence`
    (cut from _background_noise_, of each file another stretch for each part). `limit` is a number of
    examples per class and part. Each second becomes 49 x 10 MFCCs.
    """
    if words not in (12, 35):
        raise UsageError(f"Speech Commands is used with 12 or 35 words, not {words}")
    left_out, testing = (_listed(root / f"{part}_list.txt") for part in ("validation", "testing"))
    folders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("_"))
    names = tuple(folders) if words == 35 else (*TEN_WORDS, "unknown", "silence")
    takes: dict[tuple[str, str], list[Path]] = {(part, word): [] for part in PARTS for word in folders}
    for word in folders:
        for path in sorted((root / word).glob("*.wav")):
            asked = f"{word}/{path.name}"
            if asked not in left_out:
                part = "test" if asked in testing else "valid" if is_chosen(path.name) else "train"
                takes[part, word].append(path)
    splits = {}
    for part in PARTS:
        known = [word for word in folders if word in names]
        clips = [Clip(path, names.index(word)) for word in known for path in takes[part, word][:limit]]
        if words == 12:
            source = random.Random(f"{seed} {part}")
            count = math.ceil(OTHERS * len(clips))
            others = [path for word in folders if word not in names for path in takes[part, word]]
            drawn = source.sample(others, min(count, len(others)))
            clips += [Clip(path, names.index("unknown")) for path in drawn]
            clips += silence(root / NOISE, count, STRETCH[part], names.index("silence"), source)
        splits[part] = _split(clips, f"{root}: no sound for {part}")
    return Dataset(f"gsc{words}", names, **splits, note="Google Speech Commands v2", movable=TIME)


def speaker_percent(name: str) -> float:
    """Where in 0..100 the set's authors place the speaker of the file called `name`: below 10 their
    validation part begins, from 10 on the testing part, from 20 on the training part."""
    most = 2**27 - 1
    digest = hashlib.sha1(name.partition("_nohash_")[0].encode(), usedforsecurity=False).hexdigest()
    return int(digest, 16) % (most + 1) * 100 / most


def is_chosen(name: str) -> bool:
    """Whether a training file called `name` is of a speaker to choose by: a tenth of them."""
    return 20 <= speaker_percent(name) < 28


def silence(
    folder: Path, count: int, stretch: tuple[float, float], label: int, source: random.Random
) -> list[Clip]:
    """`count` seconds of noise at any loudness, from the share `stretch` of the files in `folder`."""
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise UsageError(f"{folder} has no .wav files: `silence` is cut from them")
    clips = []
    for number in range(count):
        path = files[number % len(files)]
        first, last = (int(share * _frames(path)) for share in stretch)
        start = source.randint(first, max(first, last - RATE))
        clips.append(Clip(path, label, start, min(RATE, last - start), source.random()))
    return clips


def read_wav(path: Path, start: int = 0, length: int = RATE) -> Sound:
    """`length` samples (at most a second) of a 16 kHz mono 16-bit file as float32 [16000] in [-1, 1], with
    silence behind what is shorter. UsageError where the file is another."""
    try:
        with wave.open(str(path)) as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
                raise UsageError(f"{path} is not 16 kHz, mono, 16 bit")
            file.setpos(start)
            data = np.frombuffer(file.readframes(min(length, RATE)), "<i2")
    except (wave.Error, EOFError, OSError) as error:
        raise UsageError(f"{path} is not a readable .wav file: {error}") from error
    sound = np.zeros(RATE, np.float32)
    sound[: len(data)] = data / 32768
    return sound


def _frames(path: Path) -> int:
    try:
        with wave.open(str(path)) as file:
            return int(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise UsageError(f"{path} is not a readable .wav file: {error}") from error


def _listed(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text().split())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.parent} is not the unpacked Speech Commands set: {error}") from error


def _split(clips: Sequence[Clip], empty: str) -> Split:
    if not clips:
        raise UsageError(empty)
    return Split(_features(clips), np.array([clip.label for clip in clips], np.int64))


def _features(clips: Iterable[Clip]) -> npt.NDArray[np.float32]:
    sounds = (clip.gain * read_wav(clip.path, clip.start, clip.length) for clip in clips)
    return np.stack([mfcc(sound) for sound in sounds]).astype(np.float32)[..., None]
