"""The door for weights, against a hub on loopback."""

import logging
import pickle
import time

import pytest
import torch

from svfap import models
from svfap.models.weights import hub as door

constants = pytest.importorskip("huggingface_hub.constants")
SMALL = {"img_size": 16, "patch_size": 8, "num_frames": 4, "embed_dim": 16, "num_heads": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny classifier as .safetensors and .pth, by name -> content, and its state."""
    folder = tmp_path_factory.mktemp("weights")
    model = models.create_model("videomae_small_patch16_160", depth=1, num_classes=3, **SMALL)
    torch.save({"model": model.state_dict()}, folder / "w.pth")
    from svfap.models.convert import convert

    torch.save({"model": model.state_dict(), "model_config": model.config}, folder / "ours.pth")
    convert(folder / "ours.pth", folder / "w.safetensors")
    return {path.suffix: path.read_bytes() for path in folder.glob("w.*")}, model.state_dict()


CARD = b"---\nlicense: cc-by-nc-4.0\n---\n# Weights\n"


def test_a_repository_is_weights_with_commit_and_licence(hub, weights, caplog):
    files, state = weights
    hub.behaviour["o/r", "model.safetensors"] = "redirect"
    first = hub.commit("o/r", {
        "model.safetensors": files[".safetensors"], "pytorch_model.bin": b"not fetched",
        "README.md": CARD, "config.json": b"{}", "training_args.bin": b"",
    })  # fmt: skip
    with caplog.at_level(logging.INFO):
        found = door.locate("hf://o/r")
        content = models.read_checkpoint("hf://o/r")
    assert found.source == f"hf://o/r@{first}/model.safetensors"
    assert found.licence == "cc-by-nc-4.0: for non-commercial use only"
    assert (found.path.parent / "config.json").is_file()
    assert torch.equal(content["model"]["head.weight"], state["head.weight"])
    assert sorted(hub.served) == ["README.md", "config.json", "model.safetensors"]
    assert caplog.text.count("cc-by-nc-4.0") == 1
    # a later commit is another source; what names the first one still gets it, without a request
    second = hub.commit("o/r", {"README.md": b"no licence"})
    door._fetched.cache_clear()
    later = door.locate("hf://o/r")
    assert later.source == f"hf://o/r@{second}/model.safetensors"
    assert "not stated" in later.licence
    assert door.locate(found.source).path == found.path


def test_file_folder_and_revision_are_named(hub, weights):
    files, _ = weights
    first = hub.commit("o/r", {"big/fold 1/w.pth": files[".pth"], "small/w.pth": b"other"})
    assert door.locate("hf://o/r/big").source == f"hf://o/r@{first}/big/fold 1/w.pth"
    assert door.locate(f"hf://o/r@{first}/small/w.pth").path.read_bytes() == b"other"
    assert len(models.read_checkpoint("hf://o/r/big/fold 1/w.pth")["model"]) > 5


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf://o/none", "there is no .*/o/none, or it is private"),
        ("hf://o/r@v9", "no revision 'v9'"),
        ("hf://o/r/none.pth", "no such file .*there are a.pth, b.pth"),
        ("hf://o/r", "several files of weights; name one: a.pth, b.pth"),
        ("hf://o/parts", "Weights in several parts are not supported"),
        ("hf://o/text", "holds no weights"),
        ("hf://o/gated/a.pth", "ask for consent"),
        ("hf://o/gone/a.pth", "500|503"),
        ("hf://o", "is not hf://owner/repo"),
        ("hf://../../etc", "could not be fetched|is not hf"),
        ("hf:/o/r", "no weights at hf:/o/r"),
        ("videomae-bas", "did you mean videomae-base"),
        ("svfap-base-voxceleb2", "models.download svfap-base-voxceleb2"),
    ],
)
def test_what_cannot_be_had_is_said_in_words(hub, source, words):
    hub.commit("o/r", {"a.pth": b"a", "b.pth": b"b", "notes.txt": b""})
    hub.commit("o/parts", {f"model-0000{n}-of-00002.safetensors": b"" for n in (1, 2)})
    hub.commit("o/text", {"README.md": CARD})
    hub.commit("o/gated", {"a.pth": b"a"})
    hub.commit("o/gone", {"a.pth": b"a"})
    hub.refusals = {"o/gated": (403, "GatedRepo"), "o/gone": (500, None)}
    with pytest.raises((door.SourceError, FileNotFoundError), match=words) as raised:
        door.locate(source)
    assert "Traceback" not in str(raised.value)


def test_offline_takes_what_is_kept(hub, weights, monkeypatch):
    files, _ = weights
    commit = hub.commit("o/r", {"model.safetensors": files[".safetensors"], "README.md": CARD})
    online = door.locate("hf://o/r")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for source in ("hf://o/r", f"hf://o/r@{commit}", online.source):
        door._fetched.cache_clear()
        assert door.locate(source) == online
    with pytest.raises(door.SourceError, match="not kept here, and HF_HUB_OFFLINE"):
        door.locate("hf://o/other")


def test_no_network_is_said_in_seconds(hub, weights, monkeypatch):
    files, _ = weights
    hub.commit("o/r", {"model.safetensors": files[".safetensors"]})
    online = door.locate("hf://o/r")
    door._fetched.cache_clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    begun = time.monotonic()
    assert door.locate("hf://o/r") == online  # as kept
    with pytest.raises(door.SourceError, match="could not be fetched from http://127.0.0.1:9"):
        door.locate("hf://o/other")
    assert time.monotonic() - begun < 10


def test_broken_off_and_damaged(hub, weights, monkeypatch):
    files, _ = weights
    hub.commit("o/r", {
        "whole.safetensors": files[".safetensors"], "cut.safetensors": files[".safetensors"][:-9],
        "evil.pth": pickle.dumps(print), "page.pth": b"<html>log in</html>",
    })  # fmt: skip
    hub.behaviour["o/r", "whole.safetensors"] = "break"
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(door.SourceError, match="could not be fetched"):
        door.locate("hf://o/r/whole.safetensors")
    del hub.behaviour["o/r", "whole.safetensors"]
    assert models.read_checkpoint("hf://o/r/whole.safetensors")
    for name, words in (
        ("cut.safetensors", "cut off or damaged"),
        ("evil.pth", "nothing in it was executed"),
        ("page.pth", "HTML page"),
    ):
        with pytest.raises(ValueError, match=words):
            models.read_checkpoint(f"hf://o/r/{name}")


def test_a_hostile_listing_leaves_no_file_outside(hub, tmp_path):
    hub.commit("o/r", {"../../../escaped.pth": b"x"})
    with pytest.raises(door.SourceError):
        door.locate("hf://o/r")
    assert not list(tmp_path.rglob("escaped.pth"))


def test_without_the_library(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(door.SourceError, match="pip install huggingface_hub .*extra `hub`"):
        door.locate("hf://o/never-asked")


def test_the_catalogue_knows_what_files_cannot_tell(hub, weights):
    files, _ = weights
    hub.commit("ysrinria/MiRA", {
        "pretrained_models/BASE/checkpoint-199.pth": files[".pth"],
        "pretrained_models/BASE_FlashLite/checkpoint-199.pth": files[".pth"],
    })  # fmt: skip
    exact = door.locate("mira-base-exact-voxceleb2")
    assert exact.told == {"use_fmp_flashlite": False} and exact.licence == "Apache-2.0"
    lite = door.locate("hf://ysrinria/MiRA/pretrained_models/BASE_FlashLite")
    assert lite.told == {"use_fmp_flashlite": True}
