import numpy as np
import pytest
import timm.data.mixup as timm_mixup
import torch

from svfap.datasets.augment.mixing import Mix, Mixer, cutmix_box
from svfap.datasets.rng import generator

SIZE = 24


def batch(num_clips=4, num_frames=5):
    torch.manual_seed(0)
    return torch.randn(num_clips, 3, num_frames, SIZE, SIZE), torch.arange(num_clips) % 3


def fixed(mixer, mixes):
    """The mixer, made to draw these one after the other."""
    drawn = iter(mixes)
    mixer._draw_mix = lambda *_: next(drawn)
    return mixer


def rng(index=0):
    return generator(0, 0, index, 0, "mix")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
@pytest.mark.parametrize("cut", [False, True])
def test_equals_timm_on_single_frames(mode, smoothing, cut, monkeypatch):
    clips, labels = batch(num_frames=1)
    count = {"batch": 1, "elem": 4, "pair": 2}[mode]
    boxes = [(2, 9, 1, 20), (0, 24, 3, 5), (10, 24, 0, 24), (1, 2, 1, 2)][:count]
    lams = [0.3, 0.9, 0.5, 0.75][:count]
    if cut:
        lams = [1 - (box[1] - box[0]) * (box[3] - box[2]) / SIZE**2 for box in boxes]
    mixes = [Mix(lam, box if cut else None) for lam, box in zip(lams, boxes)]
    mixer = fixed(Mixer(mode=mode, label_smoothing=smoothing, num_classes=3), mixes)

    theirs = timm_mixup.Mixup(1, 1, mode=mode, label_smoothing=smoothing, num_classes=3)
    theirs._params_per_batch = lambda: (lams[0], cut)
    theirs._params_per_elem = lambda _: (np.array(lams, np.float32), np.full(count, cut))
    drawn = iter(zip(boxes, lams))
    monkeypatch.setattr(timm_mixup, "cutmix_bbox_and_lam", lambda *_, **__: next(drawn))

    expected_clips, expected_labels = theirs(clips[:, :, 0].clone(), labels)
    mixed, soft = mixer(clips, labels, rng())
    assert torch.allclose(mixed[:, :, 0], expected_clips, atol=1e-6)
    assert torch.allclose(soft, expected_labels, atol=1e-6)


def test_labels_by_hand():
    mixer = fixed(Mixer(label_smoothing=0.1, num_classes=4), [Mix(0.7, None)])
    clips, _ = batch(3)
    _, soft = mixer(clips, torch.tensor([0, 2, 3]), rng())
    on, off = 0.925, 0.025
    expected = [
        [0.7 * on + 0.3 * off, off, off, 0.7 * off + 0.3 * on],
        [off, off, on, off],
        [0.7 * off + 0.3 * on, off, off, 0.7 * on + 0.3 * off],
    ]
    assert torch.allclose(soft, torch.tensor(expected))
    assert torch.allclose(soft.sum(1), torch.ones(3))


def test_cutmix_box_spans_height_width_and_all_frames():
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 3, 5, SIZE, SIZE).clone()
    mixer = fixed(Mixer(num_classes=3), [Mix(1 - 7 * 19 / SIZE**2, (2, 9, 1, 20))])
    mixed, _ = mixer(clips, torch.tensor([0, 1, 2, 0]), rng())
    for index in range(4):
        expected = torch.full((SIZE, SIZE), float(index))
        expected[2:9, 1:20] = 3 - index
        assert (mixed[index] == expected).all()
    assert (clips == torch.arange(4.0).view(4, 1, 1, 1, 1)).all()


@pytest.mark.parametrize("minmax", [None, (0.2, 0.8)])
def test_share_of_the_label_is_the_area_left(minmax):
    mixer = Mixer(mixup_alpha=0, cutmix_minmax=minmax, num_classes=2, label_smoothing=0)
    clips = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 3, 2, SIZE, SIZE)
    shares = []
    for index in range(200):
        mixed, soft = mixer(clips, torch.tensor([0, 1]), rng(index))
        assert mixed[0].mean().item() == pytest.approx(soft[0, 1].item(), abs=1e-5)
        shares.append(soft[0, 1].item())
    assert len(set(shares)) > 50
    if minmax:
        assert min(shares) >= (4 / 24) ** 2 and max(shares) <= (19 / 24) ** 2 + 1e-6


def test_cutmix_box_equals_timm(monkeypatch):
    for lam in (0.0, 0.2, 0.55, 0.9, 1.0):
        for centre in ((0, 0), (5, 17), (159, 99), (80, 50)):
            draw = iter(centre).__next__
            monkeypatch.setattr(timm_mixup.np.random, "randint", lambda *_, draw=draw, **__: draw())
            expected = timm_mixup.rand_bbox((160, 100), lam)
            assert cutmix_box(lam, centre, 160, 100) == tuple(int(n) for n in expected)


