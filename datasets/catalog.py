"""What is known about each data set: classes in label order, folds, counts, which pixels to use."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from svfap.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set.

    Attributes:
        class_names: in label order; names of the dimensions in regression; empty if the user says.
        num_folds: number of official (or the papers') cross-validation folds; 1 is a fixed split.
        face_windows: side of the clips in pixels -> (top, left, height, width) in pixels of the
            part of a frame that is used for them, see `face_window`.
        counts: published numbers of clips, for example {"train": 31088, "test": 7847}; tuples
            are per fold. "subjects" counts people (sessions in Werewolf-XL).
        class_counts: published numbers of clips per class, in label order, by part ("all",
            "train", ...); only where they are known.
        subject_folds: first and last subject (a number) of each of the authors' folds.
        crop_style: how much face crops show, of `datasets.faces.STYLES`.
        crop_align: how they are turned, "none" or "similarity".
        frame_kind: "video", "jpg", "png" (folders of frames), "image", or "any".
        published: results that their authors state, as "method" -> (UAR, WAR) in percent.
    """

    name: str  # as in the papers and in `--data_set`
    task: str  # "pretrain", "classification" or "regression"
    class_names: tuple[str, ...] = ()
    num_folds: int = 1
    face_windows: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)
    sampling_rate: int = 4  # distance in frames between neighbouring frames of a clip
    counts: dict[str, int | tuple[int, ...]] = field(default_factory=dict)
    class_counts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    subject_folds: tuple[tuple[int, int], ...] = ()
    crop_style: str = "dfew"
    crop_align: str = "none"
    frame_kind: str = "video"
    published: dict[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def num_classes(self) -> int | None:
        """Number of classes or dimensions; None where the user decides."""
        return len(self.class_names) or None

    def face_window(self, size: int) -> tuple[int, int, int, int] | None:
        """(top, left, height, width) of the part of a frame that is used; None: the whole frame.

        Args:
            size: side of the clips in pixels; the smallest window that is not enlarged is used,
                the first one for anything smaller.
        """
        return next((self.face_windows[px] for px in sorted(self.face_windows) if size <= px), None)


SPECS = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="voxceleb2", task="pretrain", crop_style="voxceleb",
            face_windows={160: (0, 32, 160, 160), 192: (0, 16, 192, 192)},
            counts={"train": 1_092_009, "undecodable": 283},
            note="224 px frames, 25 fps; rows 0-159 and columns 32-191 are used at 160 px, rows "
            "0-191 and columns 16-207 at 192 px, all at 224 px",
        ),
        DatasetSpec(
            name="DFEW", task="classification", num_folds=5, frame_kind="jpg",
            class_names=("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"),
            counts={"all": 11_697, "train": (9356, 9356, 9357, 9358, 9361)},
            published={
                "SVFAP-S (paper)": (60.45, 72.67), "SVFAP-B (paper)": (62.83, 74.27),
                "SVFAP-B (released)": (63.89, 74.81), "MAE-DFER (released)": (63.41, 74.43),
                "VideoMAE-B, VoxCeleb2": (63.60, 74.60),
            },
            note="take the original-length frames, not the folder with 16 frames per clip",
        ),
        DatasetSpec(
            name="FERV39k", task="classification", sampling_rate=1, frame_kind="jpg",
            class_names=("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear"),
            counts={"train": 31_088, "test": 7_847},
            published={
                "SVFAP-S (paper)": (41.19, 51.34), "SVFAP-B (paper)": (42.14, 52.29),
                "SVFAP-B (released)": (43.05, 52.86), "MAE-DFER (released)": (43.29, 52.50),
                "VideoMAE-B, VoxCeleb2": (43.33, 52.39),
            },
            note="frames under 2_ClipsforFaceCrop",
        ),
        DatasetSpec(
            name="MAFW", task="classification", num_folds=5, frame_kind="png",
            class_names=(
                "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise",
                "contempt", "anxiety", "helplessness", "disappointment",
            ),
            counts={"all": 9_172, "train": (7333, 7335, 7339, 7340, 7341)},
            published={
                "SVFAP-S (paper)": (39.82, 53.89), "SVFAP-B (paper)": (41.19, 54.28),
                "SVFAP-B (released)": (43.51, 56.31), "MAE-DFER (released)": (42.36, 55.03),
                "VideoMAE-B, VoxCeleb2": (40.87, 53.51),
            },
            note="face crops are needed: full frames ruin the results",
        ),
        DatasetSpec(
            name="CREMA-D", task="classification", num_folds=5,
            crop_style="openface", crop_align="similarity",
            class_names=("angry", "disgust", "fear", "happy", "neutral", "sad"),
            counts={"all": 7442, "subjects": 91},
            class_counts={"all": (1271, 1271, 1271, 1271, 1087, 1271)},
            subject_folds=((1001, 1018), (1019, 1036), (1037, 1054), (1055, 1072), (1073, 1091)),
            published={
                "SVFAP-S (paper)": (74.58, 74.58), "SVFAP-B (paper)": (77.31, 77.37),
                "MAE-DFER (released)": (77.33, 77.38),
            },
            note="folds by subject (91); similarity-aligned face crops in the papers",
        ),
        DatasetSpec(
            name="RAVDESS", task="classification", num_folds=6,
            crop_style="openface", crop_align="similarity",
            class_names=(
                "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised",
            ),
            counts={"all": 1440, "subjects": 24},
            class_counts={"all": (96, *(192,) * 7)},
            subject_folds=((1, 4), (5, 8), (9, 12), (13, 16), (17, 20), (21, 24)),
            published={
                "SVFAP-S (paper)": (73.59, 73.90), "SVFAP-B (paper)": (75.15, 75.01),
                "MAE-DFER (released)": (75.91, 75.56),
            },
            note="speech with video only; folds by actor (24); aligned face crops in the papers",
        ),
        DatasetSpec(
            name="eNTERFACE05", task="classification", num_folds=5,
            crop_style="openface", crop_align="similarity",
            class_names=("anger", "disgust", "fear", "happiness", "sadness", "surprise"),
            counts={"all": 1287, "subjects": 43},
            class_counts={"all": (215, 215, 215, 212, 215, 215)},
            subject_folds=((1, 10), (11, 19), (20, 28), (29, 37), (38, 44)),
            published={"SVFAP-S (paper)": (57.16, 57.12), "SVFAP-B (paper)": (60.58, 60.54)},
            note="folds by subject; similarity-aligned face crops in the papers",
        ),
        DatasetSpec(
            name="Werewolf-XL", task="regression", num_folds=5,
            class_names=("arousal", "valence", "dominance"),
            counts={"all": 14_632, "subjects": 30},
            subject_folds=((1, 6), (7, 12), (13, 18), (19, 24), (25, 30)),
            note="speaker clips of 30 sessions; folds by session; PCC and CCC",
        ),
        DatasetSpec(
            name="AVCAffe", task="classification",
            counts={"all": 58_112, "subjects": 106, "train_subjects": 86, "test_subjects": 20},
            note="arousal and valence, five classes each; 86 / 20 participants; weighted F1",
        ),
        DatasetSpec(
            name="ChaLearn", task="regression",
            class_names=(
                "openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism",
            ),
            counts={"train": 6000, "val": 2000, "test": 2000},
            note="First Impressions, values in [0, 1]; CCC and 1 - MAE",
        ),
        DatasetSpec(
            name="AffectNet", task="classification", sampling_rate=1, frame_kind="image",
            class_names=(
                "neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt",
            ),
            counts={"train": 287_651, "test": 3_999},
            class_counts={
                "train": (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750),
            },
            note="single images; the official validation part serves as test part",
        ),
        DatasetSpec(
            name="FER2013", task="classification", sampling_rate=1, frame_kind="image",
            class_names=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
            counts={"train": 28_709, "val": 3_589, "test": 3_589},
            class_counts={"train": (3_995, 436, 4_097, 7_215, 4_830, 3_171, 4_965)},
            note="single grey images of 48 x 48 pixels",
        ),
        DatasetSpec(
            name="RAF-DB", task="classification", sampling_rate=1, frame_kind="image",
            class_names=(
                "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral",
            ),
            counts={"train": 12_271, "test": 3_068},
            class_counts={
                "train": (1_290, 281, 717, 4_772, 1_982, 705, 2_524),
                "test": (329, 74, 160, 1_185, 478, 162, 680),
            },
            note="single images, the basic (single-label) subset, aligned faces",
        ),
        DatasetSpec(
            name="synthetic", task="classification", crop_style="synthetic", frame_kind="any",
            class_names=("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear"),
            note="animated faces drawn by preprocess.synthetic, laid out as VoxCeleb2 and DFEW",
        ),
        DatasetSpec(
            name="custom", task="classification", frame_kind="any",
            note="anything; class names and task come from classes.json, or --nb_classes",
        ),
    )
}  # fmt: skip


def get_spec(name: str) -> DatasetSpec:
    """Look a data set up by name; case, hyphens and underscores do not matter."""
    plain = _plain(name)
    for spec in SPECS.values():
        if _plain(spec.name) == plain:
            return spec
    raise ValueError(
        f"unknown data set {name!r}{did_you_mean(name, SPECS) or ':'} known are {', '.join(SPECS)} "
        "(custom is for your own)"
    )


def spec_for_csv(path: str | Path) -> DatasetSpec | None:
    """VoxCeleb2's entry if a file or folder on the path is named after it, else None.

    Scripts written for the released code choose VoxCeleb2's face window in this way.
    """
    named = any("voxceleb2" in part.lower() for part in Path(path).parts)
    return SPECS["voxceleb2"] if named else None


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).lower()
