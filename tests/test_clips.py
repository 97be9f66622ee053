import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from svfap.datasets.augment import crops, transforms
from svfap.datasets.augment.masking import make_masking
from svfap.datasets.augment.randaugment import RandAugment
from svfap.datasets.clips import sampling
from svfap.datasets.clips import training as clips
from svfap.datasets.labels.annotations import read_annotations, write_annotations
from svfap.datasets.rng import generator
from svfap.datasets.video import open_video as readers
from svfap.engine.runtime.unreadable import UnreadableBudget
from tests.batches import in_order, of_epoch
from tests.video_files import moving_frames, write_video

SIZE, T, STRIDE = 32, 4, 2
GRID = (2, 4, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven frame folders v0 .. v6 of 12 + i frames, of which v2 and v3 cannot be read."""
    folder = tmp_path_factory.mktemp("clips")
    for video in range(7):
        (folder / f"v{video}").mkdir()
        if video == 2:
            continue
        for number, image in enumerate(moving_frames(12 + video)):
            image = np.roll(image, 5 * video, axis=2)
            cv2.imwrite(str(folder / f"v{video}" / f"{number}.png"), image[..., ::-1])
    for path in (folder / "v3").iterdir():
        path.write_bytes(b"no image")
    return folder


def annotated(folder, videos, task="classification", name="list.csv"):
    write_annotations(folder / name, [(f"v{video}", video) for video in videos])
    return read_annotations(folder / name, task=task, data_root=folder)


@pytest.fixture
def good(folder):
    return annotated(folder, [0, 1, 4, 5, 6])


def frames_of(folder, video):
    """(n, H, W, 3) of a video."""
    with readers.open_video(folder / f"v{video}") as reader:
        return reader.read(range(reader.num_frames))


def pretrain_clips(annotations, **options):
    masking = make_masking("tube", GRID, 0.75)
    options = {"seed": 3, **options}
    return clips.PretrainClips(
        annotations=annotations, clip_frames=T, stride=STRIDE, size=SIZE, masking=masking, **options
    )


def finetune_clips(annotations, **options):
    options = {"randaugment": RandAugment.parse("rand-m7-n4-mstd0.5-inc1"), "seed": 3, **options}
    return clips.FinetuneClips(
        annotations=annotations, clip_frames=T, stride=STRIDE, size=SIZE, **options
    )


def eval_views(annotations, **options):
    options = {"stride": 1, **options}
    return clips.EvalViews(annotations=annotations, clip_frames=T, size=SIZE, **options)


def equal(one, other):
    """Whether two batches or items agree in everything."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return one == other
    return np.array_equal(np.asarray(one), np.asarray(other))


# --- order of samples ---


def keys_of(rank, world_size, batch_size, accumulation=1, position=(0, 0), num_samples=11):
    sampler = clips.EpochSampler(
        num_samples=num_samples,
        batch_size=batch_size,
        seed=7,
        rank=rank,
        world_size=world_size,
        accumulation=accumulation,
    )
    return list(sampler.batches(*position))


@pytest.mark.parametrize(
    ("world_size", "batch_size", "accumulation"),
    [(1, 4, 1), (2, 2, 1), (4, 1, 1), (1, 2, 2), (1, 1, 4), (2, 1, 2)],
)
def test_global_batches_do_not_depend_on_how_they_are_divided(world_size, batch_size, accumulation):
    reference = keys_of(0, 1, 4)
    assert len(reference) == 3
    parts = [keys_of(rank, world_size, batch_size, accumulation) for rank in range(world_size)]
    for step in range(3):
        together = [
            key
            for turn in range(accumulation)
            for part in parts
            for key in part[step * accumulation + turn]
        ]
        assert together == reference[step]


def test_an_epoch_uses_every_sample_and_fills_the_last_batch_with_marked_copies():
    order = [key for batch in keys_of(0, 1, 4) for key in batch]
    assert sorted(key.index for key in order[:11]) == list(range(11))
    assert [key.copy for key in order] == [0] * 11 + [1]
    assert order[11].index == order[0].index
    few = [key for batch in keys_of(0, 1, 8, num_samples=3) for key in batch]
    assert [key.copy for key in few] == [0, 0, 0, 1, 1, 1, 2, 2]
    again = [key for batch in keys_of(0, 1, 4, position=(1, 0)) for key in batch]
    assert {key.epoch for key in again} == {1}
    assert [key.index for key in again] != [key.index for key in order]


def test_resuming_is_arithmetic():
    whole = keys_of(1, 2, 2, accumulation=2, position=(5, 0), num_samples=30)
    assert keys_of(1, 2, 2, accumulation=2, position=(5, 3), num_samples=30) == whole[6:]
    assert keys_of(1, 2, 2, accumulation=2, position=(5, 4), num_samples=30) == []


def test_impossible_orders_are_refused():
    with pytest.raises(ValueError, match="rank is 2: it must be 0 to 1"):
        clips.EpochSampler(num_samples=5, batch_size=1, seed=0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="num_samples is 0"):
        clips.EpochSampler(num_samples=0, batch_size=1, seed=0)
    sampler = clips.EpochSampler(num_samples=5, batch_size=2, seed=0)
    with pytest.raises(ValueError, match="have 3 steps"):
        sampler.batches(0, 4)


# --- training clips ---


def test_a_pretraining_clip_is_what_its_parts_say(good, folder):
    item = pretrain_clips(good)[(2, 3, 1)]
    frames = frames_of(folder, 5)
    indices = sampling.draw_pretrain_clip(generator(3, 2, 3, 1, "frames"), len(frames), T, STRIDE)
    crop = crops.MultiScaleCrop(SIZE)
    box = crop.draw(generator(3, 2, 3, 1, "crop"), 64, 96)
    assert item["clip"].shape == (1, T, SIZE, SIZE, 3)
    assert np.array_equal(item["clip"][0], crop.apply(frames[indices], box))
    mask = make_masking("tube", GRID, 0.75)(generator(3, 2, 3, 1, "mask"))
    assert np.array_equal(item["mask"][0], mask) and mask.sum() == 24
    assert item["index"].tolist() == [3] and item["notes"] == []


def test_crops_enlarged_later_are_the_same_crops(good):
    enlarged, cut = (
        clips.collate([pretrain_clips(good, **options)[(2, index, 1)] for index in range(4)])
        for options in ({}, {"enlarge_later": True})
    )
    boxes = cut.pop("crop_box")
    assert boxes.dtype == torch.int64 and boxes.shape == (4, 4) and len(set(boxes[:, 2])) > 1
    same = transforms.enlarge(cut["clip"], boxes)
    assert torch.equal(same, transforms.to_float(enlarged["clip"]))
    assert torch.equal(cut["mask"], enlarged["mask"])


def test_a_fine_tuning_clip_is_what_its_parts_say(good, folder):
    item = finetune_clips(good)[(0, 4, 0)]
    frames = frames_of(folder, 6)
    indices = sampling.draw_train_clip(generator(3, 0, 4, 0, "frames"), len(frames), T, STRIDE)
    augment = RandAugment.parse("rand-m7-n4-mstd0.5-inc1")
    squares = transforms.resize_square(frames[indices], SIZE)
    operations = augment.draw(generator(3, 0, 4, 0, "randaugment"))
    assert np.array_equal(item["clip"][0], augment.apply(squares, operations))
    draws = transforms.draw_finetune(generator(3, 0, 4, 0, "device"), SIZE)
    assert equal(item["draws"], {name: value[None] for name, value in draws.items()})
    assert item["label"].dtype == np.int64 and item["label"].tolist() == [6]


def test_draw_options_reach_the_draws(good):
    dataset = finetune_clips(good, scale=(1, 1), ratio=(1, 1), flip=1, erase_prob=0)
    batch = clips.collate([dataset[(0, index, 0)] for index in range(3)])
    assert batch["draws"]["flip"].tolist() == [True] * 3
    assert batch["draws"]["crop_box"].tolist() == [[0, 0, SIZE, SIZE]] * 3
    assert batch["draws"]["erase_box"].tolist() == [[0, 0, 0, 0]] * 3


@pytest.mark.parametrize("make", [pretrain_clips, finetune_clips])
def test_draws_are_keyed(good, make):
    dataset = make(good)
    item = dataset[(0, 1, 0)]
    assert equal(item, dataset[(0, 1, 0)]) and equal(item, make(good)[(0, 1, 0)])
    for other in (dataset[(1, 1, 0)], dataset[(0, 1, 1)], make(good, seed=4)[(0, 1, 0)]):
        assert not np.array_equal(item["clip"], other["clip"])


@pytest.mark.parametrize("make", [pretrain_clips, finetune_clips])
def test_several_clips_of_a_decoded_video(good, make):
    item = make(good, clips_per_video=3)[(0, 1, 0)]
    assert item["clip"].shape == (3, T, SIZE, SIZE, 3) and item["index"].tolist() == [1, 1, 1]
    assert not np.array_equal(item["clip"][0], item["clip"][1])
    batch = clips.collate([item, make(good, clips_per_video=3)[(0, 2, 0)]])
    assert batch["clip"].shape[0] == 6 and batch["index"].tolist() == [1, 1, 1, 2, 2, 2]
    if make is finetune_clips:
        assert batch["label"].tolist() == [1, 1, 1, 4, 4, 4]
        assert batch["draws"]["crop_box"].shape == (6, 4)


def test_batches_hold_tensors(good):
    dataset = finetune_clips(annotated_regression(good))
    batch = clips.collate([dataset[(0, index, 0)] for index in range(2)])
    assert batch["clip"].dtype == torch.uint8 and batch["clip"].shape == (2, T, SIZE, SIZE, 3)
    assert batch["label"].dtype == torch.float32 and batch["label"].tolist() == [[0], [1]]
    assert batch["index"].dtype == torch.int64 and batch["notes"] == []
    batch = clips.collate([pretrain_clips(good)[(0, 0, 0)]])
    assert batch["mask"].dtype == torch.bool and batch["mask"].shape == (1, 32)


def annotated_regression(good):
    folder = Path(good.path).parent
    return annotated(folder, [0, 1, 4], task="regression", name="regression.csv")


def test_an_unreadable_video_is_replaced_by_the_next_readable_one(folder):
    rows = annotated(folder, [0, 2, 3, 4])
    dataset = finetune_clips(rows)
    for _ in range(2):  # whatever it met before
        item = dataset[(0, 1, 0)]
        assert item["index"].tolist() == [3] and item["label"].tolist() == [4]
        assert [(Path(note.path).name, note.status) for note in item["notes"]] == [
            ("v2", "skipped"),
            ("v3", "skipped"),
        ]
        assert "holds no frames" in item["notes"][0].reason
        assert "is damaged or not an image" in item["notes"][1].reason
    assert equal(item, finetune_clips(rows)[(0, 1, 0)])
    # the replacement's draws are those of the sample it replaces
    assert not np.array_equal(item["clip"], dataset[(0, 3, 0)]["clip"])
    wrapped = finetune_clips(annotated(folder, [0, 2]))[(0, 1, 0)]
    assert wrapped["index"].tolist() == [0]


def test_nothing_but_unreadable_videos_is_an_error(folder):
    with pytest.raises(ValueError, match="2 videos in a row cannot be read.*holds no frames"):
        pretrain_clips(annotated(folder, [2, 3]))[(0, 0, 0)]


def test_truncated_videos_are_used_and_noted(tmp_path):
    whole = Path(write_video(tmp_path / "whole.mkv", options={"g": "12"}))
    half = tmp_path / "half.mkv"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    write_annotations(tmp_path / "t.csv", [(half, 0)])
    rows = read_annotations(tmp_path / "t.csv", task="pretrain")
    notes = pretrain_clips(rows)[(0, 0, 0)]["notes"]
    assert [(note.path, note.status) for note in notes] == [(str(half), "truncated")]
    assert notes[0].reason.startswith("truncated: ")
    assert eval_views(rows)[0]["notes"] == notes


def test_videos_shorter_than_a_step_are_said_once(good, caplog):
    assert eval_views(good, stride=4)[0]["notes"] == []
    item = eval_views(good, stride=13)[0]
    (note,) = item["notes"]
    assert note[1:] == ("short", "12 frames, fewer than the sampling rate 13")
    assert len(np.unique(item["clip"].reshape(-1, T, SIZE * SIZE * 3)[0], axis=0)) == T
    caplog.set_level("INFO")
    budget = UnreadableBudget(num_videos=5, share=0, output_dir=None, workers=None)
    budget.note([note, note])
    assert caplog.text.count("short videos show all their frames, such as") == 1
    assert not budget.fresh


def test_face_window(good, folder):
    window = (8, 16, 40, 48)
    item = eval_views(good, middle=True, face_window=window)[0]
    frames = frames_of(folder, 0)[sampling.middle_clip_indices(12, T, 1)]
    expected = transforms.resize_square(frames[:, 8:48, 16:64], SIZE)
    assert np.array_equal(item["clip"][0], expected)
    item = pretrain_clips(good, face_window=window)[(0, 0, 0)]
    assert item["clip"].shape == (1, T, SIZE, SIZE, 3)
    for dataset in (pretrain_clips, finetune_clips):
        with pytest.raises(ValueError, match="160 x 160 px.*64 x 96 px.*--face_window"):
            dataset(good, face_window=(0, 32, 160, 160))[(0, 0, 0)]


# --- evaluation views ---


def test_distinct_views_are_made_once(good, folder):
    views = eval_views(good)
    item = views[0]
    frames = transforms.resize_square(frames_of(folder, 0), SIZE)
    assert np.array_equal(item["clip"], np.stack([frames[:4], frames[8:]]))
    assert item["view_weight"].tolist() == [2, 2] and item["index"].tolist() == [0, 0]
    assert item["label"].tolist() == [0, 0]
    short = eval_views(good, stride=4)[0]  # 12 frames thinned to 3: both segments coincide
    assert np.array_equal(short["clip"], frames[None, [0, 4, 8, 8]])
    assert short["view_weight"].tolist() == [4]
    batch = clips.collate([views[0], eval_views(good, stride=4)[1]])
    assert batch["index"].tolist() == [0, 0, 1] and batch["view_weight"].tolist() == [2, 2, 4]


@pytest.mark.parametrize(("segments", "crops"), [(1, 1), (1, 3), (3, 1), (5, 2)])
def test_weights_add_up_to_the_number_of_views(good, segments, crops):
    for stride in (1, 2, 4):
        views = eval_views(good, stride=stride, num_segments=segments, num_crops=crops)
        for item in (views[i] for i in range(len(views))):
            assert item["view_weight"].sum() == segments * crops


def test_validation_is_the_middle_clip(good, folder):
    item = eval_views(good, middle=True, stride=2)[4]
    frames = frames_of(folder, 6)[sampling.middle_clip_indices(18, T, 2)]
    assert np.array_equal(item["clip"], transforms.resize_square(frames, SIZE)[None])
    assert item["view_weight"].tolist() == [1]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7])
