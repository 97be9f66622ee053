"""MAE-DFER and VideoMAE in the framework: targets, balanced masks, flags, sizes."""

import numpy as np
import pytest
import torch

from svfap import models
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.rng import generator
from svfap.engine import build
from svfap.engine.flags.config import finetuning_parser, pretraining_parser
from svfap.engine.flags.parsing import parse_flags
from svfap.engine.pretext.objectives import MaskedReconstruction, motion_targets, undo_motion
from tests.model_cases import small_model
from tests.test_runs import run_finetuning, run_pretraining

TINY = ["--input_size", "32", "--depth", "2", "--lg_region_size", "2", "2", "4"]
RUN = [
    "--sampling_rate", "2", "--batch_size", "4", "--epochs", "1", "--warmup_epochs", "0", "--lr",
    "1e-2", "--num_workers", "0", "--device", "cpu", "--no_report", "--seed", "3",
]  # fmt: skip
PRETRAIN = ["--model", "pretrain_maedfer_tiny_patch8_64", *TINY, *RUN, "--decoder_depth", "1",
            "--mask_ratio", "0.75", "--visualize", "0"]  # fmt: skip
FINETUNE = ["--model", "maedfer_tiny_patch8_64", *TINY, *RUN, "--nb_classes", "2"]
RELEASED = "pretrain_videomae_base_dim512_no_depth_patch16_160"


def pretraining_flags(*argv):
    return parse_flags(pretraining_parser(), [str(word) for word in argv])


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("tokens", "sizes", "expected"),
    [
        # one tubelet of two frames with three colours: the published target
        ([[1, 2, 3, 5, 7, 9]], (2, 2, 1), [[1, 2, 3, 4, 5, 6]]),
        # a tubelet of four frames with two groups, then with one
        ([[1, 4, 10, 12]], (4, 2, 1), [[1, 3, 10, 2]]),
        ([[1, 4, 10, 12]], (4, 4, 1), [[1, 3, 9, 11]]),
        # two time steps of two places: a group of four frames reaches over two tubelets
        ([[1, 2], [10, 20], [4, 8], [30, 60]], (2, 4, 2), [[1, 1], [10, 10], [3, 7], [20, 50]]),
        # three time steps of one place: groups end within a tubelet
        ([[1, 2], [4, 7], [11, 16]], (2, 3, 3), [[1, 1], [3, 7], [4, 9]]),
    ],
)
def test_motion_targets_by_hand(tokens, sizes, expected):
    names = ("tubelet_frames", "group_frames", "num_steps")
    options = dict(zip(names, sizes, strict=True))
    tubelets = torch.tensor(tokens, dtype=torch.float64)
    targets = motion_targets(tubelets, **options)
    assert targets.tolist() == expected
    assert torch.equal(undo_motion(targets, **options), tubelets)
    batch = motion_targets(torch.stack([tubelets, 2 * tubelets]), **options)
    assert torch.equal(batch, torch.stack([targets, 2 * targets]))


def objective(tubelet, **options):
    return MaskedReconstruction(tubelet=tubelet, num_visible=1, **options)


def test_targets_of_a_clip_by_hand():
    """Frame f, colour c has the value 10 f + c; the first of two tubelets is visible."""
    frames = 10 * torch.arange(4.0).view(1, 1, 4, 1, 1) + torch.arange(3.0).view(1, 3, 1, 1, 1)
    hidden = torch.tensor([[1]])
    for group, expected in ((None, [20, 21, 22, 30, 31, 32]), (2, [20, 21, 22, 10, 10, 10]),
                            (4, [20, 20, 20, 30, 30, 30])):  # fmt: skip
        goal = objective((2, 1, 1), normalise=False, group_frames=group)
        assert goal.targets(frames, hidden)[0, 0].tolist() == expected


