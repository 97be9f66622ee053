"""Systems side by side: equal cost, scores over seeds, and the script that compares them."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from svfap.engine.equal_cost import equal_budgets
from svfap.engine.equal_cost import main as equal_cost_main
from svfap.engine.results.intervals import bootstrap_intervals, resampled_metrics
from svfap.engine.results.kinds.classes import Classes, ClassesOfHeads
from svfap.engine.results.predictions import write_metrics, write_predictions
from svfap.engine.side_by_side import compare_systems, format_side_by_side, read_runs, title
from svfap.engine.side_by_side import main as side_by_side_main
from tests.test_recipes import ROOT, STUB, Stub, parse

SCRIPT = "scripts/synthetic/compare.sh"
TINY = "--patch_size 16 --num_frames 8 --mask_ratio 0.75"
RUNS = [
    f"--model pretrain_svfap_tiny_patch8_64 {TINY}",
    f"--model pretrain_maedfer_tiny_patch8_64 {TINY} --lg_region_size 2 2 4",
    f"--model pretrain_videomae_tiny_patch8_64 {TINY}",
]


# ---------------------------------------------------------------- equal cost


def test_epochs_of_equal_cost(tmp_path, capsys):
    budgets = equal_budgets([run.split() for run in RUNS], 100)
    assert [budget.model.split("_")[1] for budget in budgets] == ["svfap", "maedfer", "videomae"]
    reference = 100 * budgets[0].multiply_adds
    for budget in budgets:
        assert budget.share == pytest.approx(budget.epochs * budget.multiply_adds / reference)
        assert abs(budget.share - 1) < 0.5 * budget.multiply_adds / reference
    assert budgets[0].epochs == 100 and budgets[0].share == 1
    # the plain ViT: 64 tokens of which 16 are visible, D 128, 8 blocks; decoder D 96, 2 blocks
    blocks = 8 * (12 * 16 * 128**2 + 2 * 16**2 * 128) + 2 * (12 * 64 * 96**2 + 2 * 64**2 * 96)
    linear = 16 * 1536 * 128 + 16 * 128 * 96 + 48 * 96 * 1536
    assert budgets[2].multiply_adds == pytest.approx(blocks + linear, rel=1e-6)
    output = tmp_path / "sub" / "cost.md"
    equal_cost_main(["--epochs", "100", "--format", "epochs", "--output", str(output),
                     "--clips_per_epoch", "10", *RUNS])  # fmt: skip
    assert capsys.readouterr().out.split() == [str(budget.epochs) for budget in budgets]
    in_all = 3 * budgets[0].multiply_adds * 100 * 10 / 1e12
    assert f"1.000 | {in_all:23.2f} |" in output.read_text()


def test_wrong_flags_of_a_run_are_named(capsys):
    with pytest.raises(SystemExit):
        equal_cost_main(["--epochs", "3", RUNS[0], RUNS[1].replace("2 2 4", "2 3 4")])
    assert "regions of (2, 3, 4)" in capsys.readouterr().err


# ---------------------------------------------------------------- scores over seeds


def write_runs(folder, accuracy, num_seeds=3, num_videos=140, seed=0):
    """Runs with a given share of right answers per (system, condition)."""
    random = np.random.default_rng(seed)
    labels = np.arange(num_videos) % 7
    for (system, condition), share in accuracy.items():
        for number in range(num_seeds):
            run = folder / system / condition / f"seed{number}"
            run.mkdir(parents=True)
            wrong = (labels + random.integers(1, 7, num_videos)) % 7
            predicted = np.where(random.random(num_videos) < share, labels, wrong)
            ids = [f"clips/{index:05}" for index in range(num_videos)]
            found = Classes.from_scores(ids, labels, np.eye(7)[predicted], list("abcdefg"))
            order = random.permutation(num_videos)  # files need not agree in order
            shuffled = Classes.from_scores([ids[i] for i in order], labels[order],
                                   np.eye(7)[predicted][order], list("abcdefg"))  # fmt: skip
            write_predictions(run / "pred.csv", shuffled if number else found)
            write_metrics(run / "metrics.json", found.metrics(), weights="last", split="test")
    return folder


@pytest.fixture
def runs(tmp_path):
    shares = {("svfap", "10_percent_of_labels"): 0.5, ("svfap", "100_percent_of_labels"): 0.8,
              ("scratch", "10_percent_of_labels"): 0.2,
              ("scratch", "100_percent_of_labels"): 0.78}  # fmt: skip
    return write_runs(tmp_path / "runs", shares)


def test_means_intervals_and_differences(runs):
    result = compare_systems(read_runs(runs, ["svfap", "scratch"]), num_resamples=4000)
    assert result.systems == ("svfap", "scratch") and result.seeds == ("seed0", "seed1", "seed2")
    assert result.conditions == ("10_percent_of_labels", "100_percent_of_labels")
    assert result.chance == pytest.approx(1 / 7)
    for (system, condition), score in result.scores.items():
        stated = [
            json.loads((runs / system / condition / f"seed{number}/metrics.json").read_text())
            for number in range(3)
        ]
        for name in ("uar", "war"):
            assert score.of_seeds[name] == pytest.approx([metrics[name] for metrics in stated])
            assert score.mean[name] == pytest.approx(np.mean(score.of_seeds[name]))
            low, high = score.interval[name]
            assert low < score.mean[name] < high
    few, all_labels = (
        result.differences["svfap", "scratch", condition] for condition in result.conditions
    )
    assert few.mean["uar"] == pytest.approx(
        result.scores["svfap", "10_percent_of_labels"].mean["uar"]
        - result.scores["scratch", "10_percent_of_labels"].mean["uar"]
    )
    assert few.interval["uar"][0] > 0.08 and few.p["uar"] < 0.002
    assert all_labels.interval["uar"][0] < 0.02 < all_labels.interval["uar"][1]
    assert all_labels.p["uar"] > 0.05


def test_the_interval_is_that_of_videos_and_seeds(tmp_path):
    """One seed: that of its videos. Seeds far apart widen it by their own spread."""
    one = write_runs(tmp_path / "one", {("a", "x"): 0.5}, num_seeds=1)
    result = compare_systems(read_runs(one), num_resamples=4000)
    score = result.scores["a", "x"]
    predictions = read_runs(one)["a", "x"]["seed0"].predictions
    expected = bootstrap_intervals(predictions, num_resamples=4000)
    assert score.interval["war"] == pytest.approx(expected["war"], abs=1e-12)
    apart = {}
    for number, share in enumerate((0.2, 0.5, 0.8)):
        write_runs(tmp_path / f"part{number}", {("a", "x"): share}, num_seeds=1, seed=number)
        apart[f"seed{number}"] = read_runs(tmp_path / f"part{number}")["a", "x"]["seed0"]
    values = [result.metrics["war"] for result in apart.values()]
    spread = compare_systems({("a", "x"): apart}, num_resamples=20000).scores["a", "x"]
    # Variance of the mean of three drawn seeds, and of the mean over them by 140 drawn videos.
    right = np.mean([r.predictions.predicted == r.predictions.labels for r in apart.values()], 0)
    deviation = math.sqrt(np.var(values) / 3 + np.var(right) / 140)
    low, high = spread.interval["war"]
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    assert low < min(np.mean(values), 0.4) and high > 0.6


def test_few_videos_that_are_all_right_are_not_certain(tmp_path):
    folder = write_runs(tmp_path, {("a", "x"): 1.0, ("b", "x"): 0.5}, num_videos=14)
    runs = read_runs(folder)
    scores = compare_systems(runs, num_resamples=200).scores
    alone = bootstrap_intervals(runs["a", "x"]["seed0"].predictions)
    for name in ("war", "uar"):
        assert scores["a", "x"].interval[name] == pytest.approx(alone[name])
        assert scores["a", "x"].interval[name][0] < 0.9
    low, high = scores["b", "x"].interval["uar"]
    assert low < scores["b", "x"].mean["uar"] < high


@pytest.mark.parametrize("wrong", ["--num_resamples 0", "--seed -1"])
def test_resamples_that_cannot_be_drawn_are_refused(runs, capsys, wrong):
    with pytest.raises(SystemExit):
        side_by_side_main([str(runs), *wrong.split()])
    assert f"{wrong[2:]} must be at least " in capsys.readouterr().err


def test_resamples_are_the_same_for_all_systems():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    ids = [str(index) for index in range(60)]
    systems = [
        Classes(ids=ids, labels=labels, predicted=random.integers(0, 3, 60), names=list("abc"))
        for _ in range(2)
    ]
    one, two, again = resampled_metrics([*systems, systems[0]], num_resamples=50)
    assert np.array_equal(one["uar"], again["uar"])
    assert not np.array_equal(one["uar"], two["uar"])
    assert set(one) >= {"uar", "war", "recall_0"} and one["uar"].shape == (50,)


def test_files_of_the_command(runs, tmp_path, capsys):
    people = [f"{index:05},person{index // 7}" for index in range(140)]
    (tmp_path / "subjects.csv").write_text("\n".join(["clip,subject", *people]) + "\n")
    out = tmp_path / "out"
    side_by_side_main([str(runs), "--systems", "svfap", "scratch", "--subjects",
                       str(tmp_path / "subjects.csv"), "--output_dir", str(out), "--num_resamples",
                       "300", "--note", "Settings were chosen for SVFAP."])  # fmt: skip
    shown = capsys.readouterr().out
    text = (out / "side_by_side.md").read_text()
    assert text in shown and "| SVFAP   |" in text and "| SVFAP - scratch | 10 % of labels" in text
    assert "20 subjects with all their videos and the 3 seeds" in text
    assert "Settings were chosen for SVFAP." in text and "of 140 test videos" in text
    rows = list(csv.DictReader((out / "side_by_side.csv").open()))
    assert len(rows) == 4 * 5 and rows[0]["system"] == "svfap"
    assert float(rows[0]["mean"]) == pytest.approx(
        np.mean([float(rows[0][f"seed{number}"]) for number in range(3)]), abs=1e-6
    )
    assert r"\toprule" in (out / "side_by_side.tex").read_text()
    with Image.open(out / "side_by_side.png") as picture:
        colours = set(picture.convert("RGB").getdata())
    assert {(0, 114, 178), (213, 94, 0)} <= colours  # Okabe and Ito's blue and vermilion


def test_weights_that_differ_within_a_condition_are_a_caution(runs):
    def weights(system, condition, text):
        path = runs / system / condition / "seed1" / "metrics.json"
        write_metrics(path, json.loads(path.read_text()), weights=text, split="test")
        notes = compare_systems(read_runs(runs), num_resamples=10).notes
        return [note for note in notes if "eights" in note]

    for system in ("svfap", "scratch"):
        for path in (runs / system / "10_percent_of_labels").glob("*/metrics.json"):
            found = json.loads(path.read_text())
            write_metrics(path, found, weights=f"linear of {path}.pth", split="test")
    assert weights("svfap", "100_percent_of_labels", "last") == ["Weights: last, linear."]
    assert weights("svfap", "100_percent_of_labels", "best") == [
        "Caution: the runs differ in their weights: best, last, linear."
    ]


def test_what_is_missing_is_said(runs, tmp_path):
    (runs / "scratch" / "10_percent_of_labels" / "seed2" / "pred.csv").unlink()
    result = compare_systems(read_runs(runs), num_resamples=100)
    assert result.seeds == ("seed0", "seed1")
    assert "Caution: not evaluated everywhere and left out: seed2." in result.notes
    for number in range(2):
        (runs / "scratch" / "10_percent_of_labels" / f"seed{number}" / "pred.csv").unlink()
    gap = compare_systems(read_runs(runs), num_resamples=100)
    assert gap.seeds == ("seed0", "seed1", "seed2") and len(gap.differences) == 1
    assert "| scratch |                    - |" in format_side_by_side(gap)
    with pytest.raises(FileNotFoundError, match="seed>/pred.csv of videomae"):
        read_runs(runs, ["videomae"])
    write_runs(runs, {("other", "100_percent_of_labels"): 0.5}, num_videos=70)
    with pytest.raises(ValueError, match="needs the same videos"):
        compare_systems(read_runs(runs), num_resamples=10)


def test_chance_of_several_heads_is_the_mean_of_theirs(tmp_path):
    heads = {"arousal": ("low", "high"), "valence": ("bad", "so-so", "fine", "good")}
    scores = np.array([[0.9, 0.1, 0.1, 0.2, 0.3, 0.4], [0.1, 0.9, 0.4, 0.3, 0.2, 0.1]])
    run = tmp_path / "svfap" / "all" / "seed0"
    run.mkdir(parents=True)
    write_predictions(
        run / "pred.csv", ClassesOfHeads.from_scores(["a", "b"], [[0, 3], [1, 0]], scores, heads)
    )
    result = compare_systems(read_runs(tmp_path), num_resamples=10)
    assert result.chance == (1 / 2 + 1 / 4) / 2


def test_names_in_words():
    assert title("maedfer") == "MAE-DFER" and title("svfap_from_scratch") == "SVFAP from scratch"
    assert title("10_percent_of_labels") == "10 % of labels"


# ---------------------------------------------------------------- the script


@pytest.fixture
def stub(tmp_path):
    """A python that records; the cost of the models is 8, 7 and 6 epochs."""
    stub = Stub(tmp_path)
    answer = """