def test_every_video_belongs_to_one_process(good, world_size):
    rows = []
    for rank in range(world_size):
        views = eval_views(good, rank=rank, world_size=world_size, middle=True)
        rows += [row for batch in in_order(views, 2) for row in batch["index"].tolist()]
    assert sorted(rows) == [0, 1, 2, 3, 4]


def test_unreadable_videos_are_reported_in_evaluation(folder):
    item = eval_views(annotated(folder, [0, 3]))[1]
    assert [note.status for note in item["notes"]] == ["unreadable"]
    assert item["clip"].shape == (1, T, SIZE, SIZE, 3) and not item["clip"].any()
    assert item["index"].tolist() == [1] and item["view_weight"].tolist() == [4]


# --- datasets in processes ---


@pytest.mark.parametrize("make", [pretrain_clips, finetune_clips])
def test_batches_do_not_depend_on_workers_or_history(folder, make):
    rows = annotated(folder, [0, 1, 2, 3, 4, 5])
    sampler = clips.EpochSampler(num_samples=6, batch_size=2, seed=1)
    reference = of_epoch(make(rows), sampler, 0)
    assert len(reference) == 3
    for one, other in zip(reference, of_epoch(make(rows), sampler, 0, num_workers=2), strict=True):
        assert equal(one, other)
    late = of_epoch(make(rows), sampler, 0, 2, num_workers=3)
    assert len(late) == 1 and equal(late[0], reference[2])


