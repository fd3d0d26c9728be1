"""The names of the arrays in a tree.

>>> sorted(named({"conv": {"kernel": 1, "bias": 2}}))
['conv/bias', 'conv/kernel']
"""

from typing import Any

import jax

IN_FILES = "."  # as safetensors files of other libraries have it


def named(tree: Any, separator: str = "/") -> dict[str, Any]:
    """Every leaf under its name, such as "params/conv1/kernel" in a train state."""
    leaves = jax.tree.leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator=separator): leaf for path, leaf in leaves
    }