@pytest.mark.parametrize("group", [2, 4, 8])
def test_differences_are_those_of_frames_normalised_per_tubelet(group):
    """Written out with loops over tubelets, colours and frames."""
    rng = np.random.default_rng(0)
    clip = rng.random((3, 8, 4, 4))
    frames = clip.copy()
    for t, h, w in np.ndindex(4, 2, 2):
        cut = (slice(2 * t, 2 * t + 2), slice(2 * h, 2 * h + 2), slice(2 * w, 2 * w + 2))
        for colour in range(3):
            part = clip[(colour, *cut)]
            frames[(colour, *cut)] = (part - part.mean()) / (part.std(ddof=1) + 1e-6)
    wanted = frames.copy()
    for frame in range(8):
        if frame % group:
            wanted[:, frame] -= frames[:, frame // group * group]
    masked = [1, 5, 6, 14]
    goal = objective((2, 2, 2), group_frames=group)
    targets = goal.targets(torch.from_numpy(clip)[None], torch.tensor([masked]))[0].numpy()
    for row, token in enumerate(masked):
        t, h, w = np.unravel_index(token, (4, 2, 2))
        part = wanted[:, 2 * t : 2 * t + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
        np.testing.assert_allclose(targets[row], part.transpose(1, 2, 3, 0).ravel(), atol=1e-12)


def test_appearance_and_motion_are_weighed():
    def loss(errors, group, weight):
        prediction = torch.tensor(errors).repeat_interleave(3).expand(2, 5, -1)
        goal = objective((len(errors), 1, 1), group_frames=group, motion_weight=weight)
        return goal.loss(prediction, torch.zeros_like(prediction)).item()

    assert loss([1.0, 2.0], 2, 0.25) == pytest.approx(0.75 * 1 + 0.25 * 4)
    assert loss([1.0, 2.0], 2, None) == loss([1.0, 2.0], 2, 0.5) == pytest.approx(2.5)
    assert loss([1.0, 2.0, 3.0, 4.0], 2, 0.2) == pytest.approx(0.8 * 5 + 0.2 * 10)
    assert loss([1.0, 2.0, 3.0, 4.0], 4, 0.2) == pytest.approx(0.8 * 1 + 0.2 * 29 / 3)


def test_groups_that_cannot_work_are_explained(data):
    with pytest.raises(ValueError, match="frame_diff_group_size 1: .* at least 2"):
        objective((2, 8, 8), group_frames=1)
    with pytest.raises(ValueError, match="target_diff_weight 0.3: needs groups that divide"):
        objective((2, 8, 8), group_frames=4, motion_weight=0.3)
    argv = [*PRETRAIN, "--data_path", data / "pretrain.csv", "--dry_run"]
    with pytest.raises(ValueError, match=r"frame_diff_group_size 3: must divide --num_frames .16"):
        run_pretraining(list(map(str, [*argv, "--use_frame_diff_as_target",
                                       "--frame_diff_group_size", 3])))  # fmt: skip
    with pytest.raises(ValueError, match="target_diff_weight belongs to --use_frame_diff"):
        run_pretraining(list(map(str, [*argv, "--target_diff_weight", 0.3])))


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("symmetry", [None, "global", "local"])
def test_every_region_of_the_real_grid_shows_the_same_number(symmetry):
    masking = make_masking("part_window", (8, 10, 10), 0.9, part_win_size=(2, 5, 10),
                           symmetry=symmetry)  # fmt: skip
    assert masking.num_visible == 80
    for draw in range(50):
        mask = masking(generator(0, draw, 0, 0, "mask"))
        counts = np.zeros((4, 2, 1), dtype=int)
        halves = {0: set(), 1: set()}
        for token in np.flatnonzero(~mask):
            t, h, w = token // 100, token // 10 % 10, token % 10
            counts[t // 2, h // 5, w // 10] += 1
            halves[h // 5].add(w // 5)
        assert (counts == 10).all()
        if symmetry:
            assert all(len(sides) == 1 for sides in halves.values())
        if symmetry == "global":
            assert halves[0] == halves[1]


def planned(data, capsys, *more):
    """What a dry run prints."""
    argv = [*PRETRAIN, "--data_path", data / "pretrain.csv", "--dry_run", *more]
    run_pretraining([str(word) for word in argv])
    return capsys.readouterr().out


def test_masks_follow_from_the_regions_unless_given(data, capsys):
    text = planned(data, capsys)
    assert "part_window, 32 of 128 tokens visible" in text
    assert "mask windows are the regions of the LGI-Former: (2, 2, 4) tokens" in text
    text = planned(data, capsys, "--mask_type", "part_window", "--part_win_size", 4, 1, 4)
    assert "part_window, 32 of 128" in text
    assert "mask windows" not in text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--mask_type", "tube"], "tube does not show equally many .*part_win_size 2 2 4"),
        (["--mask_type", "random"], "random does not show equally many tokens in all regions"),
        (["--part_win_size", 2, 4, 4], r"in windows of \(4, 4\) does not show .* \(2, 2, 4\)"),
        (["--part_win_size", 2, 3, 4], "does not divide the token grid"),
        (["--mask_type", "tube", "--part_win_size", 2, 2, 4], "belong to mask type 'part_window'"),
        (["--part_apply_symmetry", "local", "--part_win_size", 2, 2, 2], "set its last number to"),
    ],
)
def test_masks_that_do_not_suit_the_regions_are_explained(data, capsys, more, message):
    with pytest.raises(ValueError, match=message):
        planned(data, capsys, *more)


def test_regions_as_large_as_the_face_take_tubes(data, capsys):
    text = planned(data, capsys, "--lg_region_size", 4, 4, 4, "--mask_type", "tube")
    assert "tube, 32 of 128" in text


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {"name": "pretrain_maedfer_base_patch16_160", "depth": 16, "region_size": [2, 5, 10]}),
        (["--attn_type", "local_global", "--encoder_depth", 3, "--lg_region_size", 4, 5, 5],
         {"depth": 3, "region_size": [4, 5, 5], "embed_dim": 512}),
        (["--attn_type", "joint", "--encoder_depth", 2],
         {"name": "pretrain_videomae_base_patch16_160", "embed_dim": 512, "num_heads": 8,
          "depth": 2}),
        (["--lg_first_attn_type", "cross"], {"first_attn_type": "cross"}),
        (["--lg_third_attn_type", "self"], {"third_attn_type": "self"}),
        (["--lg_attn_param_sharing_first_third"], {"attn_param_sharing_first_third": True}),
        (["--lg_attn_param_sharing_all"], {"attn_param_sharing_all": True}),
        (["--lg_no_second"], {"no_second": True}),
        (["--lg_no_third"], {"no_third": True}),
        (["--lg_restore_order"], {"restore_order": True}),
    ],
)  # fmt: skip
def test_released_flags_build_what_they_say(argv, expected):
    with torch.device("meta"):
        config = build.create_model(pretraining_flags("--model", RELEASED, *argv)).config
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("kind", ["region", "org", "all"])
def test_pooled_tokens(kind):
    flags = parse_flags(finetuning_parser(), [*FINETUNE, "--lg_classify_token_type", kind])
    model = build.create_model(flags, num_classes=2).eval()
    clip = torch.randn(1, 3, 16, 32, 32)
    captured = {}
    model.blocks[-1].register_forward_hook(lambda *call: captured.update(out=call[-1]))
    feature = model.forward_features(clip)
    regions, tokens = captured["out"]
    assert regions.shape == (1, 8, 128) and tokens.shape == (1, 128, 128)
    pooled = {"region": regions, "org": tokens, "all": torch.cat([regions, tokens], 1)}[kind]
    torch.testing.assert_close(feature, model.fc_norm(pooled.mean(1)))


