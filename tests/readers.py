"""Every reader of a file, with a small good one, as the library or its natural writer writes it."""

import dataclasses
import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy
from idx_files import NAMES, encode
from PIL import Image

from jaxcnn import layers
from jaxcnn._io.command import InputError
from jaxcnn._io.lines import read_lines
from jaxcnn._io.outside import OutsideError
from jaxcnn._io.sealed import read_sealed, seal
from jaxcnn.data import DataError, Dataset, load, load_idx_folder, load_image_folder, read_idx
from jaxcnn.data._cifar import ARCHIVE, RECORD, TEST, TRAIN
from jaxcnn.data._folder import read_image
from jaxcnn.data._scale import Standardiser
from jaxcnn.ops import softmax_cross_entropy
from jaxcnn.runs import _components as build
from jaxcnn.runs import _continuation as work
from jaxcnn.runs._config import Config, kept_settings, settings_of
from jaxcnn.runs._folder import KIND as MANIFEST_KIND
from jaxcnn.runs._folder import MANIFEST, RunFolder
from jaxcnn.runs._model_file import KIND, Trained, about, open_models
from jaxcnn.train._draw import history
from jaxcnn.train._logs import JsonLines
from jaxcnn.train._recipe import Recipe
from jaxcnn.train._watch import KINDS, Norms
from jaxcnn.weights import WeightsError, load_safetensors, load_torch, read_about
from jaxcnn.weights._store import names_of
from jaxcnn.weights._tensors import pack

RNG = np.random.default_rng(0)
PIXELS, COLOURS = (
    RNG.integers(0, 256, (5, 7)).astype(np.uint8),
    RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8),
)
IMAGES, LABELS = RNG.integers(0, 256, (6, 4, 5)).astype(np.uint8), np.arange(6, dtype=np.uint8) % 3


class Reader(NamedTuple):
    """A file by its ``name`` with its ``content``, the others ``beside`` it, and what reads it.

    ``wrap`` makes the file of the content, where that is what is to be changed: what a checksum or
    a compression would keep any change from. ``same`` means that there is such a sum. ``json``
    means that the content is JSON, whose values are changed."""

    name: str
    content: bytes
    read: Callable[[Path], Any]
    right: Callable[[Any], bool]
    kind: type[OutsideError] = DataError
    wrap: Callable[[bytes], bytes] = bytes
    beside: Mapping[str, bytes] = {}
    same: bool = False
    json: bool = False


def _npz(method: int, first: bytes | None = None) -> bytes:
    """A data set as np.savez writes it, packed so; ``first`` in place of its first array."""
    into, arrays = (
        io.BytesIO(),
        {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:3], "y_test": LABELS[:3]},
    )
    with zipfile.ZipFile(into, "w", method) as archive:
        for name, array in arrays.items():
            archive.writestr(
                f"{name}.npy", _npy(array) if first is None or name != "x_train" else first
            )
    return into.getvalue()


def _npy(array: np.ndarray) -> bytes:
    into = io.BytesIO()
    np.save(into, array)
    return into.getvalue()


def _records(count: int) -> bytes:
    return b"".join(
        bytes([number % 10]) + bytes([number]) * (RECORD - 1) for number in range(count)
    )


def _tar() -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        for name in (*TRAIN, *TEST):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = 2 * RECORD
            archive.addfile(info, io.BytesIO(_records(2)))
    return into.getvalue()


def _image(form: str, pixels: np.ndarray = COLOURS, **settings: Any) -> bytes:
    into = io.BytesIO()
    Image.fromarray(pixels).save(into, form, **settings)
    return into.getvalue()


def _photograph() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _image("JPEG", exif=exif)


def _palette(form: str) -> bytes:
    into = io.BytesIO()
    Image.fromarray(COLOURS).quantize(16).save(into, form, transparency=3)
    return into.getvalue()


