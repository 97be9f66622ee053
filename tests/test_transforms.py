from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from svfap.datasets.augment import transforms
from svfap.datasets.augment.crops import MultiScaleCrop
from svfap.datasets.augment.transforms import Box
from svfap.datasets.rng import generator

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
# A GPU multiplies by 1/255 where a CPU divides: the last bit of a value below 1.
ROUNDING = {"cpu": 0.0, "cuda": 2**-23}


def assert_same_pixels(found, expected, device):
    """The same grey levels; on a CPU bit by bit, on a GPU up to the rounding of the division."""
    assert torch.equal((found * 255).round(), (expected * 255).round())
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING[device])


def picture_frames(num_frames, height, width, seed=0):
    """(T, H, W, 3) uint8 with smooth and with noisy parts."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num_frames, 12, 12, 3), dtype=np.uint8)
    smooth = [Image.fromarray(f).resize((width, height), Image.BICUBIC) for f in coarse]
    frames = np.stack([np.array(f) for f in smooth])
    frames[:, : height // 3] = rng.integers(0, 256, frames[:, : height // 3].shape, dtype=np.uint8)
    return frames


def pil_resize(frames, size):
    resized = [Image.fromarray(f).resize((size, size), Image.BILINEAR) for f in frames]
    return np.stack([np.array(f) for f in resized])


@pytest.mark.parametrize("height", [105, 120, 140, 160])
@pytest.mark.parametrize("width", [105, 120, 140, 160])
def test_enlarging_equals_pil(height, width):
    frames = picture_frames(2, height, width)
    assert (transforms.resize_square(frames, 160) == pil_resize(frames, 160)).all()


@pytest.mark.parametrize("shape", [(224, 224), (256, 256), (360, 288), (161, 500)])
def test_shrinking_is_close_to_pil(shape):
    frames = picture_frames(2, *shape)
    ours, pil = transforms.resize_square(frames, 160), pil_resize(frames, 160)
    difference = np.abs(ours.astype(int) - pil)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.05 and (difference > 1).mean() < 1e-4


def test_resize_takes_views_and_read_only_arrays(recwarn):
    frames = picture_frames(2, 200, 200)
    expected = transforms.resize_square(frames[:, 10:115, 7:112].copy(), 160)
    frames.flags.writeable = False
    assert (transforms.resize_square(frames[:, 10:115, 7:112], 160) == expected).all()
    assert transforms.resize_square(frames, 200) is frames
    transforms.resize_square(frames, 160)
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), "uint8")]
)
def test_resize_says_what_it_wants(frames):
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\)"):
        transforms.resize_square(frames, 4)


SHAPES_160 = [
    *((160, 160), (160, 140), (140, 160), (140, 140), (140, 120)),
    *((120, 140), (120, 120), (120, 105), (105, 120), (105, 105)),
]


def test_crop_shapes_of_the_voxceleb2_window():
    assert sorted(MultiScaleCrop(160).shapes(160, 160)) == sorted(SHAPES_160)
    assert sorted(MultiScaleCrop(160).shapes(160, 210)) == sorted(SHAPES_160)


def test_crop_side_near_the_input_size_is_the_input_size():
    crop = MultiScaleCrop(160, scales=[1])
    assert [crop.shapes(n, 500) for n in (157, 162, 163)] == [
        [(157, 157)],
        [(160, 160)],
        [(163, 163)],
    ]
    assert crop.shapes(158, 158) == [(158, 158)]  # never larger than the frame
    assert crop.shapes(158, 200) == [(158, 160)]
    assert (160, 160) in MultiScaleCrop(160).shapes(184, 184)  # int(.875 * 184) = 161


def test_crop_places_by_hand():
    places = MultiScaleCrop(160).places(160, 162, (105, 120))  # steps of 13 and 10 px
    assert sorted(places) == sorted(
        [
            *((0, 0), (0, 40), (52, 0), (52, 40), (26, 20)),
            *((26, 0), (26, 40), (52, 20), (0, 20)),
            *((13, 10), (13, 30), (39, 10), (39, 30)),
        ]
    )


def test_crop_draws_are_uniform_over_shapes_and_places():
    crop = MultiScaleCrop(160)
    expected = Counter(
        Box(*place, *shape)
        for shape in crop.shapes(160, 160)
        for place in crop.places(160, 160, shape)
    )
    assert expected[Box(0, 0, 160, 160)] == 13
    rng = generator(0, 0, 0, 0, "crop")
    drawn = Counter(crop.draw(rng, 160, 160) for _ in range(26000))
    assert set(drawn) == set(expected)
    for box, weight in expected.items():
        assert abs(drawn[box] - 200 * weight) < 6 * np.sqrt(200 * weight)


@pytest.mark.parametrize("frame", [(160, 160), (90, 150), (288, 216), (158, 158), (720, 1280)])
def test_crops_lie_inside_the_frame(frame):
    crop = MultiScaleCrop(160)
    for shape in crop.shapes(*frame):
        assert shape[0] <= frame[0] and shape[1] <= frame[1]
        for top, left in crop.places(*frame, shape):
            assert top >= 0 and left >= 0
            assert top + shape[0] <= frame[0] and left + shape[1] <= frame[1]


def test_crop_equals_pil():
    frames, box = picture_frames(3, 160, 160), Box(26, 10, 105, 120)
    cut = frames[:, 26:131, 10:130]
    assert (MultiScaleCrop(160).apply(frames, box) == pil_resize(cut, 160)).all()


@pytest.mark.parametrize("device", DEVICES)
def test_enlarging_on_the_device_equals_enlarging_in_the_loader(device):
    """Every shape of crop, in one batch."""
    crop = MultiScaleCrop(160)
    boxes = [Box(13 * i % 40, 7 * i % 40, *shape) for i, shape in enumerate(SHAPES_160)]
    boxes[0] = Box(0, 0, 160, 160)
    frames = [picture_frames(2, 200, 200, seed) for seed in range(len(boxes))]
    expected = torch.from_numpy(np.stack([crop.apply(*pair) for pair in zip(frames, boxes)]))
    cut, places = zip(*(crop.cut(*pair) for pair in zip(frames, boxes)))
    assert all(place[:2] == (0, 0) and place[2:] == box[2:] for place, box in zip(places, boxes))
    places = torch.tensor(places, device=device)
    found = transforms.enlarge(torch.from_numpy(np.stack(cut)).to(device), places).cpu()
    assert found.is_contiguous() and found.dtype == torch.float32
    assert_same_pixels(found, transforms.to_float(expected), device)


@pytest.mark.parametrize("device", DEVICES)
def test_enlarging_to_other_sizes_is_within_a_grey_level(device):
    """Shares of pixels that TF32 rounds may tip a value over; with 160 px there are none."""
    crop, boxes = MultiScaleCrop(112), [Box(3, 5, 73, 84), Box(0, 0, 98, 112), Box(9, 9, 84, 73)]
    frames = [picture_frames(2, 120, 120, seed) for seed in range(3)]
    expected = torch.from_numpy(np.stack([crop.apply(*pair) for pair in zip(frames, boxes)]))
    cut, places = zip(*(crop.cut(*pair) for pair in zip(frames, boxes)))
    cut, places = torch.from_numpy(np.stack(cut)).to(device), torch.tensor(places, device=device)
    found = (transforms.enlarge(cut, places).cpu() * 255).round()
    assert (found - (transforms.to_float(expected) * 255).round()).abs().max() <= 1


def test_a_box_anywhere_in_the_clip_is_enlarged():
    frames = picture_frames(2, 160, 160)
    expected = MultiScaleCrop(160).apply(frames, Box(20, 31, 105, 120))
    found = transforms.enlarge(torch.from_numpy(frames)[None], torch.tensor([[20, 31, 105, 120]]))
    assert torch.equal(found, transforms.to_float(torch.from_numpy(expected)[None]))


def test_crops_larger_than_the_clip_are_resized_when_cut():
    frames = picture_frames(2, 224, 224)
    box = Box(0, 4, 168, 147)
    cut, place = MultiScaleCrop(160).cut(frames, box)
    assert place == (0, 0, 160, 160) and (cut == MultiScaleCrop(160).apply(frames, box)).all()


def test_crop_scales_are_checked():
    with pytest.raises(ValueError, match=r"1\.5.*\(0, 1\]"):
        MultiScaleCrop(160, scales=[1.5])


@pytest.mark.parametrize("device", DEVICES)
def test_float_clips_are_what_the_published_runs_fed(device):
    clips = torch.from_numpy(np.stack([picture_frames(2, 8, 6), picture_frames(2, 8, 6, seed=1)]))
    scaled = transforms.to_float(clips.to(device)).cpu()
    assert scaled.shape == (2, 3, 2, 8, 6) and scaled.is_contiguous()
    assert_same_pixels(scaled, clips.permute(0, 4, 1, 2, 3).float() / 255, device)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
    normalised = transforms.normalize(scaled.to(device))
    assert torch.allclose(normalised.cpu(), (scaled - mean) / std, atol=1e-6)


def test_normalising_serves_training_after_an_evaluation():
    transforms._kept_mean_and_std.cache_clear()
    with torch.inference_mode():
        transforms.normalize(torch.ones(3, 1, 2, 2))
    clip = torch.ones(3, 1, 2, 2, requires_grad=True)
    transforms.normalize(clip).sum().backward()
    assert torch.isfinite(clip.grad).all()


def many_draws(count, **options):
    draws = [
        transforms.draw_finetune(generator(0, 0, index, 0, "augment"), 160, **options)
        for index in range(count)
    ]
    return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}


def test_finetune_draws_follow_the_recipe():
    draws = many_draws(2000)
    top, left, height, width = draws["crop_box"].T
    assert (top >= 0).all() and (top + height <= 160).all()
    assert (left >= 0).all() and (left + width <= 160).all()
    area, ratio = height * width / 160**2, height / width
    assert 0.075 < area.min() < 0.1 and 0.95 < area.max() <= 1
    assert 0.74 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.36
    assert abs(area.mean() - 0.4816) < 0.03  # torchvision's, over 20,000 draws
    assert abs(draws["flip"].double().mean() - 0.5) < 0.06
    erased = draws["erase_box"][draws["erase_box"][:, 2] > 0]
    assert abs(len(erased) / 2000 - 0.25) < 0.05
    assert (erased[:, 0] + erased[:, 2] <= 160).all() and (erased[:, 1] + erased[:, 3] <= 160).all()
    area, ratio = erased[:, 2] * erased[:, 3] / 160**2, erased[:, 2] / erased[:, 3]
    assert 0.018 < area.min() < 0.03 and 0.32 < area.max() < 0.34
    assert 0.28 < ratio.min() < 0.33 and 3 < ratio.max() < 3.5
    assert len(set(draws["noise_seed"].tolist())) == 2000


def test_finetune_draws_can_be_switched_off():
    draws = many_draws(50, crop_scale=None, flip_prob=0, erase_prob=0)
    assert (draws["crop_box"] == torch.tensor([0, 0, 160, 160])).all()
    assert not draws["flip"].any() and not draws["erase_box"].any()


def test_finetune_draws_depend_on_the_generator_only():
    first = many_draws(5)
    torch.manual_seed(3)
    np.random.seed(3)
    second = many_draws(5)
    assert all((first[name] == second[name]).all() for name in first)
    assert all(value.device.type == "cpu" for value in first.values())


def hand_draws(crops, flips, erases):
    return {
        "crop_box": torch.tensor(crops),
        "flip": torch.tensor(flips),
        "erase_box": torch.tensor(erases),
        "noise_seed": torch.arange(len(crops)) + 40,
    }


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_crop_and_flip_by_hand(device, together):
    clips = torch.randn(3, 3, 4, 32, 32)
    crops = [[0, 0, 32, 32], [3, 5, 20, 11], [3, 5, 20, 11]]
    draws = hand_draws(crops, [True, False, True], [[0, 0, 0, 0]] * 3)
    result = transforms.apply_draws(clips.to(device), draws, 32, together=together).cpu()
    assert torch.allclose(result[0], clips[0].flip(-1), rtol=0, atol=1e-5 * together)
    cut = clips[:, :, :, 3:23, 5:16].flatten(1, 2)
    resized = F.interpolate(cut, (32, 32), mode="bilinear", align_corners=False)
    resized = resized.view_as(clips)
    assert torch.allclose(result[1], resized[1], atol=1e-5)
    assert torch.allclose(result[2], resized[2].flip(-1), atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [64, 160])
def test_clips_cropped_together_are_those_cropped_one_by_one(size, device):
    """Up to the rounding that `crop_together` states; erased alike, bit by bit."""
    drawn = [transforms.draw_finetune(generator(1, 0, i, 0, "draw"), size) for i in range(24)]
    draws = {name: torch.stack([draw[name] for draw in drawn]) for name in drawn[0]}
    pixels = torch.randint(0, 256, (24, 2, size, size, 3), dtype=torch.uint8, device=device)
    clips = transforms.normalize(transforms.to_float(pixels))
    each = transforms.apply_draws(clips, draws, size)
    together = transforms.apply_draws(clips, draws, size, together=True)
    spread = float(clips.max() - clips.min())
    torch.testing.assert_close(together, each, rtol=0, atol=2e-4 * spread)
    for row, (top, left, height, width) in enumerate(draws["erase_box"].tolist()):
        part = (row, ..., slice(top, top + height), slice(left, left + width))
        assert torch.equal(together[part], each[part])
    boxes, flips = (draws[name].to(device) for name in ("crop_box", "flip"))
    whole = transforms.augment_together(pixels, boxes, flips, size)
    bare = draws | {"erase_box": torch.zeros(24, 4, dtype=torch.int64)}
    assert torch.equal(whole, transforms.apply_draws(clips, bare, size, together=True))


@pytest.mark.parametrize("device", DEVICES)
def test_erasing_fills_one_box_with_fresh_noise(device):
    clips = torch.full((2, 3, 4, 32, 32), 7.0, device=device)
    whole = [[0, 0, 32, 32]] * 2
    draws = hand_draws(whole, [False, False], [[2, 3, 20, 16], [0, 0, 0, 0]])
    result = transforms.apply_draws(clips, draws, 32)
    assert (clips == 7).all()
    inside = result[0, :, :, 2:22, 3:19]
    assert (result == 7).sum() == 2 * 3 * 4 * 32 * 32 - inside.numel()
    assert len(inside.unique()) > 0.99 * inside.numel()  # fresh for every pixel, frame and colour
    assert abs(inside.mean()) < 0.1 and abs(inside.std() - 1) < 0.1
    assert (transforms.apply_draws(clips, draws, 32) == result).all()
    alone = {name: value[:1] for name, value in draws.items()}
    assert (transforms.apply_draws(clips[:1], alone, 32) == result[:1]).all()
    constant = transforms.apply_draws(clips, draws, 32, erase_mode="const")
    assert (constant[0, :, :, 2:22, 3:19] == 0).all() and (constant[1] == 7).all()


def test_erase_mode_is_checked():
    clips = torch.zeros(1, 3, 2, 8, 8)
    draws = hand_draws([[0, 0, 8, 8]], [False], [[0, 0, 0, 0]])
    with pytest.raises(ValueError, match="'rand'; known: pixel, const"):
        transforms.apply_draws(clips, draws, 8, erase_mode="rand")


@pytest.mark.cuda
def test_nothing_waits_for_the_device():
    clips = torch.randint(0, 256, (8, 4, 160, 160, 3), dtype=torch.uint8).cuda()
    draws = many_draws(8, erase_prob=1)
    boxes = torch.tensor([[0, 0, 105, 120]] * 8).cuda()
    transforms.normalize(transforms.to_float(clips))  # constants are copied once
    torch.cuda.set_sync_debug_mode("error")
    try:
        for together in (False, True):
            pixels = transforms.normalize(transforms.to_float(clips))
            transforms.apply_draws(pixels, draws, 160, together=together)
        transforms.enlarge(clips, boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
