"""The peers on PyTorch: contiguous, channels last, and compiled by inductor."""

import time
from collections import OrderedDict
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.bench import networks
from experiments.bench.cases import BY_NAME, OpCase
from experiments.bench.data import GRADIENT, Arrays, op_inputs, params_of
from experiments.bench.peers import OP_KINDS, Order, Task

THEIRS = {"kernel": "weight", "scale": "weight", "bias": "bias", "shift": "bias"}
CHANNELS_LAST, COMPILED = "torch.channels_last", "torch.compile"


def prepare(order: Order, arrays: Arrays, peer: str) -> Task:
    """See the package."""
    layout = torch.channels_last if peer == CHANNELS_LAST else torch.contiguous_format
    if order.kind in OP_KINDS:
        return _op(order, BY_NAME[order.of], arrays, layout)
    return _step(networks.NETWORKS[order.of], arrays, layout, compiled=peer == COMPILED)


class SameConv(nn.Conv2d):
    """Padding SAME where the stride is 2: one more behind than in front, which Conv2d cannot, so it
    is laid on before."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(input, (0, 1, 0, 1)))


class MeanOverSpace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Residual(nn.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.shortcut(x)


def _stack(
    plan: networks.Plan, inputs: dict[str, networks.Shape], prefix: str = ""
) -> nn.Sequential:
    named = {
        getattr(layer, "name", str(number)): _module(layer, inputs, prefix)
        for number, layer in enumerate(plan)
    }
    return nn.Sequential(OrderedDict(named))


def _module(layer: networks.Layer, inputs: dict[str, networks.Shape], prefix: str) -> nn.Module:
    match layer:
        case networks.Conv(name, features, window, stride, bias):
            shifted = stride > 1 and window > 1
            padding = 0 if shifted else window // 2
            kind = SameConv if shifted else nn.Conv2d
            return kind(inputs[prefix + name][-1], features, window, stride, padding, bias=bias)
        case networks.Norm(name):
            return nn.BatchNorm2d(
                inputs[prefix + name][-1], eps=networks.EPS, momentum=1 - networks.KEEP
            )
        case networks.Dense(name, features):
            return nn.Linear(inputs[prefix + name][-1], features)
        case networks.Block(name, body, shortcut):
            inside = f"{prefix}{name}/"
            return Residual(
                _stack(body, inputs, f"{inside}body/"),
                _stack(shortcut, inputs, f"{inside}shortcut/"),
            )
        case networks.Pool():
            return nn.MaxPool2d(2)
        case networks.Relu():
            return nn.ReLU(inplace=True)  # as torchvision has it
        case networks.Flatten():
            return nn.Flatten()
        case networks.Mean():
            return MeanOverSpace()


class _Layout:
    """Between the canonical layout and PyTorch's, which flattens channel, height, width."""

    def __init__(self, network: networks.Network) -> None:
        self._unflattened = {place.path: place.unflattened for place in networks.places(network)}

    def to_torch(self, path: str, array: np.ndarray) -> torch.Tensor:
        if array.ndim == 4:
            return torch.from_numpy(array.transpose(3, 2, 0, 1).copy())
        space = self._unflattened[path.rpartition("/")[0]]
        if array.ndim == 2 and space:
            array = array.reshape(*space, -1).transpose(2, 0, 1, 3).reshape(array.shape)
        return torch.from_numpy(array.T.copy())

    def to_canonical(self, path: str, tensor: torch.Tensor) -> np.ndarray:
        array = tensor.detach().contiguous().numpy()
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        space, array = self._unflattened[path.rpartition("/")[0]], array.T
        if array.ndim == 2 and space:
            return (
                array.reshape(space[2], *space[:2], -1).transpose(1, 2, 0, 3).reshape(array.shape)
            )
        return array


def build(
    network: networks.Network, arrays: Arrays
) -> tuple[nn.Sequential, dict[str, nn.Parameter]]:
    """With the parameters that were drawn, also by canonical name."""
    model = _stack(network.plan, {place.path: place.input for place in networks.places(network)})
    layout, by_name = _Layout(network), dict(model.named_parameters())
    found = {}
    for path, array in params_of(arrays).items():
        *folders, name = path.split("/")
        found[path] = by_name[".".join([*folders, THEIRS[name]])]
        with torch.no_grad():
            found[path].copy_(layout.to_torch(path, array))
    return model, found


def _step(
    network: networks.Network, arrays: Arrays, layout: torch.memory_format, *, compiled: bool
) -> Task:
    model, parameters = build(network, arrays)
    model = model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    images = (
        torch.from_numpy(arrays["images"][0]).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    )
    labels = torch.from_numpy(arrays["labels"][0]).long()
    optimizer = torch.optim.SGD(
        model.parameters(), networks.LEARNING_RATE, momentum=networks.MOMENTUM
    )

    def mean_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(images), labels)

    differentiable = torch.compile(mean_loss) if compiled else mean_loss

    def call() -> np.ndarray:
        optimizer.zero_grad()
        loss = differentiable(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()

    start = time.perf_counter()
    outputs: Arrays = {"loss": call()}
    facts = {"compile_seconds": time.perf_counter() - start} if compiled else {}
    canonical = _Layout(network).to_canonical
    for path, parameter in parameters.items():  # after one step, momentum is the gradient
        outputs[GRADIENT + path] = canonical(path, optimizer.state[parameter]["momentum_buffer"])
    return Task(call, outputs, facts)


def _op(order: Order, case: OpCase, arrays: Arrays, layout: torch.memory_format) -> Task:
    inputs = [
        _op_tensor(array, layout, kernel=number > 0)
        for number, array in enumerate(op_inputs(arrays))
    ]
    settings: dict[str, Any] = dict(case.settings)
    x, *weights = inputs

    def forward() -> torch.Tensor:
        match case.op:
            case "conv":
                return functional.conv2d(x, weights[0], **settings)
            case "max_pool":
                return functional.max_pool2d(
                    x, settings["window"], settings["stride"], settings["padding"]
                )
            case "batch_norm":
                return functional.batch_norm(
                    x, None, None, *weights, training=True, eps=networks.EPS
                )
            case "matmul":
                return torch.matmul(x, weights[0])

    if order.kind == "forward":
        with torch.no_grad():
            outputs = {"y": _op_array(forward())}
        return Task(torch.no_grad()(lambda: (forward(), None)[1]), outputs, {})
    dy = _op_tensor(arrays["dy"], layout, kernel=False)
    for tensor in inputs:
        tensor.requires_grad_()

    def both() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        y = forward()
        return y, torch.autograd.grad(y, inputs, dy)

    y, cotangents = both()
    outputs = {"y": _op_array(y)}
    for number, cotangent in enumerate(cotangents):
        outputs[f"{GRADIENT}{number}"] = _op_array(cotangent, kernel=number > 0)
    return Task(lambda: (both(), None)[1], outputs, {})


def _op_tensor(array: np.ndarray, layout: torch.memory_format, *, kernel: bool) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if tensor.ndim < 4:
        return tensor
    return tensor.permute((3, 2, 0, 1) if kernel else (0, 3, 1, 2)).contiguous(memory_format=layout)


def _op_array(tensor: torch.Tensor, *, kernel: bool = False) -> np.ndarray:
    array = tensor.detach().contiguous().numpy()
    if array.ndim < 4:
        return array
    return array.transpose((2, 3, 1, 0) if kernel else (0, 2, 3, 1))