def _summed(content: bytes) -> bytes:
    """A PNG whose chunks have their checksums, as far as they can be told apart."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunk = content[at + 4 : at + 8 + length]
        parts.append(content[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk)))
        at += 12 + length
    return b"".join(parts) + content[at:]


IDX = {
    name: encode({"images": IMAGES, "labels": LABELS}[role.split()[1]])
    for role, name in NAMES.items()
}
CLASSES = {
    f"{split}/{name}/1.png": _image("PNG", PIXELS)
    for split in ("train", "test")
    for name in ("ant", "cat")
}
SMALL = layers.serial(dense=layers.dense(3))
PARAMS = {"dense": {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}}
THEIRS = {"0.weight": np.ones((3, 2), np.float32), "0.bias": np.zeros(3, np.float32)}
MLP = Config(model="mlp", data="pets", out=Path("runs/pets"))
MODEL = build.network(MLP, 2)
WEIGHTS = names_of(*jax.tree.map(np.asarray, MODEL.init(jax.random.key(0), (2, 2, 1))))
TOLD = json.dumps(
    {
        "settings": json.loads(MLP.text()),
        "step": 3,
        **about(2, ["ant", "cat"], Standardiser((1.0,), (2.0,)), (2, 2, 1)),
    }
).encode()
NORMS = {kind: {"dense1": 1.0, "dense2": None} for kind in KINDS}
LOG = json.dumps(
    [
        {
            "step": step,
            "steps": 4,
            "epoch": step / 2,
            "loss": 0.5,
            "losses": [0.5, None],
            "seconds": 0.1,
            "scores": {"accuracy": 0.5},
            "each": [{"accuracy": 0.5}],
            "norms": NORMS,
        }
        for step in (2, 4)
    ]
).encode()
YAML = (
    b"# mine\nepochs: 3\nmodel: mlp\nlearning_rate: 2e-3\naugment: [crop, flip]\nimage_size:\n-"
    b" 8\n- 8\nstream: false\nclip: null\ndata: 'pets'\n"
)


def _header(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + safetensors.numpy.save(THEIRS)[-36:]


def _model(told: bytes) -> bytes:
    return pack(WEIGHTS, {KIND: told.decode(errors="replace")})


def _sealed(value: bytes, kind: str = MANIFEST_KIND) -> bytes:
    said = json.loads(value)
    return seal(kind, said if isinstance(said, dict) else {"written": said}).encode()


def is_dataset(found: Any) -> bool:
    arrays = found.train_images, found.test_images, found.train_labels, found.test_labels
    return (
        isinstance(found, Dataset)
        and [str(array.dtype) for array in arrays] == ["uint8"] * 2 + ["int32"] * 2
    )


def is_bytes(found: Any) -> bool:
    return isinstance(found, np.ndarray) and found.dtype == np.uint8


def is_settings(found: Any) -> bool:
    return isinstance(found, dict) and all(hasattr(MLP, name) for name in found)


def is_log(found: Any) -> bool:
    return all(isinstance(line, dict) for line in found)


def is_weights(found: Any) -> bool:
    return all(array.dtype == np.float32 for array in jax.tree.leaves(found))


def is_model(found: Any) -> bool:
    return isinstance(found, Trained) and len(found.names) == found.classes


def _lines(log: bytes) -> bytes:
    whole = json.loads(log)
    return b"".join(
        json.dumps(line).encode() + b"\n"
        for line in (whole if isinstance(whole, list) else [whole])
    )


def _going_on(path: Path) -> Any:
    """What a run that goes on makes of its log."""
    lines = work.earlier_lines(path, 4)
    losses, scores = history(lines)
    norms = Norms(
        Recipe(MODEL, softmax_cross_entropy),
        np.zeros((2, 2, 2, 1), np.float32),
        np.zeros(2, int),
        every=2,
    )
    norms.restore(lines)
    assert losses.dtype == np.float64
    assert all(norms.table(kind).values.ndim == 2 for kind in KINDS if norms.rows)
    assert all(
        found.patience == 2
        for found in work.patience_of(dataclasses.replace(MLP, patience=2), scores)
    )
    path.with_suffix(".copy").write_bytes(path.read_bytes())
    JsonLines(path.with_suffix(".copy"), resume_at=4).close()
    return lines


def _torch(path: Path) -> Any:
    return load_torch(path, SMALL, PARAMS, {"dense": {}}, (2,))


_ARCHIVE: dict[str, Any] = {
    "right": is_dataset,
    "read": lambda path: load(path.parent),
    "name": ARCHIVE,
}
_WEIGHTS: dict[str, Any] = {"name": "w.safetensors", "kind": WeightsError}
_MODELS: dict[str, Any] = {
    "name": "model.safetensors",
    "kind": InputError,
    "right": is_model,
    "read": open_models,
}
READERS = {
    "npz": Reader("a.npz", _npz(zipfile.ZIP_STORED), load, is_dataset, same=True),
    "npz, deflated": Reader("a.npz", _npz(zipfile.ZIP_DEFLATED), load, is_dataset, same=True),
    "npz, by lzma": Reader("a.npz", _npz(zipfile.ZIP_LZMA), load, is_dataset, same=True),
    "npz, an array in it": Reader("a.npz", _npy(IMAGES), load, is_dataset, wrap=lambda a: _npz(zipfile.ZIP_DEFLATED, a)),
    "idx": Reader("a", encode(IMAGES), read_idx, is_bytes),
    "idx, gzipped": Reader("a", gzip.compress(encode(IMAGES)), read_idx, is_bytes, same=True),
    "idx, in gzip": Reader("a", encode(IMAGES), read_idx, is_bytes, wrap=gzip.compress),
    "four idx files": Reader(NAMES["train labels"], IDX[NAMES["train labels"]], lambda path: load_idx_folder(path.parent), is_dataset, beside=IDX),
    "cifar": Reader(TRAIN[1], _records(3), lambda path: load(path.parent), is_dataset, beside=dict.fromkeys((*TRAIN, *TEST), _records(2))),
    "cifar, in an archive": Reader(content=gzip.compress(_tar()), same=True, **_ARCHIVE),
    "cifar, an archive in gzip": Reader(content=_tar(), wrap=lambda content: gzip.compress(content, 1), **_ARCHIVE),
    "a folder of images": Reader("train/cat/1.png", CLASSES["train/cat/1.png"], lambda path: load_image_folder(path.parents[2]), is_dataset, beside=CLASSES),
    "png": Reader("a.png", _image("PNG"), read_image, is_bytes, wrap=_summed),
    "png with a palette": Reader("a.png", _palette("PNG"), read_image, is_bytes, wrap=_summed),
    "jpeg": Reader("a.jpg", _photograph(), read_image, is_bytes),
    "bmp": Reader("a.bmp", _image("BMP"), read_image, is_bytes),
    "gif": Reader("a.gif", _palette("GIF"), read_image, is_bytes),
    "webp": Reader("a.webp", _image("WEBP"), read_image, is_bytes),
    "tiff": Reader("a.tiff", _image("TIFF"), read_image, is_bytes),
    "tiff, packed": Reader("a.tiff", _image("TIFF", compression="tiff_lzw"), read_image, is_bytes),
    "ppm": Reader("a.ppm", _image("PPM"), read_image, is_bytes),
    "pgm": Reader("a.pgm", b"P2 3 2 255\n1 2 3\n4 5 6\n", read_image, is_bytes),
    "weights": Reader(content=pack(names_of(PARAMS, {}), {"note": "x"}), read=lambda path: load_safetensors(path, PARAMS, {}), right=is_weights, same=True, **_WEIGHTS),
    "what weights are of": Reader(content=pack(names_of(PARAMS, {}), {"note": "x"}), read=read_about, right=lambda told: told == {"note": "x"}, same=True, **_WEIGHTS),
    "weights of PyTorch": Reader(content=safetensors.numpy.save(THEIRS), read=_torch, right=is_weights, **_WEIGHTS),
    "a header of PyTorch": Reader(content=safetensors.numpy.save(THEIRS)[8:-36], wrap=_header, read=_torch, right=is_weights, **_WEIGHTS),
    "a model": Reader(content=_model(TOLD), **_MODELS),
    "what a model says": Reader(content=TOLD, wrap=_model, **_MODELS),
    "a value of what a model says": Reader(content=TOLD, wrap=_model, json=True, **_MODELS),
    "settings in JSON": Reader("a.json", MLP.text().encode(), settings_of, is_settings, InputError),
    "a value of settings": Reader("a.json", MLP.text().encode(), settings_of, is_settings, InputError, json=True),
    "settings in YAML": Reader("a.yaml", YAML, settings_of, is_settings, InputError),
    "settings of a run": Reader("config.json", MLP.text().encode(), lambda path: kept_settings(path.parent), is_settings, InputError),
    "a log": Reader("metrics.jsonl", _lines(LOG), read_lines, is_log, OutsideError),
    "the log of a run that goes on": Reader("metrics.jsonl", _lines(LOG), _going_on, is_log, InputError),
    "a value of the log of a run that goes on": Reader("metrics.jsonl", LOG, _going_on, is_log, InputError, wrap=_lines, json=True),
    "a list with its sum": Reader("a.json", _sealed(b'{"names": ["a", "b"], "more": {"n": 1}}', "a list"), lambda path: read_sealed(path, "a list"), lambda found: isinstance(found, dict), OutsideError, same=True),
    "what a run wrote": Reader(MANIFEST, b'{"written": ["config.json", "checkpoints", "tensorboard/events"]}', lambda path: RunFolder(path.parent).there(), lambda found: isinstance(found, list), InputError, wrap=_sealed, json=True),
}  # fmt: skip
