"""Labels of every frame and of several heads: annotation files, clips, sliding windows."""

import numpy as np
import pytest

from svfap.datasets.clips.frame_views import WINDOWS_PER_ITEM, FrameViews
from svfap.datasets.clips.training import FinetuneClips, collate
from svfap.datasets.labels.annotations import AnnotationError, read_annotations
from svfap.datasets.labels.classes import LabelNames, read_classes, write_classes
from svfap.datasets.labels.frame_labels import FrameLabels
from tests.tiny_data import write_video

LENGTHS = (30, 11, 70)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three videos; the valence of frame t of video n is n + t / 100, its arousal the negative."""
    folder = tmp_path_factory.mktemp("frames")
    lines = []
    for number, length in enumerate(LENGTHS):
        write_video(folder / f"v{number}.mp4", num_frames=length, direction=0, seed=number)
        values = number + np.arange(length) / 100
        np.savez(folder / f"v{number}.npz", valence=values, arousal=-values, other=np.zeros(2))
        lines.append(f"v{number}.mp4 v{number}.npz")
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    return folder


def read(folder, name="test.csv", **more):
    return read_annotations(
        folder / name, task="regression_frames", names=["valence", "arousal"], **more
    )


def views(annotations, **more):
    options = {"clip_frames": 4, "stride": 2, "size": 16, "window_stride": 4}
    return FrameViews(annotations=annotations, **(options | more))


def test_labels_of_frames_are_read(folder):
    annotations = read(folder)
    labels = annotations.labels
    assert len(annotations) == len(labels) == 3
    assert labels.lengths.tolist() == list(LENGTHS)
    np.testing.assert_allclose(labels[1][:, 0], 1 + np.arange(11) / 100, rtol=1e-6)
    np.testing.assert_allclose(labels[-1][5], [2.05, -2.05], rtol=1e-6)
    some = annotations.labels[np.array([2, 0])]
    assert some.lengths.tolist() == [70, 30]
    np.testing.assert_array_equal(some[1], labels[0])
    with pytest.raises(ValueError, match="of shape"):
        FrameLabels(np.zeros((3, 2)), np.array([1, 1]))


def test_problems_of_label_files_are_listed_together(folder, tmp_path):
    np.savez(tmp_path / "half.npz", valence=np.zeros(5))
    np.savez(tmp_path / "uneven.npz", valence=np.zeros(5), arousal=np.zeros(4))
    np.savez(tmp_path / "nan.npz", valence=np.full(5, np.nan), arousal=np.zeros(5))
    np.savez(tmp_path / "pickled.npz", valence=np.array([{}]), arousal=np.zeros(1))
    (tmp_path / "text.npz").write_text("no zip")
    names = ("half", "uneven", "nan", "pickled", "text", "absent")
    lines = [f"{folder}/v0.mp4?{n} {tmp_path}/{n}.npz" for n in names]
    (tmp_path / "bad.csv").write_text("\n".join([*lines, "a b c"]) + "\n")
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path, "bad.csv", check_paths=False)
    text = str(caught.value)
    assert "7 problems" in text
    assert "line 1:" in text and "holds the arrays valence, not arousal" in text
    assert "line 2:" in text and "equally long" in text
    assert "line 3:" in text and "finite" in text
    assert "line 4:" in text and "plain arrays" in text
    assert "line 5:" in text and "line 6: label file does not exist" in text
    assert "line 7: expected 'path labels.npz'" in text


def test_labels_of_several_heads(tmp_path):
    (tmp_path / "a.csv").write_text("x 0 4\ny 2 1\n")
    annotations = read_annotations(
        tmp_path / "a.csv",
        task="multihead",
        names="ab",
        heads={"a": "xyz", "b": "uvxyz"},
        check_paths=False,
    )
    assert annotations.labels.dtype == np.int64
    assert annotations.labels.tolist() == [[0, 4], [2, 1]]
    (tmp_path / "a.csv").write_text("x 3 4\ny 2\nz 0 one\nv 0 --1\n")
    with pytest.raises(AnnotationError) as caught:
        read_annotations(
            tmp_path / "a.csv",
            task="multihead",
            names="ab",
            heads={"a": "xyz", "b": "uvxyz"},
            check_paths=False,
        )
    text = str(caught.value)
    assert "line 1: label 3 is out of range; allowed are 0 to 2" in text
    assert "line 2: expected 'path' and 2 labels" in text
    assert "line 3: label 'one' is not a whole number" in text
    assert "line 4: label '--1' is not a whole number" in text


def test_names_of_outputs(tmp_path):
    heads = {"arousal": ("calm", "excited"), "valence": ("bad", "good", "so-so")}
    names = LabelNames(task="multihead", class_names=("arousal", "valence"), heads=heads)
    assert names.output_names == (
        "arousal_calm", "arousal_excited", "valence_bad", "valence_good", "valence_so-so",
    )  # fmt: skip
    write_classes(tmp_path, LabelNames(task="regression_frames", class_names=("valence",)))
    assert read_classes(tmp_path).output_names == ("valence",)


def test_training_clips_carry_the_labels_of_their_frames(folder):
    clips = FinetuneClips(
        annotations=read(folder), clip_frames=4, stride=2, size=16, seed=5, clips_per_video=2
    )
    for index in range(3):
        sample = clips[(0, index, 0)]
        assert sample["label"].shape == (2, 4, 2)
        frames = (sample["label"][..., 0] - index) * 100
        np.testing.assert_allclose(frames, frames.round(), atol=1e-3)
        assert (np.diff(frames) > 0).all() and frames.max() < LENGTHS[index]
    assert collate([clips[(0, 0, 0)], clips[(0, 1, 0)]])["label"].shape == (4, 4, 2)


def test_windows_cover_every_video(folder):
    annotations = read(folder)
    sampled = views(annotations)
    seen: dict[int, list] = {}
    sizes = []
    for item in (sampled[i] for i in range(len(sampled))):
        sizes.append(len(item["clip"]))
        assert item["clip"].shape[1:] == (4, 16, 16, 3)
        for index, count, frames in zip(item["index"], item["num_frames"], item["frames"]):
            assert count == LENGTHS[index]
            seen.setdefault(int(index), []).append(frames.tolist())
    # 11 frames: every second of 0..10; the last window ends with the video.
    assert seen[1] == [[0, 2, 4, 6], [4, 6, 8, 10]]
    assert {f for window in seen[2] for f in window} == set(range(0, 70, 2))
    assert max(sizes) == WINDOWS_PER_ITEM and len(seen[2]) == 17
    shares = [views(annotations, rank=rank, world_size=2) for rank in (0, 1)]
    rows = [{row for row, _ in share.items} for share in shares]
    assert rows == [{0, 2}, {1}]


def test_other_number_of_labels_than_frames_is_said(folder, tmp_path):
    np.savez(tmp_path / "short.npz", valence=np.zeros(20), arousal=np.zeros(20))
    np.savez(tmp_path / "long.npz", valence=np.zeros(80), arousal=np.zeros(80))
    (tmp_path / "odd.csv").write_text(
        f"{folder}/v0.mp4 {tmp_path}/short.npz\n{folder}/v2.mp4 {tmp_path}/long.npz\n"
    )
    sampled = views(read(tmp_path, "odd.csv"))
    items = [sampled[i] for i in range(len(sampled))]
    assert [n.reason for item in items for n in item["notes"]] == [
        "20 labels for 30 frames: the first 20 are used",
        "80 labels for 70 frames: the first 70 are used",
    ]
    frames = {i: max(int(f.max()) for it in items for f in it["frames"][it["index"] == i])
              for i in (0, 1)}  # fmt: skip
    assert frames == {0: 18, 1: 68}
    joined = collate(items)
    assert len(joined["clip"]) == len(joined["index"]) == len(joined["num_frames"])


def test_unreadable_videos_are_noted(folder, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    (tmp_path / "bad.csv").write_text(f"{tmp_path}/bad.mp4 {folder}/v0.npz\n")
    item = views(read(tmp_path, "bad.csv"))[0]
    assert len(item["clip"]) == 0 and item["notes"][0].status == "unreadable"
