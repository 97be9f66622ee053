"""The model card of a run: what it is, what it is for, how good it is, and how that is known."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from svfap.datasets import tables
from svfap.engine.flags.config import TABLES
from svfap.engine.flags.flag import FINETUNING, PRETRAINING
from svfap.engine.publish.run import Published, without_paths
from svfap.engine.results.find import SUBJECT_KEYS, read_table, subjects_of
from svfap.engine.results.intervals import bootstrap_intervals
from svfap.engine.results.metrics import METRICS
from svfap.engine.results.tables import render
from svfap.engine.runtime import plan
from svfap.engine.summarize import Summary, crossval_table, format_summary

MOST_GROUPS = 12  # values of a column that still are groups
_WEIGHTS = {
    "last": "those after the last epoch, not chosen by any score",
    "ema": "the moving average after the last epoch, not chosen by any score",
}
_USE = """\
For research on facial behaviour. The answers are about how faces look on video, in the categories
of the data set below; not about what a person feels, thinks or intends, and not about health,
character or truthfulness.

In the European Union (Regulation (EU) 2024/1689, the AI Act) systems that infer emotions of people
from their faces are prohibited at work and in education (Art. 5(1)(f), but for medical and safety
reasons) and high-risk elsewhere (Annex III), and people must be told that they are exposed to one
(Art. 50(3)). Whoever uses this model answers for that, for consent and for data protection. It must
not decide about people.

