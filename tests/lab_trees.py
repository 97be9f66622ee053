"""Generated trees in the official layouts of the laboratory and image data sets; tiny files."""

import pickle
from itertools import product
from pathlib import Path

import cv2
import numpy as np

CREMAD_SENTENCES = [
    *("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI"),
]
CREMAD_EMOTIONS = ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
ENTERFACE_EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise"]
TRAITS = [
    *("extraversion", "neuroticism", "agreeableness"),
    *("conscientiousness", "interview", "openness"),
]


def touch(path: Path, content: bytes = b"not decoded here") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_cremad(root: Path, num_subjects: int = 91) -> None:
    """82 clips of each subject, 18 and 2 fewer of the first two: 7,442."""
    for subject in range(num_subjects):
        names = [f"IEO_{e}_{level}" for e in CREMAD_EMOTIONS if e != "NEU" for level in
                 ("LO", "MD", "HI")] + ["IEO_NEU_XX"]  # fmt: skip
        names += [f"{s}_{e}_XX" for s in CREMAD_SENTENCES[1:] for e in CREMAD_EMOTIONS]
        lacking = {0: CREMAD_EMOTIONS, 1: ["NEU"]}.get(subject, []) if num_subjects == 91 else []
        dropped = [f"{s}_{e}_XX" for e in lacking for s in CREMAD_SENTENCES[1 : 4 - subject]]
        for name in names:
            if name not in dropped:
                touch(root / "VideoFlash" / f"{1001 + subject}_{name}.flv")


def write_ravdess(root: Path, actors=range(1, 25)) -> None:
    """60 speech videos per actor, with sound; some also without, some songs and sounds."""
    for actor, emotion, i, s, r in product(actors, range(1, 9), (1, 2), (1, 2), (1, 2)):
        if (emotion, i) == (1, 2):
            continue
        tail = f"{emotion:02d}-{i:02d}-{s:02d}-{r:02d}-{actor:02d}"
        folder = root / f"Video_Speech_Actor_{actor:02d}" / f"Actor_{actor:02d}"
        touch(folder / f"01-01-{tail}.mp4")
        if emotion == 2:
            touch(folder / f"02-01-{tail}.mp4")
            touch(folder / f"01-02-{tail}.mp4")
            touch(folder / f"03-01-{tail}.wav")


def write_enterface(root: Path, subjects=range(1, 45)) -> None:
    """Five sentences per emotion; subject 6 uncut, subject 23 lacks three of happiness."""
    for subject, emotion in product(subjects, ENTERFACE_EMOTIONS):
        folder = root / f"subject {subject}" / emotion
        number = 12 if subject == 11 else subject
        if subject == 6:
            touch(folder / f"s6_{emotion[:2]}.avi")
            continue
        for sentence in range(1, 6):
            if subject == 23 and emotion == "happiness" and sentence > 2:
                (folder / f"sentence {sentence}").mkdir(parents=True)
                continue
            touch(folder / f"sentence {sentence}" / f"s{number}_{emotion[:2]}_{sentence}.avi")


def write_werewolf(root: Path, *, num_sessions: int = 30, per_session: int = 4) -> None:
    rows = ["VideoName,Session,Mean_P_1_3,Mean_A_1_2,Mean_D_1_2_4"]
    for session, clip in product(range(1, num_sessions + 1), range(per_session)):
        name = f"{session:02d}_{clip + 1}_speech"
        touch(root / "Speaker_Video" / f"session{session}" / f"{name}.mp4")
        rows.append(f"{name},{session},{0.1 * clip:.1f},{-0.2 * clip:.1f},{0.01 * session:.2f}")
    touch(root / "labels" / "PAD.csv", ("\n".join(rows) + "\n").encode())


def write_avcaffe(root: Path, *, num_participants: int = 106, clips: int = 2) -> None:
    """Participants aiim001, ...; two tasks with two clips each; every fifth is in the test list."""
    arousal = ["Excited", "Wide-awake", "Neutral", "Dull", "Calm"]
    valence = ["Pleasant", "Pleased", "Neutral", "Unsatisfied", "Unpleasant"]
    lists, reports = {"train": [], "val": []}, {"arousal": [], "valence": []}
    for number in range(1, num_participants + 1):
        name = f"aiim{number:03d}"
        is_test = number % 5 == 0 and len(lists["val"]) < 20
        lists["val" if is_test else "train"].append(name)
        for task in (1, 2):
            reports["arousal"].append(f"{name}_task_{task}, {arousal[number % 5]}")
            reports["valence"].append(f"{name}_task_{task}, {valence[(number + task) % 5]}")
            for clip in range(clips):
                folder = root / "videos" / "shorter_segments" / name / f"task_{task}"
                touch(folder / f"{name}_task_{task}_{clip:03d}.avi")
    for part, names in lists.items():
        touch(root / "info" / f"{part}.txt", ("\n".join(names) + "\n").encode())
    for head, lines in reports.items():
        touch(root / "ground_truths" / f"{head}.txt", ("\n".join(lines) + "\n").encode())


