"""Reconstruction pictures: what each row holds, and the errors under it."""

import numpy as np
import pytest
import torch
from einops import rearrange

from svfap.engine.pretext.objectives import motion_targets, normalise_tubelets
from svfap.engine.pretext.pictures import BLANK, MASK_GREY, reconstruct, reconstruction_figure
from svfap.engine.report.plots import save_figure
from svfap.models.patches import patchify

TUBELET = (2, 8, 8)
GRID = (4, 4, 4)


@pytest.fixture(scope="module")
def clip():
    """Smooth moving pattern with some noise, (8, 32, 32, 3) in [0, 1]."""
    T, H, W, C = np.ogrid[:8, :32, :32, :3]
    pattern = 0.5 + 0.35 * np.sin(0.3 * H + 0.2 * W + 0.5 * T + C)
    noise = np.random.default_rng(0).normal(0, 0.02, pattern.shape)
    return np.clip(pattern + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def mask():
    tube = np.random.default_rng(1).permutation(16) < 12
    return np.tile(tube, 4)


def masked_pixels(mask):
    """(T, H, W): True where a pixel is hidden."""
    grid = mask.reshape(GRID)
    return grid.repeat(2, axis=0).repeat(8, axis=1).repeat(8, axis=2)


def tubelets_of(clip, mask):
    pixels = rearrange(torch.tensor(clip, dtype=torch.float64), "T H W C -> 1 C T H W")
    return patchify(pixels, TUBELET)[0][torch.tensor(mask)]


def test_perfect_prediction_gives_the_original_back(clip, mask):
    target = normalise_tubelets(tubelets_of(clip, mask)).numpy()
    result = reconstruct(clip, mask, target, tubelet=TUBELET)
    assert result.masked_mse == pytest.approx(0, abs=1e-12)
    # Unbiased std over 128 positions: the mean of squares is 127 / 128.
    assert result.mean_mse == pytest.approx(127 / 128, abs=1e-4)
    np.testing.assert_allclose(result.rows["prediction with\nvisible put back"], clip, atol=1e-5)
    hidden = masked_pixels(mask)
    np.testing.assert_allclose(result.rows["prediction"][hidden], clip[hidden], atol=1e-5)
    assert (result.rows["prediction"][~hidden] == np.float32(BLANK)).all()
    assert (result.rows["masked"][hidden] == MASK_GREY).all()
    np.testing.assert_allclose(result.rows["masked"][~hidden], clip[~hidden], atol=1e-7)
    raw, wanted = list(result.rows.values())[-2:]
    np.testing.assert_array_equal(raw, wanted)


def test_a_model_that_knows_nothing_shows_flat_tubelets_and_the_error_of_the_mean(clip, mask):
    tubelets = tubelets_of(clip, mask)
    result = reconstruct(clip, mask, np.zeros(tubelets.shape), tubelet=TUBELET)
    assert result.masked_mse == pytest.approx(result.mean_mse)
    hidden = masked_pixels(mask)
    raw = result.rows["raw prediction\n(no mean, no std\nof the original)"]
    assert (raw[hidden] == MASK_GREY).all()
    # The coloured row shows the true means, which the model never knew.
    means = rearrange(tubelets, "M (p c) -> M p c", c=3).mean(dim=1)
    first = np.argwhere(mask.reshape(GRID))[0] * TUBELET
    shown = result.rows["prediction"][tuple(first)]
    np.testing.assert_allclose(shown, means[0], atol=1e-5)


def test_the_error_counts_masked_tubelets_only(clip, mask):
    target = normalise_tubelets(tubelets_of(clip, mask)).numpy()
    result = reconstruct(clip, mask, target + 0.5, tubelet=TUBELET)
    assert result.masked_mse == pytest.approx(0.25)


def test_raw_prediction_uses_nothing_of_the_original(clip, mask):
    prediction = np.random.default_rng(2).normal(size=(48, 384))
    label = "raw prediction\n(no mean, no std\nof the original)"
    one = reconstruct(clip, mask, prediction, tubelet=TUBELET).rows[label]
    other = reconstruct(1 - clip**2, mask, prediction, tubelet=TUBELET).rows[label]
    np.testing.assert_array_equal(one, other)


def test_plain_pixel_targets(clip, mask):
    tubelets = tubelets_of(clip, mask)
    result = reconstruct(clip, mask, tubelets.numpy() * 0.9, tubelet=TUBELET, normalised=False)
    assert result.masked_mse == pytest.approx((0.1 * tubelets).square().mean().item())
    variance = rearrange(tubelets, "M (p c) -> M p c", c=3).var(dim=1, unbiased=False).mean()
    assert result.mean_mse == pytest.approx(variance.item())
    assert len(result.rows) == 4
    assert "no normalisation was undone" in " ".join(result.caption)


@pytest.mark.parametrize("normalised", [True, False])
def test_frame_differences_are_added_up(clip, mask, normalised):
    tubelets = tubelets_of(clip, mask)
    wanted = normalise_tubelets(tubelets) if normalised else tubelets
    prediction = motion_targets(wanted, tubelet_frames=2, group_frames=2).numpy()
    result = reconstruct(
        clip, mask, prediction, tubelet=TUBELET, normalised=normalised, group_frames=2
    )
    assert result.masked_mse == pytest.approx(0, abs=1e-12)
    assert result.mean_mse > 0
    np.testing.assert_allclose(result.rows["prediction with\nvisible put back"], clip, atol=1e-5)


def test_figure_states_what_it_did(clip, mask, tmp_path):
    figure, _ = reconstruction_figure(
        clip, mask, np.zeros((48, 384)), tubelet=TUBELET, num_steps=4, title="a/b.mp4"
    )
    text = " ".join(item.get_text() for item in figure.texts).replace("\n", " ")
    assert "a/b.mp4" in text
    assert "masked tubelets only, in normalised units: 0.99" in text
    assert "mean of each tubelet and colour instead: 0.99" in text
    assert "48 of 64 tubelets hidden (75%)" in text
    assert "true mean and standard deviation of each hidden tubelet" in text
    assert "flatters any model" in text
    assert [f"frame {step}" in text for step in (0, 2, 5, 7)] == [True] * 4
    save_figure(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_input_that_does_not_fit(clip, mask):
    good = np.zeros((48, 384))
    with pytest.raises(ValueError, match=r"divide bytes by 255"):
        reconstruct(clip * 255, mask, good, tubelet=TUBELET)
    with pytest.raises(ValueError, match="multiples of the tubelet"):
        reconstruct(clip[:, :30], mask, good, tubelet=TUBELET)
    with pytest.raises(ValueError, match="hide at least one"):
        reconstruct(clip, np.zeros(64, bool), good, tubelet=TUBELET)
    with pytest.raises(ValueError, match=r"must be finite and \(48, 384\)"):
        reconstruct(clip, mask, good[:47], tubelet=TUBELET)
    with pytest.raises(ValueError, match="must be finite"):
        reconstruct(clip, mask, good + np.nan, tubelet=TUBELET)
