"""Weights from and to PyTorch, against its definitions written out, and against PyTorch itself."""

import inspect
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxcnn import layers, models
from jaxcnn.layers import Layer
from jaxcnn.weights import WeightsError, from_torch, load_torch, to_torch

RNG = np.random.default_rng(0)
SHAPE = (4, 4, 3)
MODEL = layers.serial(
    conv=layers.conv(4),
    norm=layers.batch_norm(),
    block=layers.residual(layers.serial(conv=layers.conv(4, bias=False)), layers.conv(4, window=1)),
    flatten=layers.flatten(),
    dense=layers.dense(2),
)
ORDER = ["conv", "norm", "block.body.conv", "block.shortcut", "dense"]


def drawn(model: Layer, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Weights that are nowhere 0 or 1, and variances that are positive."""
    made = jax.eval_shape(lambda key: model.init(key, shape), jax.random.key(0))
    return jax.tree.map(lambda a: jnp.asarray(RNG.uniform(0.5, 1.5, a.shape) * 0.1, a.dtype), made)


def bits(tree: Any) -> list[tuple[str, bytes]]:
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def output(model: Layer, params: Any, state: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(
        jax.jit(lambda *given: model.forward(*given)[0][0])(params, state, jnp.asarray(x))
    )


def torch_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """y[n,o,p] = b[o] + Σ x[n,i,p+k] w[o,i,k] in two groups, as PyTorch's documentation has it."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], (2, 3))
    halves = [
        np.einsum("nihwkl,oikl->nohw", windows[:, 2 * g : 2 * g + 2], weight[3 * g : 3 * g + 3])
        for g in (0, 1)
    ]
    return np.concatenate(halves, 1) + bias[:, None, None]


def torch_conv_transpose(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Each x[n,i,p] lays w[i,o,k] at 2p + k."""
    (n, _, h, w), (_, o, k, m) = x.shape, weight.shape
    y = np.zeros((n, o, 2 * (h - 1) + k, 2 * (w - 1) + m))
    for p, q in np.ndindex(h, w):
        y[:, :, 2 * p : 2 * p + k, 2 * q : 2 * q + m] += np.einsum(
            "ni,iokl->nokl", x[:, :, p, q], weight
        )
    return y + bias[:, None, None]


def torch_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1) @ weight.T + bias


def torch_batch_norm(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
) -> np.ndarray:
    at = (..., *(None,) * (x.ndim - 2))
    return (x - running_mean[at]) / np.sqrt(running_var[at] + 1e-5) * weight[at] + bias[at]


def torch_norms_of_flat_features(x: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
    flat = torch_batch_norm(x.reshape(len(x), -1), *arrays[:4])
    centred = flat - flat.mean(1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * arrays[4] + arrays[5]
    return torch_linear(normed, *arrays[6:])


FLAT = layers.serial(
    flatten=layers.flatten(),
    norm=layers.batch_norm(),
    drop=layers.dropout(0.5),
    last=layers.layer_norm(),
    dense=layers.dense(5),
)


@pytest.mark.parametrize(
    ("model", "theirs", "shapes"),
    [
        (layers.conv(6, window=(2, 3), padding="VALID", groups=2), torch_conv, [(6, 2, 2, 3), (6,)]),
        (layers.conv(6, window=(2, 3), padding="VALID", groups=2, flip=True), torch_conv, [(6, 2, 2, 3), (6,)]),
        (layers.conv_transpose(5, window=(2, 3), padding="VALID", stride=2), torch_conv_transpose, [(4, 5, 2, 3), (5,)]),
        (layers.serial(flatten=layers.flatten(), dense=layers.dense(5)), torch_linear, [(5, 48), (5,)]),
        (layers.batch_norm(), torch_batch_norm, [(4,)] * 4),
        (FLAT, torch_norms_of_flat_features, [*[(48,)] * 6, (5, 48), (5,)]),
    ],
    ids=["conv", "conv, flip", "conv_transpose", "flatten, dense", "batch_norm", "flatten, norms, dense"],
)  # fmt: skip
def test_a_converted_layer_computes_what_pytorchs_definition_says(
    model: Layer, theirs: Callable[..., np.ndarray], shapes: list[tuple[int, ...]], x64: None
) -> None:
    params, state = drawn(model, (3, 4, 4))
    written = to_torch(model, params, state, (3, 4, 4))
    assert [array.shape for array in written.values()] == shapes
    weights = {name: RNG.uniform(0.5, 1.5, array.shape) for name, array in written.items()}
    converted = from_torch(weights, model, params, state, (3, 4, 4))
    x = RNG.normal(size=(2, 3, 4, 4))
    wanted = theirs(x.transpose(0, 3, 1, 2), *weights.values())
    got = output(model, *converted, x)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), wanted, rtol=1e-10)
    again = to_torch(model, *converted, (3, 4, 4))
    assert bits(list(again.values())) == bits(list(weights.values()))
    assert list(again) == list(weights)


def small() -> tuple[dict[str, np.ndarray], Any, Any]:
    params, state = drawn(MODEL, SHAPE)
    return to_torch(MODEL, params, state, SHAPE), params, state


def test_layers_are_paired_in_order_whatever_their_names_and_counts_of_batches_are_ignored() -> (
    None
):
    weights, params, state = small()
    assert [
        name for name, _ in itertools.groupby(weights, lambda name: name.rpartition(".")[0])
    ] == ORDER
    numbers = {name: f"net.{number}" for number, name in enumerate(ORDER)}
    renamed = to_torch(MODEL, params, state, SHAPE, names=numbers)
    assert list(renamed)[:2] == ["net.0.weight", "net.0.bias"]
    renamed["net.1.num_batches_tracked"] = np.array(7)
    nothing = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, state)
    found = from_torch(renamed, MODEL, *nothing, SHAPE)
    assert bits(found) == bits((params, state))


def test_names_pair_what_the_order_does_not() -> None:
    _, params, state = small()
    names = {"dense": "head", "block.body.conv": "middle"}
    renamed = to_torch(MODEL, params, state, SHAPE, names=names)
    assert {"head.weight", "middle.weight", "conv.weight"} <= renamed.keys()
    backwards = {name: renamed[name] for name in sorted(renamed, key=lambda name: name[:2] != "he")}
    assert next(iter(backwards)) == "head.weight"
    assert bits(from_torch(backwards, MODEL, params, state, SHAPE, names=names)) == bits(
        (params, state)
    )
    with pytest.raises(WeightsError, match="module `head` has weight"):
        from_torch(backwards, MODEL, params, state, SHAPE)


def test_the_new_weights_have_the_dtypes_of_the_old_and_memory_of_their_own() -> None:
    model = layers.dense(2)
    params, state = model.init(jax.random.key(0), (3,))
    theirs = {"weight": np.ones((2, 3)), "bias": np.ones(2, np.float32)}
    found, _ = from_torch(theirs, model, params, state, (3,))
    theirs["bias"][:] = 5
    assert found["bias"].tolist() == [1, 1]
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(found)} == {"float32"}
    to_torch(model, found, state, (3,))["bias"][:] = 5
    assert found["bias"].tolist() == [1, 1]


def changed(**others: Any) -> dict[str, Any]:
    """The right weights, but for some that are others (``conv__weight``), or taken out."""
    weights: dict[str, Any] = small()[0]
    weights |= {name.replace("__", "."): value for name, value in others.items()}
    return {name: value for name, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    ("weights", "names", "words"),
    [
        (lambda: changed(extra__weight=np.ones(3)), {}, r"module `extra` has weight \[3\], but the model has no layer left \(6 modules, 5 layers"),
        (lambda: changed(dense__weight=None, dense__bias=None), {}, r"no module left, but layer `dense` needs weight \[2, 64\], bias \[2\]"),
        (lambda: changed(conv__weight=np.ones((4, 3, 5, 5))), {}, r"module `conv` has weight \[4, 3, 5, 5\], bias \[4\], but layer `conv` needs weight \[4, 3, 3, 3\]"),
        (lambda: changed(conv__bias=None), {}, r"module `conv` has weight \[4, 3, 3, 3\], but layer `conv` needs weight \[4, 3, 3, 3\], bias \[4\]"),
        (lambda: changed(norm__running_var=None), {}, "but layer `norm` needs weight .*, running_var"),
        (changed, {"cnov": "conv"}, "`names` has `cnov`, which is no layer with weights; there are conv, norm,"),
        (changed, {"conv": "features"}, "`names` gives layer `conv` the module `features`, which is not there; there are conv"),
        (lambda: {"epoch": 3, "state_dict": {}}, {}, "`state_dict` must map names to floating-point arrays, .*; `epoch` is int"),
        (lambda: {"w": np.ones(3, int)}, {}, "`w` is int64"),
        (lambda: [1], {}, "`state_dict` must map names to arrays, .*; got list"),
        (dict, {}, "no module left, but layer `conv` needs"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_both_sides(
    weights: Callable[[], Any], names: Any, words: str
) -> None:
    params, state = drawn(MODEL, SHAPE)
    with pytest.raises(WeightsError, match=words) as caught:
        inspect.unwrap(from_torch)(weights(), MODEL, params, state, SHAPE, names=names)
    assert "\n" not in str(caught.value)


FLATTEN = layers.flatten()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            layers.serial(f=FLATTEN, r=layers.residual(layers.dense(48))),
            "layer `r` adds flattened features to others",
        ),
        (
            layers.serial(f=FLATTEN, g=layers.group_norm(2)),
            "layer `g` norms groups of flattened features",
        ),
        (
            layers.serial(r=layers.repeat(layers.conv(4), 2)),
            "`params.r.bias` is of a layer that has no counterpart",
        ),
    ],
)
def test_layers_that_pytorch_has_not_are_refused(model: Layer, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        to_torch(model, *drawn(model, (3, 4, 4)), (3, 4, 4))
    with pytest.raises(WeightsError, match="gives two layers the module `norm`"):
        to_torch(MODEL, *drawn(MODEL, SHAPE), SHAPE, names={"conv": "norm"})


def test_a_residual_whose_branches_flatten_alike_is_converted() -> None:
    branch = layers.serial(flatten=FLATTEN, norm=layers.batch_norm())
    model = layers.serial(both=layers.residual(branch, FLATTEN), dense=layers.dense(2))
    params, state = drawn(model, SHAPE)
    weights = to_torch(model, params, state, SHAPE)
    order = np.arange(48).reshape(4, 4, 3).transpose(2, 0, 1).ravel()
    np.testing.assert_array_equal(
        weights["dense.weight"], np.asarray(params["dense"]["kernel"]).T[:, order]
    )
    np.testing.assert_array_equal(
        weights["both.body.norm.running_mean"],
        np.asarray(state["both"]["body"]["norm"]["mean"])[order],
    )


def test_a_file_of_pytorchs_is_read_where_the_order_of_its_modules_is_known(tmp_path: Path) -> None:
    model = layers.serial(**{f"dense{k}": layers.dense(3) for k in range(11)})
    params, state = drawn(model, (3,))
    path, like = tmp_path / "x.safetensors", jax.tree.map(jnp.zeros_like, params)
    numbered = to_torch(
        model, params, state, (3,), names={f"dense{k}": f"net.{k}" for k in range(11)}
    )
    safetensors.numpy.save_file(numbered, path)
    # 10 is behind 9, not behind 1
    assert bits(load_torch(path, model, like, state, (3,))) == bits((params, state))
    worded = to_torch(model, params, state, (3,), names={"dense0": "stem", "dense1": "body"})
    safetensors.numpy.save_file(worded, path, {"order": " ".join(worded)})
    assert bits(load_torch(path, model, like, state, (3,))) == bits((params, state))
    names = {"dense0": "stem", **{f"dense{k}": f"net.{k}" for k in range(1, 11)}}
    safetensors.numpy.save_file(to_torch(model, params, state, (3,), names=names), path)
    assert bits(load_torch(path, model, like, state, (3,), names={"dense0": "stem"})) == bits(
        (params, state)
    )
    with pytest.raises(
        WeightsError,
        match=(
            r"x.safetensors: the file does not keep the order of the modules net, stem; give names="
        ),
    ):
        load_torch(path, model, like, state, (3,))


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, when it is imported
        return pytest.importorskip("torch")


def lenet(nn: Any, height: int, width: int) -> Any:
    convs = [
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    return nn.Sequential(
        nn.Sequential(*convs),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, 10),
    )


def vgg6(nn: Any, height: int, width: int) -> Any:
    widths = (3, 32, 32, 64, 64, 128, 128)
    parts = []
    for number, (i, o) in enumerate(itertools.pairwise(widths)):
        parts += [
            nn.Conv2d(i, o, 3, padding=1),
            nn.ReLU(),
            *([nn.MaxPool2d(2)] if number % 2 else []),
        ]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(128 * (height // 8) * (width // 8), 10))


def resnet20(nn: Any, height: int, width: int) -> Any:
    class Block(nn.Module):
        """As torchvision's, but for where the padding of a stride lies."""

        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Sequential(
                nn.ZeroPad2d((0, 1, 0, 1) if stride > 1 else 1),
                nn.Conv2d(i, o, 3, stride, bias=False),
            )
            self.bn1, self.relu = nn.BatchNorm2d(o), nn.ReLU()
            self.conv2, self.bn2 = nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)
            self.downsample = (
                nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
                if i != o
                else nn.Identity()
            )

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(y + self.downsample(x))

    blocks = [
        Block(i, o, 2 if i != o else 1)
        for i, o in itertools.pairwise([16, 16, 16, 16, 32, 32, 32, 64, 64, 64])
    ]
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(
    ("build", "shape"), [(lenet, (8, 12, 1)), (vgg6, (8, 16, 3)), (resnet20, (8, 8, 3))]
)
def test_a_network_of_pytorchs_gives_its_outputs_here_and_takes_its_weights_back(
    build: Callable[..., Any], shape: tuple[int, ...], torch: Any, x64: None
) -> None:
    net = build(torch.nn, *shape[:2]).double().eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.ndim == 1:  # biases, and all of batch norm's
                tensor.copy_(
                    torch.from_numpy(
                        RNG.uniform(0.5, 1.5, tensor.shape) * (-1) ** (name[-4:] == "mean")
                    )
                )
    model = models.MODELS[build.__name__]()
    params, state = from_torch(net.state_dict(), model, *drawn(model, shape), shape)
    x = RNG.normal(size=(3, *shape))
    with torch.no_grad():
        wanted = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(output(model, params, state, x), wanted, rtol=1e-9, atol=1e-9)

    keys = [key for key in net.state_dict() if not key.endswith("num_batches_tracked")]
    back = {
        key: torch.from_numpy(array)
        for key, array in zip(keys, to_torch(model, params, state, shape).values(), strict=True)
    }
    assert all(torch.equal(back[key], net.state_dict()[key]) for key in keys)
    net.load_state_dict(back)


def test_a_file_that_pytorch_wrote_and_tensors_that_numpy_has_not(
    torch: Any, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
    ).bfloat16()
    model = models.mlp((8, 2))
    params, state = drawn(model, SHAPE)
    save_file(net.state_dict(), tmp_path / "x", metadata={"format": "pt"})
    of_file = load_torch(tmp_path / "x", model, params, state, SHAPE)
    assert bits(of_file) == bits(
        from_torch(dict(net.named_parameters()), model, params, state, SHAPE)
    )
    assert of_file[0]["dense2"]["bias"].tolist() == net[3].bias.tolist()
    torch.save(net.state_dict(), tmp_path / "x")
    with pytest.raises(WeightsError, match="pickles are never read"):
        load_torch(tmp_path / "x", model, params, state, SHAPE)