Limits: the scores are of the videos described below and say little about others: other cameras,
ages, skin tones, cultures, languages, poses, light, or spontaneous against acted expressions. Faces
have to be cropped as in training (`preprocessor_config.json`)."""


def card(run: Published, repo: str, licence: str | None, subgroups: Sequence[Path] = ()) -> str:
    """The text of README.md for the repository owner/name, with its header for the Hub.

    Raises:
        ValueError: a table of groups that is none.
    """
    identity, config = run.identity, run.identity.config
    cost = plan.clip_cost(identity.build()[0]) if run.result else None
    size = sum(value.numel() for value in identity.weights.values())
    about = f"`{config['name']}`, {size / 1e6:.2f} M parameters"
    if cost:
        about += f", {cost.multiply_adds / 1e9:.2f} G multiply-adds per clip"
    parts = [
        _header(run, repo, licence),
        f"# {repo.split('/')[1]}",
        f"{about}; clips of {config['num_frames']} frames of {config['img_size']} x "
        f"{config['img_size']} px, every {identity.sampling_rate or 'n'}. frame of a face video. "
        + (f"Answers: {', '.join(identity.labels.output_names)}." if identity.labels else
           "Pre-trained without labels; it has no head and answers nothing by itself."),
        "## Use",
        _code(run, repo),
        "## Intended use and limits",
        _USE,
        "## Data and protocol",
        _data(run),
    ]  # fmt: skip
    if run.result:
        parts += ["## Results", *_results(run), "## Subgroups", *subgroup_tables(run, subgroups)]
    parts += ["## Training", _training(run), "## Licence", _licence(run, licence)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _header(run: Published, repo: str, licence: str | None) -> str:
    """YAML between dashes; JSON is YAML, and its texts are quoted."""
    tags = ["face", "video", "self-supervised learning"]
    facts = {"library_name": "svfap", "tags": tags + ["emotion recognition"] * bool(run.result)}
    if licence:
        facts["license"] = licence
    if run.result:
        facts["pipeline_tag"] = "video-classification"
        data = _data_set(run)
        metrics = [
            {"type": name, "name": METRICS[name].title, "value": round(value, 6)}
            for name, value in run.result.metrics.items()
            if name in METRICS and isinstance(value, float)
        ]
        task = {"type": "video-classification", "name": run.identity.labels.task}
        result = {"task": task, "dataset": {"name": data, "type": data}, "metrics": metrics}
        facts["model-index"] = [{"name": repo.split("/")[1], "results": [result]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    return "\n".join(["---", *lines, "---"])


def _data_set(run: Published) -> str:
    return str(run.flags.get("data_set") or "videos of the author's own")


def _code(run: Published, repo: str) -> str:
    lines = ["```python", "import svfap", "", f'model, report = svfap.open_weights("hf://{repo}")']
    lines += ["print(report)", "```", "", "```bash"]
    if run.result:
        lines.append(f"svfap predict talk.mp4 --checkpoint hf://{repo} --output_dir answers")
    lines += [f"svfap finetune --finetune hf://{repo} ...", "```"]
    return "\n".join(lines)


def _data(run: Published) -> str:
    counts = {part: about["videos"] for part, about in (run.origin.get("data") or {}).items()}
    shown = ", ".join(f"{part} {count} videos" for part, count in counts.items()) or "not stated"
    lines = [f"- data set: {_data_set(run)}", f"- parts: {shown}"]
    if run.result:
        flags = run.flags
        resolved = run.config.get("resolved") or {}
        if training := resolved.get("training_videos"):
            lines.append(f"- trained on: {without_paths(training)}")
        lines.append(
            f"- test: {flags.get('test_num_segment')} segments x {flags.get('test_num_crop')} "
            f"crops of each video; scores of {flags.get('average_by', 'videos')}"
        )
        chosen_on = run.result.metrics.get("chosen_on") or run.facts.get("chosen_on")
        how = _WEIGHTS.get(run.result.weights, f"those with the best score on {chosen_on}")
        lines.append(f"- weights: {how}")
    begun = run.origin.get("weights")
    source = "random weights"
    if begun:
        source = without_paths(begun.get("file", ""))
        if licence := begun.get("licence"):
            source += f" (licence: {licence})"
    lines.append(f"- training began with: {source}")
    return "\n".join(lines)


def _results(run: Published) -> list[str]:
    result = replace(run.result, name="test part")
    people = _subjects_file(run)
    summary = crossval_table([result], people)
    parts = [format_summary(replace(summary, notes=tuple(without_paths(summary.notes))))]
    recall = result.metrics.get("per_class_recall")
    if recall and result.predictions is not None:
        subjects = people and subjects_of(people, result.predictions.ids)
        intervals = bootstrap_intervals(result.predictions, subjects)
        counts = [sum(row) for row in result.metrics["confusion_matrix"]]
        rows = []
        for number, (name, value) in enumerate(zip(result.metrics["class_names"], recall)):
            interval = intervals.get(f"recall_{number}")
            between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else "-"
            shown = "-" if value is None else f"{100 * value:.1f}"
            rows.append([name, str(counts[number]), shown, between])
        parts.append(render(["class", "videos", "recall, %", "95 % interval"], rows, "md"))
    return parts


def _subjects_file(run: Published) -> Path | None:
    """The file of people, if it names all of the test part."""
    if not run.subjects or run.result.predictions is None:
        return None
    try:
        subjects_of(run.subjects, run.result.predictions.ids)
    except ValueError:
        return None
    return run.subjects


def subgroup_tables(run: Published, files: Sequence[Path]) -> list[str]:
    """A table of scores for every column of groups.

    Of CSVs with a column that names the video (`SUBJECT_KEYS`), and others with at most
    `MOST_GROUPS` different values, such as gender or age. ValueError where one has none, or does
    not name all videos of the test part.
    """
    found = []
    for path in files:
        columns = [name for name in tables.read_header(path) if name not in SUBJECT_KEYS]
        columns = [name for name in columns if name != "subject"]
        known = {name: _groups(path, name, run.result.predictions.ids) for name in columns}
        known = {name: groups for name, groups in known.items() if groups}
        if not known:
            raise ValueError(
                f"{path} has no column of groups: beside {' or '.join(SUBJECT_KEYS)} it needs one "
                f"with 2 to {MOST_GROUPS} different values, for every video of the test part"
            )
        found += [_subgroups(run, name, groups) for name, groups in known.items()]
    return found or [
        "Not known: how scores differ between groups of people was not measured. Measure it before "
        "any use that concerns people (`--subgroups CSV` of `svfap engine.publish`)."
    ]


def _groups(path: Path, column: str, ids: Sequence[str]) -> dict[str, list[int]]:
    """Rows of the predictions by value; empty where the column is none of groups."""
    table = read_table(path, SUBJECT_KEYS, column)
    groups: dict[str, list[int]] = {}
    for row, video in enumerate(ids):
        value = next((table[n] for n in (video, Path(video).name, Path(video).stem) if n in table),
                     None)  # fmt: skip
        if value is None:
            raise ValueError(f"{path} does not name {video} of the test part")
        groups.setdefault(value, []).append(row)
    return groups if 2 <= len(groups) <= MOST_GROUPS else {}


def _subgroups(run: Published, column: str, groups: dict[str, list[int]]) -> str:
    rows, result, people = [], run.result, _subjects_file(run)
    for value in sorted(groups):
        part = result.predictions.taken(groups[value])
        own = replace(result, name=value, predictions=part, metrics=part.metrics(), notes=())
        rows.append(replace(crossval_table([own], people).rows[0], is_part=True))
    return format_summary(Summary(rows=tuple(rows), notes=(f"Groups of the column `{column}`.",)))


def _training(run: Published) -> str:
    """Flags that are not the program's own, and versions."""
    stage = FINETUNING if run.result else PRETRAINING
    flags = []
    for name, row in TABLES[stage].by_name.items():
        default = row.default[stage] if isinstance(row.default, dict) else row.default
        if name in run.flags and run.flags[name] not in (default, None, ""):
            flags.append(f"{name} {json.dumps(run.flags[name])}")
    versions = run.config.get("versions") or {}
    rows = [
        f"- flags other than the defaults: {', '.join(flags) or 'none'}",
        f"- global batch: {(run.config.get('resolved') or {}).get('global_batch', 'not stated')}",
        f"- program: svfap, commit {run.config.get('commit') or 'not stated'}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    return "\n".join(rows)


def _licence(run: Published, licence: str | None) -> str:
    words = licence or "Not stated by its author: ask before using it."
    begun = (run.origin.get("weights") or {}).get("licence")
    if begun:
        words += f"\n\nThe weights that training began with: {begun}."
    return words + "\n\nThe data sets have terms of their own."
