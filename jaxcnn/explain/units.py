"""What a unit responds to: which cells it reads, which pieces of real images excite it most, and an image made to excite it.

>>> import jax, jax.numpy as jnp
>>> from jaxcnn import models
>>> model = models.lenet()
>>> params, state = model.init(jax.random.key(0), (28, 28, 1))
>>> seen_by(model, params, state, (28, 28, 1), "conv2", (5, 5))       # 3×3 over cells of 2×2, each of which reads 5×5
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

from jaxcnn.gradient import activations
from jaxcnn.layers import Serial
from jaxcnn.layers.chain import Chain
from jaxcnn.window import resolve


def until(model: Serial, layer: str) -> Serial:
    """The model up to and with ``layer``. Raises ValueError if there is no such layer."""
    if layer not in model.layers:
        raise ValueError(f"until: the model has no layer `{layer}`; it has {', '.join(model.layers)}")
    names = list(model.layers)
    return Serial({name: model.layers[name] for name in names[: names.index(layer) + 1]})


def seen_by(
    model: Serial, params: Any, state: Any, input_shape: tuple[int, ...], layer: str, place: tuple[int, ...]
) -> tuple[slice, ...]:
    """The cells of the input that the units of ``layer`` at ``place`` read, a slice for each spatial axis, cut off at the border.

    Follows convolutions and pools of a serial model; a ValueError names a layer that it cannot follow.
    """
    part = until(model, layer)
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    shapes = jax.eval_shape(lambda x: activations(part, params, state, x), x)
    before = [x.shape[1:-1], *(shapes[name].shape[1:-1] for name in part.layers)]
    seen = [(p, p) for p in place]
    for (name, inside), cells in reversed([*zip(part.layers.items(), before[:-1], strict=True)]):
        if not isinstance(inside, Chain):
            raise ValueError(f"seen_by: cannot follow layer `{name}`, which is no chain of ops")
        for link in reversed(inside.links):
            settings = dict(link.op.fixed)
            if link.op.name == "conv":
                settings = {"window": params[name]["kernel"].shape[:-2], **settings}
            if "window" in settings:
                settings = {
                    "padding": "SAME" if link.op.name == "conv" else "VALID",
                    "dilation": 1,
                    "stride": None,
                    **settings,
                }
                settings["stride"] = settings["stride"] or settings["window"]
                over = resolve(
                    "seen_by", cells, **{k: settings[k] for k in ("window", "stride", "padding", "dilation")}
                )
                seen = [
                    (a * s - lo, b * s - lo + e - 1)
                    for (a, b), s, (lo, _), e in zip(seen, over.stride, over.padding, over.extent, strict=True)
                ]
    return tuple(slice(max(a, 0), min(b + 1, size)) for (a, b), size in zip(seen, before[0], strict=True))


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
    """The ``count`` images whose strongest unit of ``channel`` in ``layer`` is strongest: which image, the cells that this unit reads, and its value; strongest first."""
    part = until(model, layer)

    @jax.jit
    def strongest(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        (y, _), _ = part.forward(params, state, images)
        flat = y[..., channel].reshape(len(y), -1)
        return flat.max(1), flat.argmax(1)

    parts = [strongest(images[start : start + batch]) for start in range(0, len(images), batch)]
    values, places = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    spatial = part.output_shape(params, state, images.shape[1:])[:-1]
    found = []
    for index in np.argsort(-values, kind="stable")[:count]:
        place = tuple(int(p) for p in np.unravel_index(places[index], spatial))
        found.append((int(index), seen_by(model, params, state, images.shape[1:], layer, place), float(values[index])))
    return found


def maximise(
    model: Serial, params: Any, state: Any, start: jax.Array, layer: str, channel: int, *, steps: int = 100, rate: float = 0.1, decay: float = 0.01
) -> jax.Array:  # fmt: skip
    """``start`` (n, *space, c) after ``steps`` steps up the gradient of the channel's mean over ``layer``, each of length ``rate`` · √(elements), and less ``decay`` of itself.

    The gradient comes from the hand-written backward of the model up to the layer.
    """
    part = until(model, layer)

    def step(x: jax.Array, unused: None) -> tuple[jax.Array, None]:
        (y, *_), residuals = part.forward(params, state, x)
        dy = jnp.zeros_like(y).at[..., channel].set(1)
        dx = part.backward(residuals, dy)[1]
        axes = tuple(range(1, x.ndim))
        length = jnp.sqrt(jnp.square(dx).mean(axes, keepdims=True)) + 1e-12
        return (1 - decay) * (x + rate * dx / length), None

    return lax.scan(step, start, length=steps)[0]