@pytest.mark.parametrize("make", [pretrain_clips, finetune_clips])
def test_partly_damaged_videos_depend_on_neither_workers_nor_history(tmp_path, make):
    """Some samples meet the damaged frame and some do not: nothing may be remembered of that."""
    for video in range(4):
        (tmp_path / f"v{video}").mkdir()
        for number, image in enumerate(moving_frames(24)):
            data = cv2.imencode(".jpg", image)[1].tobytes()
            damaged = video % 2 and number in (11, 12)
            path = tmp_path / f"v{video}" / f"{number:02d}.jpg"
            path.write_bytes(data[: len(data) // 2] if damaged else data)
    rows = annotated(tmp_path, range(4))
    old, skipped = make(rows), 0
    for epoch in range(6):
        fresh = make(rows)  # what another worker, or a run that goes on, knows
        for index in (3, 1, 0, 2):
            item = old[(epoch, index, 0)]
            assert equal(item, fresh[(epoch, index, 0)])
            skipped += bool(item["notes"])
    assert 0 < skipped < 12


@pytest.mark.parametrize("make", [pretrain_clips, finetune_clips, eval_views])
def test_datasets_know_the_size_of_their_items(good, make):
    dataset = make(good)
    item = dataset[1 if make is eval_views else (0, 1, 0)]
    assert item["clip"].nbytes == dataset.item_bytes


def test_datasets_can_be_sent_to_spawned_workers(good):
    for dataset in (finetune_clips(good), eval_views(good)):
        copy = pickle.loads(pickle.dumps(dataset))
        key = 1 if isinstance(dataset, clips.EvalViews) else (0, 1, 0)
        assert equal(copy[key], dataset[key])
