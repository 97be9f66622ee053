"""scripts/synthetic/affect.sh with a stub in place of python: what it runs, and that it parses."""

from svfap.engine.flags import config, parsing
from svfap.preprocess import synthetic_affect
from svfap.preprocess.synthetic import command as synthetic
from tests.test_recipes import Stub

SCRIPT = "scripts/synthetic/affect.sh"


def test_both_models_are_trained_once_and_put_beside_the_constant(tmp_path):
    stub = Stub(tmp_path)
    stub.run(SCRIPT, EPOCHS="3", FRAME_EPOCHS="2", NUM_VIDEOS="60")
    runs = [parsing.parse_flags(config.finetuning_parser(), run[1:]) for run in stub.runs()]
    assert [run.output_dir.split("/")[-1] for run in runs] == ["videos", "frames"]
    assert [run.data_path.split("/")[-2] for run in runs] == ["videos", "frames"]
    assert [run.epochs for run in runs] == [3, 2]
    assert not runs[0].finetune
    assert runs[1].finetune == f"{runs[0].output_dir}/checkpoint-last.pth"
    modules = {call[1]: call[2:] for call in stub.calls() if call[0] == "-m"}
    drawn = synthetic.get_parser().parse_args(modules["preprocess.synthetic"])
    assert (drawn.num_labelled_videos, drawn.num_folds) == (60, 5)
    lists = synthetic_affect.build_parser().parse_args(modules["preprocess.synthetic_affect"])
    assert lists.dataset_dir == drawn.output_dir
    names = [call[1] for call in stub.calls() if call[0] == "-m"][2:]
    assert names == ["engine.constant", "engine.compare", "engine.summarize"] * 2
    stub.run(
        SCRIPT, EPOCHS="3", FRAME_EPOCHS="2", NUM_VIDEOS="60"
    )  # what is finished is the runs' own business
    assert stub.runs()[2:] == stub.runs()[:2]
