"""Models, made of layers. Each takes images (height, width, channels) of any size that its pools
allow, unless it says otherwise.

A pool stands before its ReLU: the largest of the rectified is the largest, rectified, so value and
gradient are the same, for a quarter of the ReLU's work and memory.

>>> import jax
>>> params, state = lenet().init(jax.random.key(0), (28, 28, 1))
>>> sum(leaf.size for leaf in jax.tree.leaves(params))
1630602
"""

import functools
import math
from collections.abc import Callable, Sequence

from jaxcnn import layers
from jaxcnn._core.op import Op
from jaxcnn.layers import Layer, Serial


def lenet(classes: int = 10, *, dropout: float = 0.5) -> Serial:
    """LeNet's plan (LeCun et al. 1998), widened: 5×5 convolution, pool, 3×3 convolution, pool,
    hidden layer of 512, dropout, scores."""
    return layers.serial(
        conv1=layers.conv(32, kernel_size=5),
        pool1=layers.max_pool(2),
        relu1=layers.relu(),
        conv2=layers.conv(64, kernel_size=3),
        pool2=layers.max_pool(2),
        relu2=layers.relu(),
        flatten=layers.flatten(),
        dense1=layers.dense(512),
        relu3=layers.relu(),
        dropout=layers.dropout(dropout),
        dense2=layers.dense(classes),
    )


def mlp(widths: Sequence[int], activation: str | Op = "relu") -> Serial:
    """Dense layers of the given output widths (the last gives the scores), an activation between
    each two; any input is flattened."""
    if not widths:
        raise ValueError("mlp: `widths` needs at least the number of outputs, e.g. (128, 10)")
    name = activation if isinstance(activation, str) else activation.name
    parts: dict[str, Layer] = {"flatten": layers.flatten()}
    for number, width in enumerate(widths, start=1):
        parts[f"dense{number}"] = layers.dense(width)
        if number < len(widths):
            parts[f"{name}{number}"] = layers.activation(activation)
    return layers.serial(**parts)


def vgg6(classes: int = 10) -> Serial:
    """Six 3×3 convolutions in three pairs (32, 64, 128 channels), a pool after each pair,
    scores."""
    parts: dict[str, Layer] = {}
    for number, width in enumerate((32, 32, 64, 64, 128, 128), start=1):
        parts[f"conv{number}"] = layers.conv(width)
        if number % 2 == 0:
            parts[f"pool{number // 2}"] = layers.max_pool(2)
        parts[f"relu{number}"] = layers.relu()
    return layers.serial(**parts, flatten=layers.flatten(), dense=layers.dense(classes))


def resnet20(classes: int = 10, *, across_devices: bool = True) -> Serial:
    """He et al. 2015 for small images: 19 convolutions in three stages of three blocks (16, 32, 64
    channels), batch norm (see :func:`jaxcnn.layers.batch_norm`), scores."""
    norm = functools.partial(layers.batch_norm, across_devices=across_devices)
    parts: dict[str, Layer] = {
        "conv": _plain_conv(16, 1, 3),
        "norm": norm(),
        "relu": layers.relu(),
    }
    before = 16
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(1, 4):
            stride = 2 if stage > 1 and block == 1 else 1
            plan = ((width, 3, stride), (width, 3, 1))
            parts[f"block{stage}_{block}"] = _block(
                plan, norm, project=stride > 1 or before != width
            )
            parts[f"relu{stage}_{block}"] = layers.relu()
            before = width
    return layers.serial(**parts, pool=layers.global_avg_pool(), dense=layers.dense(classes))


def resnet50(classes: int = 1000, *, across_devices: bool = True) -> Serial:
    """He et al. 2015 for images of about 224×224: 53 convolutions, in bottleneck blocks of 1×1,
    3×3, 1×1 (stride in the 3×3), batch norm, scores."""
    norm = functools.partial(layers.batch_norm, across_devices=across_devices)
    parts: dict[str, Layer] = {
        "conv": _plain_conv(64, 2, 7),
        "norm": norm(),
        "relu": layers.relu(),
        "pool": layers.max_pool(3, stride=2, padding="SAME"),
    }
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            plan = ((width, 1, 1), (width, 3, stride), (4 * width, 1, 1))
            parts[f"block{stage}_{block}"] = _block(plan, norm, project=block == 1)
            parts[f"relu{stage}_{block}"] = layers.relu()
    return layers.serial(**parts, average=layers.global_avg_pool(), dense=layers.dense(classes))


def seesaw_cnn() -> Serial:
    """The network of the worked example S1.7, for inputs of shape (5, 1): one filter of 2, pool,
    two hidden sigmoids, two scores; no biases."""
    return layers.serial(
        conv=layers.conv(1, kernel_size=2, padding="VALID", bias=False),
        relu=layers.relu(),
        pool=layers.max_pool(2),
        flatten=layers.flatten(),
        hidden=layers.dense(2, bias=False),
        sigmoid=layers.activation("sigmoid"),
        scores=layers.dense(2, bias=False),
    )


def _plain_conv(width: int, stride: int, kernel_size: int) -> Layer:
    return layers.conv(width, kernel_size=kernel_size, stride=stride, bias=False)


def _block(
    plan: Sequence[tuple[int, int, int]], norm: Callable[[], Layer], *, project: bool
) -> Layer:
    """A residual block of convolutions (width, kernel_size, stride), each with its norm, ReLUs
    between them; ``project`` for a shortcut that changes the shape."""
    parts: dict[str, Layer] = {}
    for number, (width, kernel_size, stride) in enumerate(plan, start=1):
        parts |= {
            f"conv{number}": _plain_conv(width, stride, kernel_size),
            f"norm{number}": norm(),
        }
        if number < len(plan):
            parts[f"relu{number}"] = layers.relu()
    width, stride = plan[-1][0], math.prod(stride for _, _, stride in plan)
    shortcut = layers.serial(conv=_plain_conv(width, stride, 1), norm=norm()) if project else None
    return layers.residual(layers.serial(**parts), shortcut)


MODELS = {"lenet": lenet, "vgg6": vgg6, "resnet20": resnet20, "resnet50": resnet50}
