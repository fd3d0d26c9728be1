"""Parameters and state in one safetensors file: names, shapes, dtypes and numbers, and nothing that could be executed. Needs the extra ``jaxcnn[train]``.

>>> import pathlib, tempfile, jax
>>> from jaxcnn import models
>>> params, state = models.mlp((8, 2)).init(jax.random.key(0), (4,))
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "mlp.safetensors")
...     save_safetensors(path, params, state, about={"set": "digits"})
...     read, _ = load_safetensors(path, params, state)
...     read_about(path), bool((read["dense1"]["kernel"] == params["dense1"]["kernel"]).all())
({'set': 'digits'}, True)
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcnn.errors import show
from jaxcnn.files import write_file
from jaxcnn.outside import OutsideError
from jaxcnn.train.names import named

DTYPES = {
    "BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip


class WeightsError(OutsideError):
    """Weights cannot be written, read or converted; the message is one line that says which, why, and what can be done."""


def save_safetensors(path: str | Path, params: Any, state: Any, *, about: Mapping[str, str] | None = None) -> None:
    """Write every array under its name ("params.conv1.kernel", "state.norm.mean"), and ``about`` beside them. The file is there when it is whole.

    Raises WeightsError for what is no array, for dtypes that the format has not, for an ``about`` that is not text, and where ``path`` cannot be written.
    """
    path, arrays, about = Path(path), names_of(params, state), dict(about or {})
    for name, array in arrays.items():
        if str(getattr(array, "dtype", None)) not in DTYPES.values():
            raise WeightsError(f"{path}: `{name}` is {show(array)}; expected an array of {', '.join(DTYPES.values())}")
    for name, text in about.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise WeightsError(
                f"{path}: `about` must be text by name, got {name!r}: {text!r}; e.g. {name!s:.40}=str(…)"
            )
    # The library copies memory as it lies, so the order must be C's
    content = _library().numpy.save({name: np.asarray(a, order="C") for name, a in arrays.items()}, about or None)
    try:
        write_file(path, content)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written ({error.strerror})") from error


def load_safetensors(path: str | Path, like_params: Any, like_state: Any) -> tuple[Any, Any]:
    """``(params, state)`` of a file, which must have the arrays of ``like_params`` and ``like_state`` by name, shape and dtype, and no others.

    They are put on the devices of those; where those are NumPy's, they are NumPy's too. All is checked before the first number is read. Raises WeightsError.
    """
    wanted = names_of(like_params, like_state)
    with _opened(Path(path)) as file:
        there = {name: _shown(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        here = {name: show(array) for name, array in wanted.items()}
        other = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
        if other:
            more = f" (and {len(other) - 1} more differ)" if len(other) > 1 else ""
            hint = "" if there.keys() & here.keys() else "; load_torch reads the files of PyTorch"
            raise WeightsError(f"{path}: `{other[0]}` is {there.get(other[0], 'nothing')} in the file, {here.get(other[0], 'nothing')} here{more}{hint}")  # fmt: skip
        return rebuilt({name: file.get_tensor(name) for name in wanted}, like_params, like_state)


def read_about(path: str | Path) -> dict[str, str]:
    """What :func:`save_safetensors` was told ``about`` the weights. Raises WeightsError."""
    with _opened(Path(path)) as file:
        return dict(file.metadata() or {})


def read_tensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Every array of a file, whatever it is called, and what is told about them. Raises WeightsError."""
    with _opened(Path(path)) as file:
        unknown = [name for name in file.keys() if file.get_slice(name).get_dtype() not in DTYPES]  # noqa: SIM118
        if unknown:
            raise WeightsError(f"{path}: `{unknown[0]}` is {_shown(file.get_slice(unknown[0]))}; expected {', '.join(DTYPES.values())}")  # fmt: skip
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def names_of(params: Any, state: Any) -> dict[str, Any]:
    """Every array under its name. Raises WeightsError where two have one name, as "b.c" in "a" and "c" in "a.b" have."""
    tree = {"params": params, "state": state}
    found = named(tree)
    if len(found) != len(jax.tree.leaves(tree)):
        raise WeightsError("two arrays have the same name; name the layers without dots")
    return found


def rebuilt(found: Mapping[str, np.ndarray], like_params: Any, like_state: Any) -> tuple[Any, Any]:
    """``(params, state)`` from arrays by name."""
    like = names_of(like_params, like_state)
    structure = jax.tree.structure({"params": like_params, "state": like_state})
    tree = jax.tree.unflatten(structure, [_placed(found[name], array) for name, array in like.items()])
    return tree["params"], tree["state"]


def _placed(array: np.ndarray, like: Any) -> Any:
    return array if isinstance(like, np.ndarray) else jax.device_put(array, getattr(like, "sharding", None))


def _shown(part: Any) -> str:
    return f"{DTYPES.get(part.get_dtype(), part.get_dtype())}{list(part.get_shape())}"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    library = _library()
    try:
        if path.is_dir():
            raise WeightsError(f"{path}: is a folder; expected a safetensors file")
        with library.safe_open(path, framework="np") as file:
            yield file
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    except library.SafetensorError as error:
        raise WeightsError(f"{path}: {_what_it_is(path)} ({' '.join(str(error).split())})") from error


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        return "is empty; expected a safetensors file"
    if head == b"PK\x03\x04" or (head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return "is a pickle or a zip archive, as torch.save writes, and pickles are never read, as they can run anything; where it was made, call safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
    return "is not a safetensors file, or is cut short"


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("weights are written and read by safetensors: pip install 'jaxcnn[train]'") from error
    return safetensors
