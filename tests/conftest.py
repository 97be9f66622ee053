"""Shared fixtures of the test suite."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so are commands that end with `&` started
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"
REAL_VIDEOS = ROOT.parent / "shared" / "videos"


def pytest_collection_modifyitems(items) -> None:
    """Skip what needs a GPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """A video of 40 frames in which something moves."""
    from tests.tiny_data import write_video

    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_video(path, num_frames=40, direction=0, seed=0)
    return path


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with reference numbers computed from the released modules."""
    return GOLDEN


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """Folder with real face clips; tests that need it skip where it is absent."""
    if not REAL_VIDEOS.is_dir():
        pytest.skip(f"{REAL_VIDEOS} is absent")
    return REAL_VIDEOS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Tiny videos with a list for pre-training and a fold, for the tests of a file."""
    from tests.tiny_data import make_tiny_data

    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_data(folder)
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A fake hub (`tests.fake_hub`) that huggingface_hub asks, with an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    from svfap.models.weights import hub as door
    from tests import fake_hub

    with fake_hub.serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        door._fetched.cache_clear()
        yield served
        door._fetched.cache_clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed may name files that are not UTF-8, which test processes cannot send."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report