if args[0] == "-c":  # the quick start asks for the number of processes
    print(1)
if "run_finetune.py" in args and "STUB_FAIL" in os.environ:
    sys.exit(int(os.environ["STUB_FAIL"]))
if "engine.equal_cost" in args:
    open(args[args.index("--output") + 1], "w").close()
    print("8\\n7\\n6")
if "engine.probe" in args:
    for method in ("linear", "attentive"):
        folder = os.path.join(args[args.index("--output_dir") + 1], method)
        os.makedirs(folder, exist_ok=True)
        for name in ("pred.csv", "metrics.json"):
            open(os.path.join(folder, name), "w").close()
if "run_pretrain.py" in args:
    folder = args[args.index("--output_dir") + 1]
    os.makedirs(folder, exist_ok=True)
    last = int(args[args.index("--epochs") + 1]) - 1
    open(os.path.join(folder, f"checkpoint-{last}.pth"), "w").close()
"""
    stub.path.write_text(STUB + answer)
    stub.variables |= {"DATA_DIR": str(tmp_path / "drawn"), "OMP_NUM_THREADS": "1"}
    return stub


def test_the_script_runs_everything_once(stub, tmp_path):
    shown = stub.run(SCRIPT, NUM_SEEDS="2")
    flags = [parse(call) for call in stub.runs()]
    pretrained = {f.output_dir: f for f in flags if f.model.startswith("pretrain")}
    finetuned = {f.output_dir: f for f in flags if not f.model.startswith("pretrain")}
    assert len(pretrained) == 4 * 2 and len(finetuned) == 4 * 2 * 2 and len(flags) == 24
    epochs = {"svfap": 8, "maedfer": 7, "videomae": 6, "svfap_from_scratch": 1}
    untrained = {path: pretrained.pop(path) for path in list(pretrained) if "scratch" in path}
    assert {(f.lr, f.max_steps, f.epochs) for f in untrained.values()} == {(0, 1, 1)}
    for path, f in pretrained.items():
        model, seed = path.split("/")[-2:]
        assert (f.seed, f.epochs) == (int(seed[-1]), epochs[model])
        assert f.model == f"pretrain_{model}_tiny_patch8_64"
        assert f.use_frame_diff_as_target == (model == "maedfer")
        assert (f.mask_ratio, f.num_frames, f.input_size, f.num_samples) == (0.6, 4, 48, 1)
    for path, f in finetuned.items():
        system, condition, seed = path.split("/")[-3:]
        assert f.seed == int(seed[-1]) and f.test_weights == "last"
        assert f.label_fraction == (0.1 if condition == "10_percent_of_labels" else 1)
        model = system.split("_")[0]
        source = f"{tmp_path}/out/pretrain/{model}/{seed}/checkpoint-{epochs[model] - 1}.pth"
        assert f.finetune == ("" if system == "svfap_from_scratch" else source)
        assert f.model == f"{model}_tiny_patch8_64"
    probes = [call[2:] for call in stub.calls() if call[:2] == ["-m", "engine.probe"]]
    assert len(probes) == 4 * 2 * 2
    for checkpoint, *options in probes:
        system, condition, seed = options[options.index("--output_dir") + 1].split("/")[-3:]
        assert checkpoint == (
            f"{tmp_path}/out/pretrain/{system}/{seed}/checkpoint-{epochs[system] - 1}.pth"
        )
        own = parse(["run_finetune.py", *options[options.index("--") + 1 :]])
        assert f"seed{own.seed}" == seed
        assert own.label_fraction == (0.1 if condition == "10_percent_of_labels" else 1)
        assert (
            tmp_path / f"out/runs/{system}/attentive_probe_{condition}/{seed}/pred.csv"
        ).exists()
    table = next(call for call in stub.calls() if call[1] == "engine.side_by_side")
    assert table[table.index("--conditions") + 1 :][:6] == [
        f"{how}{labels}_percent_of_labels"
        for labels in (10, 100)
        for how in ("linear_probe_", "attentive_probe_", "")
    ]
    few = {path: f for path, f in finetuned.items() if f.label_fraction == 0.1}
    scratch = {path: f for path, f in few.items() if not f.finetune}
    for group, own in (
        (pretrained, {"epochs", "use_frame_diff_as_target"}),
        ({path: f for path, f in finetuned.items() if path not in few}, set()),
        ({path: f for path, f in few.items() if path not in scratch}, set()),
        (scratch, set()),
    ):
        own |= {"model", "seed", "output_dir", "log_dir", "explicit", "lg_region_size", "depth",
                "stage_depths", "finetune"}  # fmt: skip
        alike = {json.dumps({k: v for k, v in vars(f).items() if k not in own}, default=str)
                 for f in group.values()}  # fmt: skip
        assert len(alike) == 1  # nothing else differs between systems
    assert "this took " in shown
    stub.log.unlink()
    stub.run(SCRIPT, NUM_SEEDS="2")
    assert stub.runs() == []
    output = stub.run(SCRIPT, status=1, FINETUNE_FLAGS="--lr 1e-3")
    assert "> FINETUNE_FLAGS=--lr 1e-3" in output and "set another OUTPUT_DIR" in output


def test_the_quick_start_fine_tunes_twice_and_draws_one_picture(stub, tmp_path):
    folder = tmp_path / "quick"
    where = ("--output_dir", str(folder))
    stub.run("scripts/quickstart.sh", *where, VENV="none", NUM_VIDEOS="70", GPUS="0")
    before, train, first, second, after, picture = (
        [call for call in stub.calls() if call[1].startswith("preprocess.")],
        *stub.runs(),
        *stub.calls()[-2:],
    )
    assert [call[1].split(".")[1] for call in before] == ["synthetic", "voxceleb2", "dfew"]
    assert {"--level", "easy", "70"} <= set(before[0])
    pretrained = parse(train)
    assert parse(first).finetune == f"{pretrained.output_dir}/checkpoint-last.pth"
    one, two = (vars(parse(call)) for call in (first, second))
    assert {key for key in one if one[key] != two[key]} == {
        *("finetune", "output_dir", "log_dir", "explicit")
    }
    assert (pretrained.model, one["model"]) == (f"pretrain_{one['model']}", "svfap_tiny_patch8_64")
    assert after[1] == "engine.compare" and picture[1] == "engine.report.overview"
    assert [run["output_dir"] for run in (one, two)] == picture[2:4] == after[2:4]


def test_fewer_pretrainings_take_turns(stub, tmp_path):
    stub.run(SCRIPT, NUM_SEEDS="2", NUM_PRETRAINED="1")
    flags = [parse(call) for call in stub.runs()]
    assert len(flags) == 4 + 16
    assert {f.finetune for f in flags if not f.model.startswith("pretrain") and f.finetune} == {
        f"{tmp_path}/out/pretrain/{model}/seed0/checkpoint-{last}.pth"
        for model, last in (("svfap", 7), ("maedfer", 6), ("videomae", 5))
    }


def test_a_failing_run_stops_the_others(stub):
    output = stub.run(SCRIPT, status=3, STUB_FAIL="3")
    assert "failed with status 3" in output
    assert len([call for call in stub.runs() if call[0] == "run_finetune.py"]) <= 2


def test_the_script_hands_signals_on(stub, tmp_path):
    process = subprocess.Popen(
        ["bash", str(ROOT / SCRIPT)], env=stub.environment(STUB_WAIT=str(tmp_path / "waiting")),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    while not (stub.log.exists() and len(stub.runs()) == 2):  # both lanes
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    time.sleep(1)  # until both have a handler
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=25)
    assert process.returncode == 75, output
    assert len(stub.runs()) == 2
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nothing is left behind


@pytest.mark.slow
def test_the_comparison_at_its_smallest(tmp_path):
    variables = {
        "PYTHON": sys.executable, "SHORT": "1", "DATA_DIR": str(tmp_path / "data"),
        "OUTPUT_DIR": str(tmp_path / "out"),
    }  # fmt: skip
    for _ in range(2):  # the second finds everything done
        done = subprocess.run(["bash", str(ROOT / SCRIPT)], env=os.environ | variables,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "out" / "side_by_side.md").read_text()
    for name in ("SVFAP", "MAE-DFER", "VideoMAE", "SVFAP from scratch"):
        assert f"\n| {name} " in text
    assert "UAR, 30 % of labels" in text and "UAR, attentive probe 30 % of labels" in text
    assert "mean over 2 seeds" in text
    chosen = [
        (tmp_path / "out/runs" / system / "30_percent_of_labels/seed1/training.csv").read_text()
        for system in ("svfap", "maedfer", "videomae", "svfap_from_scratch")
    ]
    assert len(set(chosen)) == 1  # all systems see the same labels of a seed
    assert (tmp_path / "out" / "side_by_side.png").stat().st_size > 5000
