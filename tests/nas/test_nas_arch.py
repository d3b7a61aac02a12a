"""Architectures as text, and the published figures that they must reproduce."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyhil.errors import UsageError
from tinyhil.nas import cost
from tinyhil.nas.arch import Arch, Block, format_arch, layers, parse
from tinyhil.nas.configs import find_arch, from_config, read_config
from tinyhil.nas.size import Size, square
from tinyhil.nas.zoo import architecture, architectures

CONFIGS = Path(__file__).resolve().parents[3] / "shared" / "configs"
needs_configs = pytest.mark.skipif(
    not CONFIGS.is_dir(),
    reason="the published configurations are not beside the checkout (../shared/configs)",
)
ORACLE_NAMES = {
    "in0": "mcunet-in0",
    "in1": "mcunet-in1",
    "in2": "mcunet-in2",
    "in3": "mcunet-in3",
    "in4": "mcunet-in4",
    "px176": "proxyless-w0.3-r176",
    "px64": "proxyless-w0.3-r64",
    "mb64": "mbv2-w0.3-r64",
    "vww1": "mcunet-vww1",
}
CONFIG_NAMES = {
    "mcunet-10fps": "mcunet-in0",
    "mcunet-5fps": "mcunet-in1",
    "mcunet-256kb-1mb": "mcunet-in2",
    "mcunet-320kb-1mb": "mcunet-in3",
    "mcunet-512kb-2mb": "mcunet-in4",
    "mcunet-256kb-1mb-int4": "mcunet-int4-256k",
    "mcunet-320kb-1mb-int4": "mcunet-int4-320k",
    "mcunet-512kb-2mb-int4": "mcunet-int4-512k",
    "mbv2-w0.35-r144": "mbv2-w0.35-r144",
    "proxyless-w0.3-r176": "proxyless-w0.3-r176",
}

blocks = st.builds(
    Block,
    kernel=st.sampled_from([1, 3, 5, 7]),
    expansion=st.integers(1, 6),
    out=st.integers(1, 64),
    stride=st.integers(1, 2),
)
stages = st.lists(st.lists(blocks, min_size=1, max_size=4).map(tuple), max_size=4)
archs = st.builds(
    lambda first, rest, **others: Arch(stages=(tuple(first), *rest), **others),
    first=st.lists(blocks, max_size=2),
    rest=stages,
    resolution=st.builds(Size, st.integers(1, 300), st.integers(1, 300)) | st.integers(1, 300).map(square),
    stem=st.integers(1, 64),
    classes=st.integers(1, 1000),
    mix=st.none() | st.integers(1, 500),
    width=st.none() | st.floats(0.01, 10),
    channels=st.integers(1, 4),
    stem_stride=st.integers(1, 2),
    grid=st.booleans(),
)


@given(archs)
@settings(max_examples=150)
def test_text_and_architecture_are_the_same_thing(arch: Arch) -> None:
    assert parse(format_arch(arch)) == arch
    assert str(parse(str(arch))) == str(arch)


def test_the_text_of_a_published_network_reads_as_documented() -> None:
    arch = parse("r176 w0.5 | s16 k3e1:8 | k7e3:16/2 k3e5 | k7e5:160 | fc1000")
    assert arch.resolution == square(176)
    assert parse("r49x10 c1 | s8 | fc2").resolution == Size(height=49, width=10)
    assert str(parse("r8x8 | s8 | fc2")) == str(parse("r8 | s8 | fc2")) == "r8 | s8 | fc2"
    assert arch.width == 0.5
    assert arch.channels == 3
    assert arch.stages[1] == (Block(7, 3, 16, 2), Block(3, 5, 16, 1))
    assert [layer.name for layer in layers(arch)][:5] == [
        "stem", "b0.dw", "b0.project", "b1.expand", "b1.dw",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "`|`"),
        ("r96 | s16", "`|`"),
        ("w0.5 | s16 | fc10", "r96"),
        ("r96 | k3e1:8 | fc10", "s16"),
        ("r96 | s16 k3e1:8 k3x4 | fc10", "k3x4"),
        ("r96 | s16 | | fc10", "no block"),
        ("r96 | s16 | m64", "fc10"),
        ("r96 r64 | s16 | fc10", "twice"),
        ("r96 | s16 k4e1 | fc10", "odd"),
        ("r96 | s16 k3e1/3 | fc10", "stride"),
        ("r96.5 | s16 | fc10", "whole"),
        ("r99999 | s16 | fc10", "resolution"),
        ("r96 | s9999 k3e16 k3e16 | fc10", "channels"),
        ("r49x | s16 | fc10", "'r49x' is not known"),
        ("r49x0 | s16 | fc10", "resolution 49x0"),
        ("r4x1025 | s16 | fc10", "resolution 4x1025"),
        ("r4 c3x3 | s16 | fc10", "3x3 must be a whole number"),
        ("r4 w3x3 | s16 | fc10", "3x3 must be one number"),
        ("r96 w99 | s16 | fc10", "width"),
    ],
)
def test_a_wrong_word_is_named_with_what_was_expected(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        parse(text)


@given(st.text(alphabet="rcxwskefcm0123456789:/|. ", max_size=60))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused_as_the_users_error(text: str) -> None:
    try:
        arch = parse(text)
    except UsageError:
        return
    assert parse(str(arch)) == arch


def test_every_architecture_of_the_zoo_is_in_canonical_form() -> None:
    for arch in architectures().values():
        assert parse(str(arch)) == arch


@needs_configs
@pytest.mark.parametrize("file", sorted(CONFIG_NAMES))
def test_published_config_is_the_architecture_of_the_zoo(file: str) -> None:
    arch = read_config(CONFIGS / f"{file}_imagenet.json")
    known = architecture(CONFIG_NAMES[file])
    assert arch.blocks == known.blocks
    assert (arch.resolution, arch.stem, arch.mix) == (known.resolution, known.stem, known.mix)
    assert parse(str(arch)) == arch


@needs_configs
@pytest.mark.parametrize("name", sorted(ORACLE_NAMES))
def test_costs_equal_the_published_figures(name: str) -> None:
    oracle: dict[str, Any] = json.loads((CONFIGS / "oracles.json").read_text())[name]
    arch = architecture(ORACLE_NAMES[name])
    assert cost.macs(arch) == oracle["macs"]
    assert cost.weights(arch) == oracle["weights"]
    assert round(cost.activation_bytes(arch) / 1024, 1) == pytest.approx(oracle["act_sum_kib"], abs=0.06)
    assert cost.tinyengine_2022_ram(arch) / 1024 == pytest.approx(oracle["sram_pred_kib"], abs=0.06)
    assert cost.tinyengine_2022_flash(arch) / 1024 == pytest.approx(oracle["flash_pred_kib"], abs=0.06)


@needs_configs
def test_predicted_ram_is_the_published_one_to_the_kilobyte_on_eight_of_nine() -> None:
    oracles: dict[str, Any] = json.loads((CONFIGS / "oracles.json").read_text())
    exact = [
        name
        for name, zoo_name in ORACLE_NAMES.items()
        if round(cost.tinyengine_2022_ram(architecture(zoo_name)) / 1024)
        == oracles[name]["published_h743"]["te_sram_kb"]
    ]
    assert len(exact) == 8, f"exact on {exact}"


def config(**changes: Any) -> dict[str, Any]:
    """A small published-style configuration of two blocks."""
    block = {
        "name": "MBInvertedConvLayer", "in_channels": 16, "out_channels": 8, "kernel_size": 3, "stride": 1,
        "expand_ratio": 1, "act_func": "relu6", "use_se": False,
    }  # fmt: skip
    second = block | {"in_channels": 8, "expand_ratio": 4, "mid_channels": 40}
    return {
        "first_conv": {
            "kernel_size": 3, "stride": 2, "in_channels": 3, "out_channels": 16, "act_func": "relu6",
        },
        "blocks": [
            {"mobile_inverted_conv": block, "shortcut": None},
            {"mobile_inverted_conv": second, "shortcut": {"name": "IdentityLayer"}},
            {"mobile_inverted_conv": {"name": "ZeroLayer"}, "shortcut": {"name": "IdentityLayer"}},
        ],
        "feature_mix_layer": None,
        "classifier": {"out_features": 10},
        "resolution": 32,
    } | changes  # fmt: skip


def test_middle_channels_win_over_the_ratio_and_empty_blocks_vanish() -> None:
    assert str(from_config(config())) == "r32 | s16 k3e1:8 k3e5 | fc10"


@pytest.mark.parametrize(
    "changes",
    [
        {"resolution": "wide"},
        {"blocks": None},
        {"classifier": {}},
        {"blocks": [{"mobile_inverted_conv": {"name": "Other"}, "shortcut": None}]},
    ],
)
def test_a_config_outside_the_family_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        from_config(config(**changes))


def test_an_architecture_is_found_by_its_text_its_name_and_the_folder_of_a_search(tmp_path: Path) -> None:
    text = "r49x10 c1 w0.5 | s8 k3e1 | k3e6:16/2 | fc6"
    rows = [
        {"name": name, "architecture": kind} for name, kind in (("random", "r8 | s8 | fc2"), ("winner", text))
    ]
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"board": "stm32f746", "networks": rows}))
    assert {str(find_arch(asked)) for asked in (text, str(tmp_path), str(card))} == {text}
    assert find_arch("mcunet-in0") == architecture("mcunet-in0")
    published = tmp_path / "published.json"
    published.write_text(json.dumps(config()))
    assert str(find_arch(str(published))) == "r32 | s16 k3e1:8 k3e5 | fc10"
    card.write_text(json.dumps({"networks": rows[:1]}))
    with pytest.raises(UsageError, match=r"card\.json is a card without"):
        find_arch(str(tmp_path))
    with pytest.raises(UsageError, match="none of the names mcunet-in0"):
        find_arch(str(tmp_path / "nowhere"))


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"[1, 2]", b"\xff\xfe", b"null")):
        path = tmp_path / f"{number}.json"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=str(number)):
            read_config(path)
