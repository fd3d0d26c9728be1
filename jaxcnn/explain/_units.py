"""What a unit responds to: which cells it reads, which pieces of real images excite it most, and an
image made to excite it.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import models
>>> model = models.lenet()
>>> params, state = model.init(jax.random.key(0), (28, 28, 1))
>>> # 3×3 over cells of 2×2, each of which reads 5×5
>>> seen_by(model, params, state, (28, 28, 1), "conv2", (5, 5))
(slice(6, 16, None), slice(6, 16, None))
>>> start = jnp.zeros((1, 28, 28, 1))
>>> maximise(model, params, state, start, "conv1", 3, steps=5).shape
(1, 28, 28, 1)
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn._core.errors import setting_error
from jaxcnn._core.op import Op
from jaxcnn._core.window import resolve
from jaxcnn._gradient import activations
from jaxcnn.layers import Layer, Serial
from jaxcnn.layers._chain import Chain
from jaxcnn.layers._stateful import BatchNorm, Dropout

CELL_BY_CELL = {
    "bias",
    "frozen_norm",
    "relu",
    "leaky_relu",
    "elu",
    "step",
    "sigmoid",
    "tanh",
    "softplus",
    "silu",
    "gelu",
}
# Of the ops with a window
DEFAULTS = {
    "conv": {"stride": 1, "padding": "SAME", "dilation": 1},
    "max_pool": {"stride": None, "padding": "VALID", "dilation": 1},
    "avg_pool": {"stride": None, "padding": "VALID", "dilation": 1},
}


def until(model: Serial, layer: str) -> Serial:
    """The model up to and with ``layer``. Raises ValueError if there is no such layer."""
    if layer not in model.layers:
        raise ValueError(
            f"until: the model has no layer `{layer}`; it has {', '.join(model.layers)}"
        )
    names = list(model.layers)
    return Serial({name: model.layers[name] for name in names[: names.index(layer) + 1]})


def seen_by(
    model: Serial,
    params: Any,
    state: Any,
    input_shape: tuple[int, ...],
    layer: str,
    place: tuple[int, ...],
) -> tuple[slice, ...]:
    """The cells of the input that the units of ``layer`` at ``place`` read, a slice for each
    spatial axis, cut off at the border.

    Follows convolutions, pools and what works on each cell alone, in a serial model. Raises
    ValueError for a ``place`` that is none of the layer's, and for a layer that it cannot follow,
    by name."""
    part = until(model, layer)
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    shapes = jax.eval_shape(lambda x: activations(part, params, state, x), x)
    before = [x.shape[1:-1], *(shapes[name].shape[1:-1] for name in part.layers)]
    if len(place) != len(before[-1]) or not all(
        0 <= p < size for p, size in zip(place, before[-1], strict=True)
    ):
        raise ValueError(
            f"seen_by: `place` must be one of the {'×'.join(map(str, before[-1]))} places of layer"
            f" `{layer}`, got {place}"
        )
    seen = [(p, p) for p in place]
    for (name, inside), cells in reversed([*zip(part.layers.items(), before[:-1], strict=True)]):
        for op in reversed(_ops(name, inside)):
            if op.name in CELL_BY_CELL:
                continue
            settings: dict[str, Any] = {**DEFAULTS[op.name], **op.fixed}
            if op.name == "conv":
                settings["window"] = params[name]["kernel"].shape[:-2]
            settings["stride"] = settings["stride"] or settings["window"]
            over = resolve(
                "seen_by",
                cells,
                **{k: settings[k] for k in ("window", "stride", "padding", "dilation")},
            )
            seen = [
                (a * s - lo, b * s - lo + e - 1)
                for (a, b), s, (lo, _), e in zip(
                    seen, over.stride, over.padding, over.extent, strict=True
                )
            ]
    return tuple(
        slice(max(a, 0), min(b + 1, size)) for (a, b), size in zip(seen, before[0], strict=True)
    )


def _ops(name: str, layer: Layer) -> list[Op]:
    """In evaluation, where dropout and batch norm look at each cell alone."""
    if isinstance(layer, Dropout | BatchNorm):
        return []
    if not isinstance(layer, Chain):
        raise ValueError(f"seen_by: cannot follow layer `{name}`, which is no chain of ops")
    for link in layer.links:
        if link.op.name not in {*DEFAULTS, *CELL_BY_CELL}:
            raise ValueError(
                f"seen_by: cannot follow layer `{name}`: {link.op.name} is no window over the cells"
            )
    return [link.op for link in layer.links]


def top_patches(
    model: Serial,
    params: Any,
    state: Any,
    images: jax.Array,
    layer: str,
    channel: int,
    *,
    count: int = 9,
    batch: int = 500,
) -> list[tuple[int, tuple[slice, ...], float]]:
    """The ``count`` images whose strongest unit of ``channel`` in ``layer`` is strongest: which
    image, the cells that this unit reads, and its value; strongest first.

    Raises ValueError for a ``channel`` that the layer does not have, a layer without spatial axes,
    or one that :func:`seen_by` cannot follow."""
    part = until(model, layer)
    spatial = part.output_shape(params, state, images.shape[1:])[:-1]
    if not spatial:
        raise ValueError(
            f"top_patches: layer `{layer}` has no spatial axes; give one before `flatten`"
        )
    _check_channel("top_patches", part, params, state, images.shape[1:], channel)

    @jax.jit
    def strongest(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        (y, _), _ = part.forward(params, state, images)
        flat = y[..., channel].reshape(len(y), -1)
        return flat.max(1), flat.argmax(1)

    parts = [strongest(images[start : start + batch]) for start in range(0, len(images), batch)]
    values, places = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    found = []
    for index in np.argsort(-values, kind="stable")[:count]:
        place = tuple(int(p) for p in np.unravel_index(places[index], spatial))
        found.append(
            (
                int(index),
                seen_by(model, params, state, images.shape[1:], layer, place),
                float(values[index]),
            )
        )
    return found


def maximise(
    model: Serial,
    params: Any,
    state: Any,
    start: jax.Array,
    layer: str,
    channel: int,
    *,
    steps: int = 100,
    rate: float = 0.1,
    decay: float = 0.01,
) -> jax.Array:
    """``start`` (n, *space, c) after ``steps`` steps up the gradient of the channel's mean over
    ``layer``, each of length ``rate`` · √(elements), and less ``decay`` of itself.

    The gradient comes from the hand-written backward of the model up to the layer. Raises
    ValueError for a ``channel`` that the layer does not have."""
    part = until(model, layer)
    _check_channel("maximise", part, params, state, start.shape[1:], channel)

    def step(x: jax.Array, unused: None) -> tuple[jax.Array, None]:
        (y, *_), residuals = part.forward(params, state, x)
        dy = jnp.zeros_like(y).at[..., channel].set(1)
        dx = part.backward(residuals, dy)[1]
        axes = tuple(range(1, x.ndim))
        length = jnp.sqrt(jnp.square(dx).mean(axes, keepdims=True)) + 1e-12
        return (1 - decay) * (x + rate * dx / length), None

    return lax.scan(step, start, length=steps)[0]


def _check_channel(
    function: str, part: Serial, params: Any, state: Any, shape: tuple[int, ...], channel: Any
) -> None:
    """One that is traced cannot be looked at."""
    channels = part.output_shape(params, state, shape)[-1]
    if isinstance(channel, int | np.integer) and not 0 <= channel < channels:
        raise setting_error(function, "channel", f"an integer in [0, {channels})", channel)
