"""Makes our models known to timm, without importing timm or PyTorch for those who do not use them.

timm takes seconds to import (through torchvision). If it is imported already, the names are
registered at once, otherwise right after somebody imports it.
"""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@cache
def register_with_timm() -> None:
    """Register all names and aliases, now or as soon as timm is imported."""
    if "timm" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterTimm())


def _register() -> None:
    from timm.models import register_model

    from svfap.models.registry import ALIASES, list_models

    for name in [*list_models(), *ALIASES]:
        entry = _timm_entry(name)
        setattr(sys.modules[__name__], name, entry)  # timm exports it from this module
        register_model(entry)


def _timm_entry(name: str) -> Callable[..., "nn.Module"]:
    """A function timm can call under this name."""
    from svfap.models.registry import create_model

    def entry(
        pretrained: bool = False,
        pretrained_cfg=None,
        pretrained_cfg_overlay=None,
        cache_dir=None,
        **overrides,
    ) -> "nn.Module":
        if pretrained:
            raise ValueError(
                f"pretrained=True: no weights of {name} can be fetched by name; build the model "
                "without it and call models.load_weights(model, path)."
            )
        return create_model(name, **overrides)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"Build {name}; see `models.create_model`."
    return entry


class _AfterTimm(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that runs `_register` once, when timm's own import is done."""

    def find_spec(self, fullname: str, path, target=None):
        if fullname != "timm":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec("timm")
        finally:
            sys.meta_path.insert(0, self)  # somebody may only have asked where it is
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        sys.meta_path.remove(self)
        self.loader.exec_module(module)
        _register()