def test_flags_of_another_encoder_are_refused():
    flags = pretraining_flags("--model", "pretrain_videomae_tiny_patch8_64", *TINY)
    with pytest.raises(ValueError, match="has no option region_size; it has: .*depth"):
        build.create_model(flags)
    flags = pretraining_flags("--model", "pretrain_videomae_base_patch16_160", "--attn_type",
                              "local_global")  # fmt: skip
    with pytest.raises(ValueError, match="has another encoder; choose a maedfer model"):
        build.create_model(flags)
    flags = pretraining_flags("--model", RELEASED, "--input_size", 112)
    with pytest.raises(ValueError, match=r"do not divide the token grid \(8, 7, 7\).*lg_region"):
        build.create_model(flags)


def test_restored_order_gives_every_token_its_own_place():
    """What the encoder hands on stands where it came in; without, region by region."""
    options = {"region_size": [4, 2, 4], "depth": 1}
    plain, restored = (
        small_model("pretrain_maedfer_tiny_patch8_64", restore_order=order, **options).encoder
        for order in (False, True)
    )
    tokens = torch.randn(1, 128, 24)
    one, other = plain.encode(tokens).stages[0], restored.encode(tokens).stages[0]
    order = plain.region_of_token.argsort(stable=True)
    assert torch.equal(one[0], other[0][order])
    assert not torch.equal(one, other)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("family", ["svfap", "maedfer", "videomae"])
def test_weights_of_one_clip_size_load_into_another(family):
    source = small_model(f"pretrain_{family}_tiny_patch8_64")  # 16 frames, 32 px
    target = small_model(f"{family}_tiny_patch8_64", num_frames=8, img_size=64)
    report = models.load_weights(target, {"model": source.state_dict(),
                                          "model_config": source.config})  # fmt: skip
    assert report.ok
    assert report.resized == (["lg_region_tokens"] if family == "maedfer" else [])
    theirs, ours = source.encoder.state_dict(), target.state_dict()
    for name in set(report.loaded) - set(report.resized):
        assert torch.equal(ours[name], theirs[name]), name
    assert target.grid == (4, 8, 8)
    # positions are those of the flattened index, whatever the grid
    shared = min(source.num_tokens, target.num_tokens)
    table = source.encoder.position_table[:shared]
    torch.testing.assert_close(target.position_table[:shared], table)


