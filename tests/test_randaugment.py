from collections import Counter

import numpy as np
import pytest
import timm.data.auto_augment as timm_augment
from PIL import Image

from svfap.datasets.augment.randaugment import OPERATIONS, Operation, RandAugment
from svfap.datasets.rng import generator

PUBLISHED = "rand-m7-n4-mstd0.5-inc1"
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
LEVELS = (0.0, 0.3, 0.62, 0.7, 0.78, 1.0)


def timm_name(name, *, increasing=True):
    if name.startswith("Translate"):
        return f"{name}Rel"
    changed = ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
    return f"{name}Increasing" if increasing and name in changed else name


def picture_frames():
    """(4, 48, 64, 3) uint8: smooth, noisy, flat and two-coloured parts and frames."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(f) for f in rng.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)]
    frames = np.stack([np.array(f.resize((64, 48), Image.BICUBIC)) for f in coarse])
    frames[0, :16] = rng.integers(0, 256, (16, 64, 3), dtype=np.uint8)
    frames[1] = frames[1] // 3 + 60
    frames[2] = (10, 200, 200)
    frames[3, :, 20:] = (255, 0, 90)
    return frames


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_pil(name):
    frames = picture_frames()
    original = frames.copy()
    operation = timm_augment.NAME_TO_OP[timm_name(name)]
    options = {"fillcolor": (128, 128, 128), "resample": Image.BICUBIC}
    for level in LEVELS:
        for negative in (False, True):
            argument = RandAugment(increasing=True).argument(name, level, negative=negative)
            arguments = () if argument is None else (argument,)
            pil = [operation(Image.fromarray(f), *arguments, **options) for f in frames]
            ours = RandAugment().apply(frames, [Operation(name, argument)])
            difference = np.abs(ours.astype(int) - np.stack([np.array(f) for f in pil]))
            if name in GEOMETRIC:
                assert difference.max() <= 1 and (difference > 0).mean() < 5e-3
            else:
                assert difference.max() == 0
    assert (frames == original).all()


@pytest.mark.parametrize("increasing", [True, False])
def test_arguments_equal_those_of_timm(increasing, monkeypatch):
    augment = RandAugment(increasing=increasing)
    for negative in (False, True):
        monkeypatch.setattr(timm_augment.random, "random", lambda sign=negative: float(sign))
        for name in OPERATIONS:
            function = timm_augment.LEVEL_TO_ARG[timm_name(name, increasing=increasing)]
            for level in LEVELS:
                expected = function(10 * level, {}) if function else (None,)
                if name == "Posterize":
                    expected = (max(1, *expected),)
                ours = augment.argument(name, level, negative=negative)
                assert (ours,) == pytest.approx(expected, nan_ok=False)


def test_larger_magnitudes_are_stronger():
    augment = RandAugment(increasing=True)
    arguments = [
        [augment.argument(name, level, negative=False) for level in LEVELS]
        for name in OPERATIONS[3:]
    ]
    for name, values in zip(OPERATIONS[3:], arguments):
        decreasing = name in ("Posterize", "Solarize")  # bits kept, threshold
        assert values == sorted(values, reverse=decreasing) and values[0] != values[-1]


def test_published_configuration():
    augment = RandAugment.parse(PUBLISHED)
    assert augment == RandAugment(
        num_operations=4, magnitude=7, magnitude_std=0.5, increasing=True, prob=0.5
    )
    assert RandAugment.parse("rand") == RandAugment(num_operations=2, magnitude=10)
    assert RandAugment.parse("rand-m9-p0.25").prob == 0.25


@pytest.mark.parametrize("text", ["none", "", None, "None"])
def test_switched_off(text):
    augment, frames = RandAugment.parse(text), picture_frames()
    operations = augment.draw(generator(0, 0, 0, 0, "randaugment"))
    assert operations == []
    assert augment.apply(frames, operations) is frames


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rand-m7-x3", ["'x3'", "m (magnitude)", "mstd (magnitude_std)"]),
        ("rand-m7-mmax10", ["'mmax10'", "known"]),
        ("rand-M7", ["'M7'", "known"]),
        ("augmix-m3", ["'augmix'", "rand-m7-n4-mstd0.5-inc1"]),
        ("rand-m11", ["'m11'", "0..10"]),
        ("rand-n2.5", ["'n2.5'", "whole number"]),
        ("rand-inc2", ["'inc2'", "0..1"]),
        ("rand-m", ["'m'", "a number in 0..10"]),
        ("rand-mnan", ["'mnan'"]),
        ("rand-m3-m4", ["'m4'", "twice"]),
    ],
)
def test_configuration_errors_say_what_is_known(text, words):
    with pytest.raises(ValueError) as error:
        RandAugment.parse(text)
    for word in words:
        assert word in str(error.value)


def test_draws_follow_the_recipe():
    augment = RandAugment.parse(PUBLISHED)
    drawn = [augment.draw(generator(0, 0, i, 0, "randaugment")) for i in range(4000)]
    counts = Counter(operation.name for operations in drawn for operation in operations)
    assert set(counts) == set(OPERATIONS)
    expected = 4000 * 4 * 0.5 / 15
    assert all(abs(count - expected) < 6 * np.sqrt(expected) for count in counts.values())
    lengths = np.bincount([len(operations) for operations in drawn], minlength=5) / 4000
    assert np.abs(lengths - np.array([1, 4, 6, 4, 1]) / 16).max() < 0.03
    degrees = np.array([op.argument for ops in drawn for op in ops if op.name == "Rotate"])
    assert abs(np.abs(degrees).mean() - 21) < 0.3 and abs(np.abs(degrees).std() - 1.5) < 0.2
    assert abs((degrees > 0).mean() - 0.5) < 0.12


def test_draws_depend_on_the_generator_only():
    augment = RandAugment.parse(PUBLISHED)
    first = augment.draw(generator(1, 2, 3, 0, "randaugment"))
    np.random.seed(5)
    assert augment.draw(generator(1, 2, 3, 0, "randaugment")) == first


def test_all_frames_get_the_same_and_order_counts():
    frames = np.repeat(picture_frames()[:1], 3, axis=0)
    operations = [Operation("Rotate", 12.5), Operation("Sharpness", 1.6), Operation("Invert", None)]
    result = RandAugment().apply(frames, operations)
    assert (result == result[:1]).all()
    assert (result != RandAugment().apply(frames, operations[::-1])).any()
    assert (RandAugment().apply(frames[:, ::-1][:, ::-1], operations) == result).all()
