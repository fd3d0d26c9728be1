"""Training runs in a folder of their own: ``python -m jaxcnn train``, ``eval`` and ``predict``;
``load("runs/x")`` has a finished one in Python. Needs the extra ``jaxcnn[train]``."""

from typing import TYPE_CHECKING

from jaxcnn._core.lazy import on_demand

if TYPE_CHECKING:
    from jaxcnn.runs._config import Config
    from jaxcnn.runs._loaded import Loaded, load
    from jaxcnn.runs._train import run

__all__ = ["Config", "Loaded", "load", "run"]

if not TYPE_CHECKING:  # the command line reads its options before JAX is needed
    __getattr__, __dir__ = on_demand(
        __name__,
        __all__,
        {"_config": ["Config"], "_loaded": ["Loaded", "load"], "_train": ["run"]},
    )
