"""Architectures from files: the JSON that MCUNet, ProxylessNAS and once-for-all publish, a search's card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tinyhil.errors import UsageError
from tinyhil.nas.arch import Arch, Block, parse
from tinyhil.nas.size import square
from tinyhil.nas.zoo import architectures

MAX_BYTES = 1 << 20


CARD = "card.json"


def find_arch(text: str) -> Arch:
    """The architecture that `text` stands for: one written out, the name of a published one, the folder or
    card of a search (its winner), or a published JSON file. UsageError says what was looked for."""
    if "|" in text:
        return parse(text)
    if text in architectures():
        return architectures()[text]
    path = Path(text).expanduser()
    if not path.exists():
        raise UsageError(
            f"{text!r} is no architecture such as 'r64 | s16 k3e1:8 | fc10', no folder or card of a search, "
            f"no published JSON file, and none of the names {', '.join(architectures())}"
        )
    return read_config(path / CARD if path.is_dir() else path)


def read_config(path: Path) -> Arch:
    """The architecture in a published JSON file, or the winner of a search's card; UsageError if it is
    neither, or outside the family."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES} bytes, so not an architecture file")
        table = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a JSON architecture: {error}") from error
    if isinstance(table, dict) and "networks" in table:
        return _winner(table["networks"], path)
    return from_config(table, str(path))


def _winner(rows: Any, path: Path) -> Arch:
    try:
        return next(parse(row["architecture"]) for row in rows if row["name"] == "winner")
    except (StopIteration, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is a card without a network called `winner`") from error


def from_config(table: Any, where: str = "config") -> Arch:
    """The architecture described by `table`, a published configuration.

    Blocks that compute nothing (`ZeroLayer` beside an identity) vanish. Stages are cut where the
    channels change, which is how the published families are built.
    """
    try:
        stem = table["first_conv"]
        _family(stem["kernel_size"] == 3 and stem["act_func"] == "relu6", where, "its stem")
        cin = int(stem["out_channels"])
        stages: list[list[Block]] = [[]]
        for number, entry in enumerate(table["blocks"]):
            conv, shortcut = entry["mobile_inverted_conv"], entry["shortcut"]
            if conv is None or conv["name"] == "ZeroLayer":
                _family(shortcut is not None, where, f"block {number}")
                continue
            block = Block(
                int(conv["kernel_size"]), _expansion(conv), int(conv["out_channels"]), int(conv["stride"])
            )
            plain = conv["name"] == "MBInvertedConvLayer" and conv["act_func"] == "relu6"
            _family(plain and not conv.get("use_se"), where, f"block {number}")
            _family(int(conv["in_channels"]) == cin, where, f"block {number}'s input")
            adds = block.stride == 1 and block.out == cin
            _family(adds == (shortcut is not None), where, f"block {number}'s shortcut")
            if number and (block.stride != 1 or block.out != cin):
                stages.append([])
            stages[-1].append(block)
            cin = block.out
        mix = table["feature_mix_layer"]
        return Arch(
            resolution=square(int(table["resolution"])),
            stem=int(stem["out_channels"]),
            stages=tuple(map(tuple, stages)),
            classes=int(table["classifier"]["out_features"]),
            mix=int(mix["out_channels"]) if mix else None,
            channels=int(stem["in_channels"]),
            stem_stride=int(stem["stride"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: not a published architecture file: {error!r}") from error


def _expansion(conv: Any) -> int:
    """The expansion; where `mid_channels` is given it is the one that counts."""
    mid = conv.get("mid_channels")
    if mid is None:
        return int(conv["expand_ratio"])
    if mid % conv["in_channels"]:
        raise ValueError(f"{mid} middle channels are no multiple of {conv['in_channels']}")
    return int(mid) // int(conv["in_channels"])


def _family(good: bool, where: str, what: str) -> None:
    if not good:
        raise UsageError(f"{where}: {what} is outside the family of inverted residuals with ReLU6")
