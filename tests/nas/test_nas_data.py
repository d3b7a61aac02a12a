"""Data sets: in memory, from files, in the layouts that the originals have on disk."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_trees import THINGS, TONES, coco, coco_tree, imagenet_tree, save_picture, save_sound, speech_tree

from tinyhil.errors import UsageError
from tinyhil.nas.audio import COEFFICIENTS, FRAMES, RATE, filters, mfcc
from tinyhil.nas.data import Dataset, Split, digits, load_npz, partition, resize, smooth_images
from tinyhil.nas.loaders import class_list, image_folders, visual_wake_words
from tinyhil.nas.size import square
from tinyhil.nas.speech import STRETCH, is_chosen, read_wav, silence, speaker_percent, speech_commands
from tinyhil.nas.synthetic import KEYWORDS, figures, keywords, tone_gesture


def parts_of(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.valid, data.test


def keys(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images}


def test_digits_are_all_there_and_in_three_parts_that_share_nothing() -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install '.[nas]'")
    data = digits()
    assert sum(map(len, parts_of(data))) == 1797
    assert len(data.classes) == 10
    for split in parts_of(data):
        assert split.images.min() >= -1
        assert split.images.max() <= 1
        assert set(split.labels) == set(range(10))
    assert not keys(data.train) & keys(data.test)
    assert not keys(data.train) & keys(data.valid)
    assert keys(digits(seed=1).test) != keys(data.test)
    assert digits(resolution=24).train.images.shape[1:] == (24, 24, 1)


@given(st.integers(3, 60), st.integers(0, 99))
@settings(max_examples=30)
def test_a_partition_loses_and_repeats_nothing(count: int, seed: int) -> None:
    whole = Split(np.zeros((count, 1, 1, 1), np.float32), np.arange(count))
    if count < 8:
        count_ok = round(0.2 * count) >= 1 and round(0.15 * count) >= 1
        if not count_ok:
            with pytest.raises(UsageError, match="too few"):
                partition("x", ("a",), whole, seed, "", (0.15, 0.2))
            return
    data = partition("x", ("a",), whole, seed, "", (0.15, 0.2))
    assert sorted(np.concatenate([split.labels for split in parts_of(data)])) == list(range(count))


def test_resizing_keeps_flat_pictures_flat_and_means_alike() -> None:
    flat = np.full((1, 9, 9, 2), 0.3, np.float32)
    np.testing.assert_allclose(resize(flat, square(17)), 0.3, rtol=1e-6)
    picture = smooth_images(1, square(32), 1, 4)
    assert resize(picture, square(16)).mean() == pytest.approx(picture.mean(), abs=0.02)
    assert resize(picture, square(32)) is picture


def write_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_an_npz_file_of_ones_own_is_read(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8)
    labels = np.arange(40) % 4
    data = load_npz(write_npz(tmp_path / "mine.npz", images=images, labels=labels))
    assert data.name == "mine"
    assert len(data.classes) == 4
    assert data.train.images.shape[1:] == (12, 12, 1)
    assert float(data.train.images.min()) >= -1
    others = {f"{part}_{kind}": array[:4] for part in ("valid", "test") for kind, array in
              (("images", images), ("labels", labels))}  # fmt: skip
    given_parts = load_npz(write_npz(tmp_path / "parts.npz", images=images, labels=labels, **others))
    assert [len(split) for split in parts_of(given_parts)] == [40, 4, 4]


def test_a_wrong_npz_file_is_refused_with_the_array_named(tmp_path: Path) -> None:
    good = np.zeros((9, 4, 4, 1), np.uint8)
    labels = np.zeros(9, np.int64)
    wrong: dict[str, dict[str, object]] = {
        "needs arrays": {"pictures": good},
        "labels` must be one": {"images": good, "labels": labels[:5]},
        "different shapes": {"images": good, "labels": labels}
        | {
            f"{part}_{kind}": array
            for part in ("valid", "test")
            for kind, array in (("images", good[:, :2]), ("labels", labels))
        },
        "must be": {"images": good[:, 0, 0], "labels": labels},
        "must be uint8": {"images": good.astype(np.float32) + 5, "labels": labels},
        "must not be negative": {"images": good, "labels": labels - 1},
        "give both": {"images": good, "labels": labels, "test_images": good, "test_labels": labels},
    }
    for number, (message, arrays) in enumerate(wrong.items()):
        with pytest.raises(UsageError, match=message):
            load_npz(write_npz(tmp_path / f"{number}.npz", **arrays))
    for name, content in (("text.npz", b"hello"), ("cut.npz", (tmp_path / "0.npz").read_bytes()[:80])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=name):
            load_npz(tmp_path / name)
    write_npz(tmp_path / "code.npz", images=np.array([{"a": 1}], object), labels=labels)
    with pytest.raises(UsageError, match=r"code\.npz"):
        load_npz(tmp_path / "code.npz")


def test_imagenet_folders_are_read_as_they_are_unpacked(tmp_path: Path) -> None:
    imagenet_tree(tmp_path)
    (tmp_path / "train" / "n01440764" / "notes.txt").write_text("not a picture")
    data = image_folders(tmp_path, 16)
    assert data.classes == tuple(TONES)
    assert [len(split) for split in parts_of(data)] == [11, 1, 3]
    for split in parts_of(data):
        for image, label in zip(split.images, split.labels, strict=True):
            tone = image.mean((0, 1))
            assert int(tone.argmax()) == label
            assert sorted(tone)[1] < -0.9, "a pure tone, from RGB, CMYK and PNG alike"
    (tmp_path / "imagenet100.txt").write_text("n01484850 great white shark\nn01440764 tench\n")
    some = image_folders(tmp_path, 8, classes=class_list(tmp_path / "imagenet100.txt"), limit=2)
    assert some.classes == ("n01484850", "n01440764")
    assert len(some.train) + len(some.valid) == 4
    with pytest.raises(UsageError, match="train/"):
        image_folders(tmp_path / "train", 8)
    with pytest.raises(UsageError, match=r"n999.*unpacked flat"):
        image_folders(tmp_path, 8, classes=("n999",))
    (tmp_path / "val" / "n01440764" / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(UsageError, match=r"broken\.jpg"):
        image_folders(tmp_path, 8)


def test_grey_pictures_are_read_as_three_equal_channels(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    for part in ("train", "val"):
        for number in range(2):
            save_picture(path := tmp_path / part / "n01440764" / f"{number}.JPEG", (0, 0, 0))
            image.new("L", (30, 40), 200).save(path)
    data = image_folders(tmp_path, 8)
    np.testing.assert_allclose(data.test.images, 200 / 127.5 - 1, atol=0.02)


def test_visual_wake_words_are_labelled_as_their_authors_do(tmp_path: Path) -> None:
    coco_tree(tmp_path)
    data = visual_wake_words(tmp_path, 8)
    assert data.classes == ("no person", "person")
    assert len(data.train) + len(data.valid) == len(data.test) == len(THINGS) + 1
    assert sorted(data.test.labels) == [0, 0, 0, 1, 1], "a crowd counts, less than half a percent does not"
    for image, label in zip(data.test.images, data.test.labels, strict=True):
        assert (image.mean() > 0) == (label == 1)
    assert sorted(visual_wake_words(tmp_path, 8, limit=1).test.labels) == [0, 1]


def test_visual_wake_words_prefer_the_parts_that_their_authors_cut(tmp_path: Path) -> None:
    coco_tree(tmp_path, ("maxitrain", "minival"), "all2014")
    annotations = tmp_path / "annotations"
    assert "maxitrain" in visual_wake_words(tmp_path, 8).note
    (annotations / "instances_minival.json").rename(annotations / "instances_val2017.json")
    with pytest.raises(UsageError, match=r"has not instances_maxitrain\.json with instances_minival"):
        visual_wake_words(tmp_path, 8)


def test_wrong_annotations_of_coco_are_refused(tmp_path: Path) -> None:
    coco_tree(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    for name, complaint in (("../../etc/passwd", "leads out"), ("000000000404.jpg", "404.jpg of .* none of")):
        file.write_text(json.dumps(coco([name] * 5)))
        with pytest.raises(UsageError, match=complaint):
            visual_wake_words(tmp_path, 8)
    file.write_text('{"images": 3}')
    with pytest.raises(UsageError, match="not a COCO"):
        visual_wake_words(tmp_path, 8)


def test_the_hash_of_a_speaker_gives_the_published_lists() -> None:
    """The first names of each list as it comes with version 2 of the set."""
    validation, testing = ("026290a7", "060cd039", "099d52ad"), ("0c40e715", "0ea0e2f4")
    assert all(speaker_percent(f"{name}_nohash_0.wav") < 10 for name in validation)
    assert all(10 <= speaker_percent(f"{name}_nohash_3.wav") < 20 for name in testing)
    assert not any(is_chosen(name) for name in (*validation, *testing))


def test_speech_commands_keep_speakers_and_the_sets_own_parts_apart(tmp_path: Path) -> None:
    speech_tree(tmp_path)
    every = speech_commands(tmp_path)
    assert every.classes == ("cat", "no", "yes")
    assert [len(split) for split in parts_of(every)] == [21, 3, 6], "the validation list is left alone"
    assert every.train.images.shape[1:] == (49, 10, 1)
    assert [len(split) for split in parts_of(speech_commands(tmp_path, limit=2))] == [6, 3, 6]


def test_of_twelve_words_a_tenth_is_unknown_and_a_tenth_is_silence(tmp_path: Path) -> None:
    twelve = speech_commands(speech_tree(tmp_path), words=12)
    assert len(twelve.classes) == 12
    assert twelve.classes[-2:] == ("unknown", "silence")
    for split, commands in zip(parts_of(twelve), (7, 1, 2), strict=True):
        others = -(-2 * commands // 10)
        counts = np.bincount(split.labels, minlength=12)
        assert counts[[0, 1, 10, 11]].tolist() == [commands, commands, others, others]
        assert counts.sum() == len(split)


def test_silence_is_cut_from_another_stretch_of_noise_for_each_part(tmp_path: Path) -> None:
    folder = speech_tree(tmp_path) / "_background_noise_"
    for part, (first, last) in STRETCH.items():
        clips = silence(folder, 20, (first, last), 11, random.Random(part))
        assert len({clip.start for clip in clips}) > 1
        for clip in clips:
            sound = read_wav(clip.path, clip.start, clip.length)
            assert first - 0.02 <= sound[0] <= sound[clip.length - 1] <= last + 0.02
            assert 0 <= clip.gain <= 1
    with pytest.raises(UsageError, match="silence"):
        silence(tmp_path / "yes_and_no", 1, (0.0, 1.0), 11, random.Random(0))


def test_what_is_not_speech_commands_is_refused(tmp_path: Path) -> None:
    speech_tree(tmp_path)
    with pytest.raises(UsageError, match="12 or 35"):
        speech_commands(tmp_path, words=20)
    with pytest.raises(UsageError, match=r"not the unpacked.*validation_list"):
        speech_commands(tmp_path / "yes")
    save_sound(tmp_path / "slow.wav", np.zeros(100), rate=8000)
    (tmp_path / "text.wav").write_text("hello")
    for name in ("slow.wav", "text.wav"):
        with pytest.raises(UsageError, match=name):
            read_wav(tmp_path / name)
    (tmp_path / "testing_list.txt").write_text("")
    with pytest.raises(UsageError, match="no sound for test"):
        speech_commands(tmp_path, limit=1)


def test_the_front_end_gives_49_frames_of_10_coefficients_and_tells_pitches_apart() -> None:
    time = np.arange(RATE) / RATE
    low, high = (mfcc(0.5 * np.sin(2 * np.pi * pitch * time)) for pitch in (300.0, 2000.0))
    assert low.shape == (FRAMES, COEFFICIENTS) == (49, 10)
    assert np.abs(low).max() <= 1
    assert np.abs(low.mean(0) - high.mean(0)).max() > 0.1
    bank = filters()
    assert bank.shape == (40, 513)
    assert (bank.max(axis=1) > 0.3).all()
    assert (np.diff(bank.argmax(axis=1)) >= 0).all()


@pytest.mark.parametrize("make", [partial(figures, 16), keywords])
def test_synthetic_sets_are_seeded_balanced_and_labelled_as_such(make: type) -> None:
    data, again, other = make(60, 1), make(60, 1), make(60, 2)
    np.testing.assert_array_equal(data.train.images, again.train.images)
    assert not np.array_equal(data.train.images, other.train.images)
    assert "synthetic" in data.note
    assert set(data.train.labels) <= set(range(len(data.classes)))
    assert np.bincount(data.train.labels).max() < 0.75 * len(data.train)
    assert len(KEYWORDS) == 6


def test_more_noise_changes_what_is_heard_and_not_what_is_said() -> None:
    calm, loud = keywords(60, 1), keywords(60, 1, noise=8)
    np.testing.assert_array_equal(calm.train.labels, loud.train.labels)
    assert not np.array_equal(calm.train.images, loud.train.images)
    sounds = [tone_gesture(2, np.random.default_rng(3), noise) for noise in (1.0, 2.0, 3.0)]
    np.testing.assert_allclose(sounds[2] - sounds[1], sounds[1] - sounds[0], atol=1e-9)


def test_in_training_pictures_move_both_ways_and_sound_along_time_alone() -> None:
    pytest.importorskip("torch", reason="needs PyTorch: pip install '.[nas]'")
    from tinyhil.nas.train import Recipe, batches

    image = np.arange(1, 101, dtype=np.float32).reshape(1, 10, 10, 1) / 100
    part = Split(np.repeat(image, 40, 0), np.zeros(40, np.int64))
    places = {}
    for name, movable in (("picture", (0, 1)), ("sound", (0,))):
        data = Dataset(name, ("a",), part, part, part, movable=movable)
        [(moved, _)] = batches(data, Recipe(shift=2), np.random.default_rng(0))
        centres = np.rint(moved[:, 0, 5, 5].numpy() * 100).astype(int) - 1
        places[name] = {(place // 10 - 5, place % 10 - 5) for place in centres.tolist()}
    assert {down for down, _ in places["sound"]} == {-2, -1, 0, 1, 2}
    assert {across for _, across in places["sound"]} == {0}
    assert {across for _, across in places["picture"]} == {-2, -1, 0, 1, 2}
