"""`python -m svfap.engine.crossval`: train and evaluate the folds of a data set, then one table.

With `--seeds`, every fold is run once per seed, and the table has a row for each seed, their mean
and their spread. Folds run on this machine (`engine.runtime.runs`); several machines take one each
(`--folds`), for example in an array of SLURM. `{fold}` in the flags after `--` becomes the name of
the fold.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from svfap.datasets.labels.annotations import read_annotations
from svfap.engine.results import tables
from svfap.engine.results.find import SUBJECTS_FILE, find_results, subjects_of
from svfap.engine.runtime import runs, stopping
from svfap.engine.runtime.lock import sole_use
from svfap.engine.runtime.log import set_up_logging
from svfap.engine.runtime.programs import split_arguments, tells_user
from svfap.engine.runtime.runs import Run
from svfap.engine.summarize import crossval_table, format_summary, seeds_table

logger = logging.getLogger("svfap.engine.crossval")  # also when run as a command, as "__main__"


def find_folds(data_path: Path, names: Sequence[str] | None = None) -> dict[str, Path]:
    """The folds of a data set by name: sub-directories of `data_path` that hold a train.csv.

    It may also be one fold; `names` are fold folders, or their numbers.

    Raises:
        FileNotFoundError: no fold there, or one that was named is missing.
    """
    found = {path.parent.name: path.parent for path in sorted(data_path.glob("*/train.csv"))}
    if not found and (data_path / "train.csv").is_file():
        found = {data_path.resolve().name: data_path}
    if not found:
        raise FileNotFoundError(
            f"--data_path {data_path} has no folders with a train.csv; it should be the folder of "
            "the folds (split01, split02, ...)"
        )
    by_number = {name.lstrip("abcdefghijklmnopqrstuvwxyz_-").lstrip("0"): name for name in found}
    chosen = [by_number.get(name, name) for name in names] if names else list(found)
    missing = [name for name in chosen if name not in found]
    if missing:
        raise FileNotFoundError(f"no fold {missing} in {data_path}; there are {list(found)}")
    return {name: found[name] for name in chosen}


def check_folds(folds: Mapping[str, Path]) -> list[str]:
    """All videos that are tested; refuses folds whose predictions could not be pooled."""
    tested: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for name, folder in folds.items():
        path = folder / "test.csv"
        for video in read_annotations(path, task="pretrain", check_paths=False).ids:
            other = tested.setdefault(video, name)
            if other != name:
                shared.setdefault((other, name), []).append(video)
    if shared:
        listed = "; ".join(
            f"{one} and {other}: {len(videos)}, such as {videos[0]}"
            for (one, other), videos in shared.items()
        )
        raise ValueError(f"videos are tested in two folds, where each may be in one only: {listed}")
    return list(tested)


def subjects_file(given: str | None, data_path: Path, videos: Sequence[str]) -> str | None:
    """The file whose subjects intervals resample: what was given, or one beside the folds.

    ValueError if the given one does not name all, or only one person.
    """
    path = given or data_path / SUBJECTS_FILE
    try:
        if len(set(subjects_of(path, videos))) < 2:
            raise ValueError(f"{path}: all tested videos show one person, resampling needs two")
    except FileNotFoundError:
        if given:
            raise
        return None
    except ValueError as error:
        if given:
            raise
        logger.warning("intervals resample videos, not subjects: %s", error)
        return None
    return str(path)


def groups_of_runs(
    folds: Mapping[str, Path],
    output_dir: Path,
    seeds: Sequence[int] | None = None,
    flags: Sequence[str] = (),
) -> dict[Path, list[Run]]:
    """The runs of each seed by its folder, which is `output_dir` where no seeds are given."""
    places = {output_dir / f"seed{seed}": ["--seed", str(seed)] for seed in seeds or ()}

    def run(place: Path, own: list[str], fold: str) -> Run:
        shared = [flag.replace("{fold}", fold) for flag in flags]
        name = f"{place.name}/{fold}" if seeds else fold
        return Run(name, [*shared, "--data_path", str(folds[fold]), *own], place / fold)

    return {
        place: [run(place, own, fold) for fold in folds]
        for place, own in (places or {output_dir: []}).items()
    }


def write_tables(groups: Mapping[Path, list[Run]], output_dir: Path, subjects: str | None) -> str:
    """Write summary.md, .csv, .tex and report.html of every seed, and the table over seeds.

    Returns the last table as Markdown.
    """
    from svfap.engine.report.page import write_report  # slow, and not needed before

    found = {}
    for place, own in groups.items():
        found[place.name] = find_results([run.run_dir for run in own])
        summary = crossval_table(found[place.name], subjects)
        text = tables.write_tables(place / "summary", partial(format_summary, summary))
        write_report(place, subjects)
    if output_dir not in groups:
        summary = seeds_table(found, subjects)
        text = tables.write_tables(output_dir / "summary", partial(format_summary, summary))
    return text


def _own_flags(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m svfap.engine.crossval",
        description="Train and evaluate all folds of a data set; the same command resumes.",
        epilog="everything after -- goes to run_finetune.py, the same for every fold",
    )
    parser.add_argument("--data_path", required=True, metavar="DIR", help="folder of the folds")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="a run per fold in it")
    parser.add_argument("--folds", nargs="+", help="folder names or numbers (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="run every fold with each of these")
    parser.add_argument("--subjects", metavar="CSV", help="intervals resample subjects, not videos "
                        "(default: subjects.csv in --data_path, if it is there)")  # fmt: skip
    flags = runs.parse(parser, arguments)
    if len(set(flags.seeds or ())) < len(flags.seeds or ()):
        parser.error(f"--seeds {flags.seeds}: give each once")
    return flags


@tells_user()
def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; see the module's docstring. Returns the exit status."""
    own, passed_on = split_arguments(arguments)
    flags = _own_flags(own)
    how = {name: getattr(flags, name) for name in runs.SHARES}
    set_up_logging(is_main=True)
    output_dir, data_path = Path(flags.output_dir), Path(flags.data_path)
    try:
        folds = find_folds(data_path, flags.folds)
        subjects = subjects_file(flags.subjects, data_path, check_folds(folds))
    except (ValueError, FileNotFoundError) as error:
        logger.error("%s", error)
        return 2
    if flags.seeds and any(word.split("=")[0] == "--seed" for word in passed_on):
        logger.error("--seeds gives each run its seed: leave out --seed after --")
        return 2
    groups = groups_of_runs(folds, output_dir, flags.seeds, passed_on)
    everything = [run for own in groups.values() for run in own]
    if "--dry_run" in passed_on:  # prints plans and writes nothing
        return runs.carry_out(everything, **{**how, "jobs": 1})
    with sole_use(output_dir):
        status = runs.carry_out(everything, **how)
        unfinished = [run.name for run in everything if not run.is_finished]
        if status or unfinished:
            logger.info("no table, not finished: %s", ", ".join(unfinished) or "see above")
            return status or 1
        print(write_tables(groups, output_dir, subjects), end="")
    return 0


if __name__ == "__main__":
    stopping.listen()
    sys.exit(main())
