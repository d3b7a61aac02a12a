"""Every data set that `tinyhil search --data` knows, by name: the one list of them.

    digits    figures    keywords    mine.npz    imagenet:DIR,classes=FILE,limit=200,size=96

A name, the place of the files where there are any, then options. Everything is read into memory;
`limit` (examples per class and part) and, for pictures, `size` (pixels a side) keep large sets within it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tinyhil.errors import UsageError
from tinyhil.nas.crops import voc_crops
from tinyhil.nas.data import Dataset, digits, load_npz
from tinyhil.nas.loaders import class_list, image_folders, visual_wake_words
from tinyhil.nas.size import square
from tinyhil.nas.speech import speech_commands
from tinyhil.nas.synthetic import figures, keywords

DEFAULT_SIZE = 32


@dataclass(frozen=True)
class Asked:
    """What stands behind a name: the `place` of the files (None where there are none), and options."""

    place: Path | None
    size: int = DEFAULT_SIZE
    limit: int | None = None
    classes: Path | None = None
    noise: int = 1

    @property
    def folder(self) -> Path:
        """The place, where a set needs one."""
        assert self.place is not None
        return self.place


@dataclass(frozen=True)
class Kind:
    """One known set: what its place is called in help texts ("" where it needs none), the options that
    it takes, and how it is loaded."""

    place: str
    about: str
    options: tuple[str, ...]
    load: Callable[[Asked], Dataset]


def _imagenet(asked: Asked) -> Dataset:
    names = class_list(asked.classes) if asked.classes else None
    return image_folders(asked.folder, asked.size, names, asked.limit)


def _wake_words(asked: Asked) -> Dataset:
    return visual_wake_words(asked.folder, asked.size, asked.limit)


KINDS: Mapping[str, Kind] = {
    "digits": Kind("", "scikit-learn's handwritten digits", ("size",), lambda a: digits(a.size)),
    "figures": Kind(
        "", "synthetic: is there a figure in the picture?", ("size",), lambda a: figures(a.size)
    ),
    "keywords": Kind(
        "", "synthetic: six tone gestures as MFCCs", ("noise",), lambda a: keywords(noise=a.noise)
    ),
    "npz": Kind("FILE", "arrays of one's own; FILE.npz alone will do", (), lambda a: load_npz(a.folder)),
    "imagenet": Kind(
        "DIR", "train/<class>/*.JPEG and val/<class>/*.JPEG", ("size", "limit", "classes"), _imagenet
    ),
    "vww": Kind(
        "DIR", "COCO: annotations/instances_*.json, train2017/, val2017/", ("size", "limit"), _wake_words
    ),
    "voc": Kind(
        "DIR", "the objects of a detection set in Pascal VOC's layout", ("size", "limit"),
        lambda a: voc_crops(a.folder, square(a.size), a.limit),
    ),
    "speech": Kind(
        "DIR", "Google Speech Commands v2, all 35 words", ("limit",),
        lambda a: speech_commands(a.folder, 35, a.limit),
    ),
    "speech12": Kind(
        "DIR", "the same as ten words, unknown and silence", ("limit",),
        lambda a: speech_commands(a.folder, 12, a.limit),
    ),
}  # fmt: skip

_OPTION = re.compile(r",(?P<key>size|limit|classes|noise)=(?P<value>[^,]*)$")


def load(text: str) -> Dataset:
    """The data set that `text` asks for. UsageError names the known ones, or says what is missing."""
    asked, options = text, {}
    while found := _OPTION.search(asked):
        options[found["key"]] = found["value"]
        asked = asked[: found.start()]
    name, _, place = asked.partition(":")
    if name not in KINDS and asked.endswith(".npz"):
        name, place = "npz", asked
    if name not in KINDS:
        raise UsageError(f"unknown data set {asked!r}. Known are:\n{overview()}")
    kind = KINDS[name]
    if kind.place and not place:
        raise UsageError(f"data set {name} needs its place, as in {name}:{kind.place} ({kind.about})")
    if place and not kind.place:
        raise UsageError(f"data set {name} has no files of its own; leave out {place!r}")
    for key in options:
        if key not in kind.options:
            can = ", ".join(kind.options) or "none"
            raise UsageError(f"data set {name} has no option {key!r}; its options: {can}")
    if place and not Path(place).expanduser().exists():
        raise UsageError(f"data set {name}: there is no {place}")
    data = kind.load(
        Asked(
            Path(place).expanduser() if place else None,
            _number(options, "size") or DEFAULT_SIZE,
            _number(options, "limit"),
            Path(options["classes"]) if "classes" in options else None,
            _number(options, "noise") or 1,
        )
    )
    said = "".join(f", {key} {value}" for key, value in sorted(options.items()))
    return replace(data, note=data.note + said)


def overview() -> str:
    """The known sets, a line each."""
    lines = []
    for name, kind in KINDS.items():
        form = name + (f":{kind.place}" if kind.place else "")
        options = f" [{', '.join(kind.options)}]" if kind.options else ""
        lines.append(f"  {form:13} {kind.about}{options}")
    return "\n".join(lines)


def _number(options: Mapping[str, str], key: str) -> int | None:
    if key not in options:
        return None
    if not re.fullmatch(r"[0-9]{1,6}", options[key]) or int(options[key]) < 1:
        raise UsageError(f"{key}={options[key]} is not a whole number above 0")
    return int(options[key])
