"""Weights in files, to the bit, or an error that says what is wrong."""

import inspect
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxcnn.weights import WeightsError, load_safetensors, read_about, save_safetensors

RNG = np.random.default_rng(0)


def bits(tree: Any) -> list[tuple[str, bytes]]:
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    params = {
        "conv": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)},
        "dense": {"kernel": jnp.ones((3, 1))},
    }
    state = {"norm": {"mean": jnp.full(3, jnp.nan)}}
    path = tmp_path / "weights.safetensors"
    save_safetensors(path, params, state, about={"model": "small", "note": "größer"})
    found = load_safetensors(path, *jax.tree.map(jnp.zeros_like, (params, state)))
    assert bits(found) == bits((params, state))
    assert jax.tree.structure(found) == jax.tree.structure((params, state))
    assert read_about(path) == {"model": "small", "note": "größer"}
    assert [file.name for file in tmp_path.iterdir()] == ["weights.safetensors"]
    with path.open("rb") as file:
        names = sorted(safetensors.numpy.load(file.read()))
    assert names == [
        "params.conv.bias",
        "params.conv.kernel",
        "params.dense.kernel",
        "state.norm.mean",
    ]
    save_safetensors(path, {}, {})
    assert load_safetensors(path, {}, {}) == ({}, {})
    assert read_about(path) == {}


DTYPES = [
    "float32",
    "float16",
    "float64",
    ml_dtypes.bfloat16,
    "int8",
    "int32",
    "int64",
    "uint8",
    "bool",
]


@pytest.mark.parametrize("dtype", [np.dtype(dtype) for dtype in DTYPES], ids=str)
def test_every_dtype_and_layout_keeps_its_bits(dtype: np.dtype, tmp_path: Path, x64: None) -> None:
    array = (RNG.normal(size=(2, 3, 4)) * 9).astype(dtype)
    params = {
        "jax": jnp.asarray(array),
        "turned": array.transpose(2, 0, 1)[::2],
        "one": np.array(array[0, 0, 0]),
        "none": array[:0],
    }
    save_safetensors(tmp_path / "x", params, {})
    found, _ = load_safetensors(tmp_path / "x", params, {})
    assert bits(found) == bits(params)
    assert {name: type(leaf) for name, leaf in found.items()} == {
        name: type(leaf) for name, leaf in params.items()
    }


def test_weights_go_to_the_devices_of_those_they_replace(tmp_path: Path) -> None:
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    there = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    params = {"kernel": jax.device_put(jnp.arange(4.0), there)}
    save_safetensors(tmp_path / "x", params, {})
    found, _ = load_safetensors(tmp_path / "x", params, {})
    assert found["kernel"].sharding == there


@pytest.mark.parametrize(
    ("params", "state", "words"),
    [
        ({"a": np.ones(3)}, {}, r"`params.a` is float64\[3\] in the file, float64\[2\] here \(and 1 more differ\)"),
        ({"a": np.ones(2, np.float32)}, {"m": np.ones(1)}, r"`params.a` is float32\[2\] in the file, float64\[2\] here$"),
        ({"a": np.ones(2)}, {}, r"`state.m` is nothing in the file, float64\[1\] here$"),
        ({"a": np.ones(2), "b": np.ones((1, 2))}, {"m": np.ones(1)}, r"`params.b` is float64\[1, 2\] in the file, nothing here$"),
    ],
)  # fmt: skip
def test_another_models_weights_are_refused_by_name(
    params: Any, state: Any, words: str, tmp_path: Path
) -> None:
    save_safetensors(tmp_path / "x", params, state)
    with pytest.raises(WeightsError, match=words):
        load_safetensors(tmp_path / "x", {"a": np.ones(2)}, {"m": np.ones(1)})


WHOLE = safetensors.numpy.save({"params.a": np.arange(100.0)})
NO_FILE = "is not a safetensors file, or is cut short or damaged"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; expected a safetensors file"),
        (WHOLE[:5], NO_FILE),
        (WHOLE[:40], NO_FILE),
        (WHOLE[:-1], NO_FILE),
        (WHOLE + b"x", NO_FILE),
        (b"\xff" * 100, NO_FILE),
        ((9).to_bytes(8, "little") + b'{"a": [1]' + bytes(9), NO_FILE),
        (pickle.dumps({"a": np.ones(3)}), r"pickles are never read, .* safetensors.torch.save_file\(model.state_dict\(\)"),
        (b"PK\x03\x04" + bytes(99), "is a pickle or a zip archive, as torch.save writes"),
        (safetensors.numpy.save({"0.weight": np.ones(3)}), "`0.weight` is .* in the file, nothing here .*load_torch reads the files of PyTorch"),
    ],
)  # fmt: skip
def test_files_that_are_none_say_so_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=rf"x\.safetensors: {words}|x\.safetensors: .*{words}"
    ) as caught:
        load_safetensors(path, {"a": np.arange(100.0)}, {})
    assert "\n" not in str(caught.value)


def test_a_header_as_long_as_a_pickles_mark_is_no_pickle(tmp_path: Path) -> None:
    """A file whose header has 640 bytes begins with the two bytes of a pickle."""
    lengths = {
        len(note): safetensors.numpy.save({"params.a": np.ones(1)}, {"n": note})
        for note in ("x" * k for k in range(500, 600))
    }
    content = next(c for c in lengths.values() if c[:2] == b"\x80\x02")
    (tmp_path / "x").write_bytes(content)
    assert load_safetensors(tmp_path / "x", {"a": np.ones(1)}, {})[0]["a"] == 1


def test_places_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(WHOLE)
    for read in (read_about, lambda path: load_safetensors(path, {}, {})):
        with pytest.raises(
            WeightsError, match=r"cannot be read \(Is a directory\); expected a safetensors file"
        ):
            read(tmp_path)
        with pytest.raises(WeightsError, match="none: there is no such file"):
            read(tmp_path / "none")
        with pytest.raises(WeightsError, match=r"inside: (there is no such file|cannot be read)"):
            read(tmp_path / "file" / "inside")
    for path in (tmp_path, tmp_path / "no" / "x", tmp_path / "file" / "x"):
        with pytest.raises(WeightsError, match=r"cannot be written \("):
            save_safetensors(path, {"a": np.ones(1)}, {})
    assert (tmp_path / "file").read_bytes() == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("params", "about", "words"),
    [
        (
            {"a": np.ones(2, complex)},
            {},
            r"`params.a` is complex128\[2\]; expected an array of bool",
        ),
        ({"a": {"b": 1.5}}, {}, r"`params.a.b` is float \(a Python value\)"),
        ({"a": np.array("x")}, {}, "`params.a` is <U1"),
        ({"a": jax.random.key(0)}, {}, r"`params.a` is key<\w+>\[\]"),
        ({"a": {"b.c": np.ones(1)}, "a.b": {"c": np.ones(1)}}, {}, "two arrays have the same name"),
        ({}, {"epochs": 3}, r"`about` must be text by name, got 'epochs': 3; e.g. epochs=str"),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(
    params: Any, about: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=words):
        inspect.unwrap(save_safetensors)(tmp_path / "x", params, {}, about=about)
    assert not list(tmp_path.iterdir())