def chalearn_annotation(names: list[str], scalar=float) -> dict:
    return {
        trait: {name: scalar((t + n) % 10 / 10) for n, name in enumerate(names)}
        for t, trait in enumerate(TRAITS)
    }


def write_chalearn(root: Path, counts=(6, 2, 2), protocol: int = 2, scalar=float) -> None:
    for part, count in zip(("training", "validation", "test"), counts):
        names = [f"{part}{n // 2}aB-_.00{n % 2}.mp4" for n in range(count)]
        for n, name in enumerate(names):
            touch(root / f"{part}80_{n % 2 + 1:02d}" / name)
        data = pickle.dumps(chalearn_annotation(names, scalar), protocol=protocol)
        touch(root / f"annotation_{part}.pkl", data)


def write_image(path: Path, value: int = 90, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side, 3), value, np.uint8))


def write_affectnet(root: Path, counts=None) -> None:
    """Numbers per part of images; expression n % 9 (8: none), stored as text as released."""
    for part, count in (counts or {"train_set": 18, "val_set": 9}).items():
        for n in range(count):
            write_image(root / part / "images" / f"{n}.jpg")
            folder = root / part / "annotations"
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{n}_exp.npy", np.array(str(n % 9)))
            outside = n % 9 == 8
            np.save(folder / f"{n}_val.npy", np.array("-2.0" if outside else str(n / 20)))
            np.save(folder / f"{n}_aro.npy", np.array("-2.0" if outside else str(-n / 20)))
            np.save(folder / f"{n}_lnd.npy", np.zeros(136))


def fer_row(label: int | str, value: int, usage: str) -> str:
    pixels = " ".join(str((value + i) % 256) for i in range(48 * 48))
    return f'{label},"{pixels}",{usage}'


def write_fer2013(root: Path, name: str = "fer2013.csv") -> None:
    rows = ["emotion,pixels,Usage"]
    for n in range(21):
        usage = ("Training", "PublicTest", "PrivateTest")[n // 7]
        rows.append(fer_row(n % 7, n, usage))
    touch(root / name, ("\n".join(rows) + "\n").encode())


def write_rafdb(root: Path, counts=(14, 7)) -> None:
    lines = []
    for part, count in zip(("train", "test"), counts):
        for n in range(1, count + 1):
            lines.append(f"{part}_{n:05d}.jpg {n % 7 + 1}")
            write_image(root / "Image" / "aligned" / f"{part}_{n:05d}_aligned.jpg")
    touch(root / "EmoLabel" / "list_patition_label.txt", ("\n".join(lines) + "\n").encode())


def write_drawn(root: Path) -> None:
    """As preprocess.synthetic: 4 people, 2 clips of 10 frames each, 2 folds.

    Clip n shows person n % 4 in class n % 2 and is tested in fold 1 + n % 2; its valence is n / 10
    from the fifth frame on, its arousal minus half of that.
    """
    touch(root / "synthetic.json", b"{}")
    labels = root / "dfew/annotation"
    labels.mkdir(parents=True)
    lists = root / "dfew/EmoLabel_DataSplit"
    subjects, rng = ["video_name,subject"], np.random.default_rng(0)
    for number in range(1, 9):
        name = f"{number:05d}"
        folder = root / "dfew/Clip/jpg_256" / name
        folder.mkdir(parents=True)
        for frame in range(1, 11):
            image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{frame:05d}.jpg"), image)
        valence = np.full(10, 0.1 * number)
        valence[:4] = 0  # weak
        np.savez(labels / f"{name}.npz", valence=valence, arousal=-valence / 2)
        subjects.append(f"{name},p{number % 4}")
    (labels / "subjects.csv").write_text("\n".join(subjects) + "\n")
    for part in ("train", "test"):
        (lists / f"{part}(single-labeled)").mkdir(parents=True)
        for fold in (1, 2):
            inside = [n for n in range(1, 9) if (n % 2 == fold - 1) == (part == "test")]
            text = "".join(f"{n},{1 + n % 2}\n" for n in inside)
            path = lists / f"{part}(single-labeled)" / f"set_{fold}.csv"
            path.write_text("video_name,label\n" + text)
