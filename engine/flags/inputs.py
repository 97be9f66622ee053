"""What `--data_path` and other files named by flags are, looked at before PyTorch is imported."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from svfap.datasets.catalog import get_spec
from svfap.engine.flags.flag import FINETUNING, Flags
from svfap.engine.flags.labels import labels_of
from svfap.engine.flags.names import check_model, check_optimizer, check_sizes
from svfap.engine.flags.pretraining import MASKED
from svfap.extras import install
from svfap.models.sizes import PRETRAIN_PREFIX, SIZES
from svfap.models.weights.hub import is_remote
from svfap.models.weights.public import PUBLIC
from svfap.models.weights.released import RELEASED
from svfap.suggest import did_you_mean

# Flag, value, the library that this value needs, and how to have it.
LIBRARIES = (
    *(("logger", name, name, install(name)) for name in ("wandb", "mlflow", "trackio")),
    ("feature_format", "parquet", "pyarrow", install("parquet")),
    *(("reader", name, name, f"pip install {name}") for name in ("decord", "torchcodec")),
)
READ, WRITTEN = ("data_root", "subjects", "landmarks", "probe_path"), ("output_dir", "log_dir")


def check_inputs(flags: Flags, stage: str, *, with_data: bool = True) -> None:
    """Refuse names of files and data sets that cannot be meant: ValueError, FileNotFoundError.

    Args:
        with_data: also `--data_path`; False where the data are still to be made.
    """
    if with_data and not flags.data_path:
        raise ValueError("missing --data_path; see --help")
    if flags.data_set:
        get_spec(flags.data_set)
    check_model(flags.model)
    masked = getattr(flags, "objective", "") == MASKED and "model" in flags.explicit
    if masked and not flags.model.startswith(PRETRAIN_PREFIX):
        named = flags.model if flags.model in SIZES else "svfap_base_patch16_160"
        raise ValueError(
            f"--model {flags.model} is no masked autoencoder; take {PRETRAIN_PREFIX}{named}, or "
            "--objective contrastive"
        )
    check_sizes(flags.model, flags.given)
    check_optimizer(flags.opt)
    values = vars(flags)
    _check_libraries({flag: values.get(flag) or () for flag, *_ in LIBRARIES})
    _check_places({name: values.get(name) for name in (*READ, *WRITTEN)})
    for name in ("finetune", "start_from", "resume", "descriptor_weights"):
        check_weights(f"--{name}", values.get(name) or "")
    if not with_data:
        return
    if stage == FINETUNING:
        for part in (flags.eval_split,) if flags.eval else ("train", "test"):
            other = part != "train" and flags.eval_data_path
            flag = "--eval_data_path" if other else "--data_path"
            _check_folder(other or flags.data_path, part, flag)
    else:
        _check_list(flags.data_path)
    if stage == FINETUNING and not flags.eval:
        labels_of(flags.data_path, None, flags.data_set, flags.nb_classes)


def check_weights(flag: str, name: str) -> None:
    """Refuse weights that are neither a file nor a name that can be looked up.

    Raises:
        FileNotFoundError: it does not exist.
    """
    path = Path(name)
    if name and not path.exists() and not is_remote(name):
        near = _near(path) or did_you_mean(name, [*PUBLIC, *RELEASED])
        raise FileNotFoundError(
            f"{flag} {path} does not exist{near or ';'} take a file, hf://owner/repo, or a name of "
            "`python -m svfap.models.download --list`"
        )


def _check_libraries(asked: Mapping[str, str | Sequence[str]]) -> None:
    """What values of flags need beyond this project."""
    for flag, name, library, remedy in LIBRARIES:
        values = asked[flag]
        if name in ([values] if isinstance(values, str) else values) and not find_spec(library):
            raise ValueError(f"--{flag} {name}: {library} is not installed; {remedy}")


def _check_places(named: Mapping[str, str | None]) -> None:
    """Folders and files that are read, or written."""
    for name in READ:
        path = Path(named[name] or ".")
        if not path.exists():
            raise FileNotFoundError(f"--{name} {path} does not exist{_near(path)}")
    for name in WRITTEN:
        path = Path(named[name] or ".")
        if path.exists() and not path.is_dir():
            raise ValueError(f"--{name} {path} is a file; name a folder, which is made if need be")


def _near(path: Path) -> str:
    """What lies beside a path that is not there and is called almost like it."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, beside)


def _check_folder(name: str, part: str, flag: str) -> None:
    """Of fine-tuning: a folder with annotation files."""
    folder = Path(name)
    if not folder.exists():
        raise FileNotFoundError(f"{flag} {folder} does not exist{_near(folder)}")
    if not folder.is_dir():
        raise ValueError(
            f"{flag} {folder} is a file; give the folder that holds train.csv and test.csv"
        )
    if (folder / f"{part}.csv").is_file():
        return
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
    folds = [name for name in inside if (folder / name / f"{part}.csv").is_file()]
    if folds:
        remedy = (
            f"give one fold, such as {folder / folds[0]}, or all to python -m svfap.engine.crossval"
        )
    elif inside and part == "train":
        remedy = (
            "it has folders; if these are classes with videos or pictures in them, "
            f"python -m svfap.preprocess.custom {folder} --output_dir DIR writes the lists into DIR"
        )
    else:
        remedy = "python -m svfap.preprocess.custom and its like write it (docs/data.md)"
    raise FileNotFoundError(f"{flag} {folder} holds no {part}.csv; {remedy}")


def _check_list(name: str) -> None:
    """Of pre-training: a list of videos."""
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(f"--data_path {path} does not exist{_near(path)}")
    if path.is_dir():
        lists = [path / file for file in ("info_clean.csv", "train.csv") if (path / file).is_file()]
        remedy = (
            f"give the list in it, {lists[0]}"
            if lists
            else f"python -m svfap.preprocess.videos {path} --output_dir DIR lists its videos in "
            "DIR/info_clean.csv (pictures: --images)"
        )
        raise ValueError(
            f"--data_path {path} is a folder, and a list of videos is needed; {remedy}"
        )