@pytest.mark.parametrize(
    ("argv", "regions", "visible"),
    [
        ([], [2, 5, 10], 80),
        (["--num_frames", 8], [2, 5, 10], 40),
        (["--num_frames", 10], [1, 5, 10], 50),  # five steps do not make pairs
        (["--input_size", 96], [2, 3, 6], 32),
        (["--input_size", 224, "--num_frames", 32], [2, 7, 14], 320),
        (["--input_size", 96, "--lg_region_size", 4, 6, 6], [4, 6, 6], 32),
    ],
)
def test_regions_and_masks_follow_the_clip_size(data, capsys, argv, regions, visible):
    """Two regions above each other over the whole width, two steps long, as in the base size."""
    flags = pretraining_flags("--model", RELEASED, "--encoder_depth", 1, *argv)
    with torch.device("meta"):
        config = build.create_model(flags).config
    assert config["region_size"] == regions
    command = ["--model", RELEASED, "--encoder_depth", 1, *argv, "--data_path",
               data / "pretrain.csv", "--dry_run", "--device", "cpu"]  # fmt: skip
    run_pretraining([str(word) for word in command])
    tokens = flags.num_frames // 2 * (config["img_size"] // 16) ** 2
    assert f"part_window, {visible} of {tokens} tokens visible" in capsys.readouterr().out


def region_tokens(source_grid, target_sizes, *, stated):
    """The first channel of region tokens 0, 1, 2, ... of `source_grid`, loaded into a target."""
    frames, side = 4 * source_grid[0], 16 * source_grid[1]
    source = small_model("pretrain_maedfer_tiny_patch8_64", num_frames=frames, img_size=side)
    values = torch.arange(float(source.encoder.num_regions))
    with torch.no_grad():
        source.encoder.lg_region_tokens.copy_(values[:, None].expand(-1, 24))
    content = {"model": source.state_dict()} | ({"model_config": source.config} if stated else {})
    target = small_model("maedfer_tiny_patch8_64", **target_sizes)
    models.load_weights(target, content)
    return target.lg_region_tokens.detach()[:, 0].view(target.region_grid)


@pytest.mark.parametrize("stated", [True, False])
def test_region_tokens_are_interpolated(stated):
    """Regions are 2 x 2 x 4 tokens: 16 frames of 32 px have 4 x 2 x 1 of them."""
    fewer = region_tokens((4, 2, 1), {"num_frames": 8, "img_size": 32}, stated=stated)
    assert fewer.tolist() == [[[1.0], [2.0]], [[5.0], [6.0]]]  # means of steps 0, 1 and 2, 3
    larger = region_tokens((4, 2, 1), {"num_frames": 16, "img_size": 64}, stated=stated)
    assert larger.shape == (4, 4, 2)
    assert larger[0].tolist() == [[0, 0], [0.25, 0.25], [0.75, 0.75], [1, 1]]
    both = region_tokens((4, 2, 1), {"num_frames": 32, "img_size": 64}, stated=stated)
    assert both.shape == (8, 4, 2)
    assert both[:, 0, 0].tolist() == [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6]


def test_the_stated_clip_size_decides_where_counts_do_not():
    stated = region_tokens((1, 4, 2), {"num_frames": 32, "img_size": 64}, stated=True)
    assert (stated == torch.arange(8.0).view(4, 2)).all()


@pytest.mark.parametrize("family", ["svfap", "maedfer", "videomae"])
def test_pretraining_and_finetuning_at_another_size(data, tmp_path, family):
    sizes = {"svfap": ["--stage_depths", "1", "2", "2"], "maedfer": TINY[2:],
             "videomae": TINY[2:4]}[family]  # fmt: skip
    common = [*RUN, *sizes, "--max_steps", "1"]
    run_pretraining(
        [*common, "--model", f"pretrain_{family}_tiny_patch8_64", "--input_size", "32",
         "--decoder_depth", "1", "--mask_ratio", "0.75", "--visualize", "0",
         "--data_path", str(data / "pretrain.csv"), "--output_dir", str(tmp_path / "pretrain")]
    )  # fmt: skip
    metrics = run_finetuning(
        [*common, "--model", f"{family}_tiny_patch8_64", "--input_size", "64", "--num_frames", "8",
         "--nb_classes", "2", "--data_path", str(data / "fold"), "--output_dir",
         str(tmp_path / "run"), "--finetune", str(tmp_path / "pretrain" / "checkpoint-last.pth")]
    )  # fmt: skip
    assert metrics["num_videos"] == 5
    saved = torch.load(tmp_path / "run" / "checkpoint-last.pth", weights_only=True)
    assert (saved["model_config"]["num_frames"], saved["model_config"]["img_size"]) == (8, 64)