def test_draws_follow_the_recipe():
    mixer = Mixer(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=7)
    mixes = [mixer.draw(rng(index), 1, 160, 160)[0] for index in range(3000)]
    lams = np.array([mix.lam for mix in mixes if mix.box is None])
    assert abs(len(lams) / 3000 - 0.5) < 0.05
    assert abs(lams.mean() - 0.5) < 0.04
    assert abs(lams.var() - 1 / (4 * (2 * 0.8 + 1))) < 0.01  # variance of Beta(a, a)
    assert all(0 <= mix.lam <= 1 for mix in mixes)


@pytest.mark.parametrize(
    ("options", "cut"),
    [({"cutmix_alpha": 0}, 0), ({"mixup_alpha": 0}, 1), ({"switch_prob": 0.2}, 0.2)],
)
def test_switching(options, cut):
    mixer = Mixer(num_classes=2, **options)
    boxes = [mixer.draw(rng(index), 1, 32, 32)[0].box for index in range(1000)]
    assert abs(np.mean([box is not None for box in boxes]) - cut) <= 0.08 * (0 < cut < 1)


def test_probability_of_mixing():
    mixer = Mixer(num_classes=3, prob=0.25, mode="elem", label_smoothing=0)
    clips, labels = batch(6)
    untouched = 0
    for index in range(300):
        mixed, soft = mixer(clips, labels, rng(index))
        same = (mixed == clips).flatten(1).all(1)
        assert (soft[same] == torch.eye(3)[labels[same]]).all()
        untouched += int(same.sum())
    assert abs(untouched / 1800 - 0.75) < 0.06
    never = Mixer(num_classes=3, prob=0)
    assert torch.equal(never(clips, labels, rng())[0], clips)


def test_batch_mode_draws_once_and_pairs_share():
    mixes = Mixer(num_classes=2).draw(rng(), 6, 32, 32)
    assert mixes == [mixes[0]] * 6
    mixes = Mixer(num_classes=2, mode="pair").draw(rng(), 6, 32, 32)
    assert mixes == mixes[::-1] and len(set(mixes)) == 3
    assert len(set(Mixer(num_classes=2, mode="elem").draw(rng(), 6, 32, 32))) == 6


@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_odd_batches(mode):
    clips, labels = batch(3)
    mixed, soft = Mixer(num_classes=3, mode=mode, label_smoothing=0)(clips, labels, rng(1))
    assert torch.allclose(mixed[1], clips[1], atol=1e-6)  # the middle clip is its own partner
    assert torch.allclose(soft[1], torch.tensor([0.0, 1.0, 0.0]))
    assert (mixed[0] != clips[0]).any()


def test_pair_mode_explains_odd_batches():
    clips, labels = batch(3)
    with pytest.raises(ValueError, match="batch has 3: use an even batch size, or mode 'batch'"):
        Mixer(num_classes=3, mode="pair")(clips, labels, rng())


def test_depends_on_the_generator_only():
    clips, labels = batch()
    for mode in ("batch", "elem", "pair"):
        mixer = Mixer(num_classes=3, mode=mode)
        first, np_state = mixer(clips, labels, rng(5)), np.random.seed(1)
        torch.manual_seed(9)
        second = mixer(clips, labels, rng(5))
        assert np_state is None
        assert (first[0] == second[0]).all() and (first[1] == second[1]).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "half"}, "'half'; known: batch, elem, pair"),
        ({"prob": 1.5}, "prob is 1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"mixup_alpha": 0, "cutmix_alpha": 0}, "nothing to mix"),
        ({"mixup_alpha": -1}, "must not be negative"),
        ({"cutmix_minmax": (0.8, 0.2)}, "0 < min <= max <= 1"),
        ({"num_classes": 0}, "num_classes is 0"),
    ],
)
def test_errors_say_what_is_allowed(options, words):
    with pytest.raises(ValueError, match=words):
        Mixer(**{"num_classes": 3, **options})


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["batch", "elem", "pair"])
def test_nothing_waits_for_the_device(mode):
    clips, labels = batch(8)
    expected = Mixer(num_classes=3, mode=mode)(clips, labels, rng(2))
    clips, labels = clips.cuda(), labels.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed, soft = Mixer(num_classes=3, mode=mode)(clips, labels, rng(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.allclose(mixed.cpu(), expected[0], atol=1e-6)
    assert torch.allclose(soft.cpu(), expected[1], atol=1e-6)
