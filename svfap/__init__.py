"""SVFAP's one import name: everything of this project is `svfap.something`.

>>> import svfap
>>> model = svfap.create_model("svfap_base_patch16_160", num_classes=7)
>>> svfap.Predictor("saved/dfew/checkpoint-best.pth").predict("clip.mp4")

The packages lie at the top of a checkout, and inside this one where the project is installed: other
libraries own names as common as `datasets`, so nothing is installed under those. In a checkout the
short names work too (`import models`, `python -m engine.report`) and are the same modules.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - a checkout can be started by any Python
    raise SystemExit(
        f"Python 3.10 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})"
    )

from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGES = ("models", "datasets", "engine", "preprocess")
_OFFERED = {
    "create_model": "models",
    "list_models": "models",
    "load_weights": "models",
    "open_weights": "models",
    "Predictor": "engine.predict.predictor",
    "PredictionOptions": "engine.predict.predictor",
}
_HERE = Path(__file__).resolve().parent
if not (_HERE / "models").is_dir():
    __path__.append(str(_HERE.parent))


def __getattr__(name: str):
    """What the packages offer under this name, imported when asked for: PyTorch takes seconds."""
    if name in _OFFERED:
        return getattr(import_module(f"svfap.{_OFFERED[name]}"), name)
    raise AttributeError(f"module 'svfap' has no attribute {name!r}")


def short_name(name: str) -> None:
    """Called by each package: a checkout's `models`, imported as such, becomes `svfap.models`."""
    if name in PACKAGES:
        sys.modules[name] = import_module(f"svfap.{name}")


class _ShortNames(MetaPathFinder, Loader):
    """`models.tpsbt`, imported in a checkout, becomes the module `svfap.models.tpsbt`."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        if package == fullname or package not in PACKAGES:
            return None
        if sys.modules.get(package) is not sys.modules.get(f"svfap.{package}"):
            return None  # somebody else's
        real = find_spec(f"svfap.{fullname}")
        if real is None:
            return None
        spec = ModuleSpec(fullname, self, origin=real.origin)
        spec.has_location = real.has_location
        spec.submodule_search_locations = real.submodule_search_locations
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"svfap.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state  # the import system has put the short one

    def get_code(self, fullname: str):
        """For `python -m engine.report`."""
        return find_spec(f"svfap.{fullname}").loader.get_code(f"svfap.{fullname}")


sys.meta_path.insert(0, _ShortNames())
