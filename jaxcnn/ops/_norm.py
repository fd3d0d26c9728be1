"""Normalisation: batch norm, layer norm and group norm are one rule over different axes.

    μ = mean x,  v = mean (x − μ)²,  r = (v + ε)^−½,  x̂ = (x − μ) r
                                                  mean over the normalised axes, N numbers
    y = scale ⊙ x̂ + shift                         scale, shift one number a channel
    dshift = Σ dy,   dscale = Σ dy ⊙ x̂            Σ over all axes but the channel
    g  = dy ⊙ scale
    dx = r (g − mean g − x̂ · mean(g ⊙ x̂)) + dμ/N + dv · 2(x − μ)/N

The two means in dx are the gradient through the statistics themselves; dμ and dv are the cotangents
of the statistics that ``batch_norm`` hands out.

| op          | normalised axes                               | output          |
|-------------|-----------------------------------------------|-----------------|
| batch_norm  | all but the last (batch and space)            | (y, mean, var)  |
| layer_norm  | the last (channels)                           | y               |
| group_norm  | space and the channels of a group, by example | y               |
| frozen_norm | none: mean and var are given                  | y               |

Shapes: x (…, c) (group_norm: (n, *space, c)), scale and shift (c). var is the biased one (divided
by N). Kept: x, scale, and μ and r, which are small. Statistics and sums are float32 for 16-bit x;
scale and shift may have another floating dtype than x, whose dtype y has. No kinks (ε > 0). Raise
ValueError for shapes, groups or ε that do not fit, TypeError for integers. Inside ``shard_map``,
``batch_norm(…, across=("data",))`` means over the batch of all devices along these mesh axes;
without it each device means over its own part. ``frozen_norm`` is batch norm at evaluation. Source:
the normalisation of the networks in models.py; Ioffe and Szegedy 2015, Ba et al. 2016, Wu and He
2018.

>>> import jax.numpy as jnp
>>> y, mean, var = batch_norm(jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1), eps=1e-12)
>>> y[:, 0].tolist(), mean.tolist(), var.tolist()
([-1.0, 1.0], [2.0], [1.0])
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxcnn._core.case import Bad, Case, normal, rows, zeros
from jaxcnn._core.contracts import Array, Float
from jaxcnn._core.errors import (
    check_axis_size,
    check_floating,
    check_rank,
    is_integer,
    is_number,
    setting_error,
)
from jaxcnn._core.norms import by_example
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, some
from jaxcnn._core.upcast import upcast

Names = tuple[str, ...]
Channels = Float[Array, " c"]
Moments = tuple[Float[Array, "..."], Float[Array, "..."]]
Residuals = tuple[Float[Array, "*n c"], Channels, Channels, Moments]
Gradients = tuple[Float[Array, "*n c"], Channels, Channels]


def _mean(x: Array, axes: Sequence[int], across: Names = ()) -> Array:
    """The mean over ``axes``, which stay with length 1, and over the devices along the mesh axes
    ``across``."""
    mean = x.mean(axes, keepdims=True)
    return lax.pmean(mean, across) if across else mean


def _moments(x: Array, axes: Sequence[int], across: Names = ()) -> tuple[Array, Array]:
    """μ and v. Two passes: x² − μ² would lose the digits of a small variance."""
    mean = _mean(x, axes, across)
    return mean, _mean(jnp.square(x - mean), axes, across)


def _apply(x: Array, mean: Array, rstd: Array, scale: Array, shift: Array) -> Array:
    return ((upcast(x) - mean) * rstd * _beside(scale, x) + _beside(shift, x)).astype(x.dtype)


def _beside(channels: Array, x: Array) -> Array:
    """One number a channel, in as many axes as ``x``."""
    return lax.broadcast_to_rank(upcast(channels), x.ndim)


def _standardize_gradient(
    g: Array, x_hat: Array, rstd: Array, axes: Sequence[int], across: Names = ()
) -> Array:
    """r (g − mean g − x̂ · mean(g ⊙ x̂))."""
    return rstd * (g - _mean(g, axes, across) - x_hat * _mean(g * x_hat, axes, across))


def _channel_sums(dy: Array, x_hat: Array, scale: Array, shift: Array) -> tuple[Array, Array]:
    """dscale = Σ dy ⊙ x̂ and dshift = Σ dy over all axes but the last."""
    axes = tuple(range(dy.ndim - 1))
    return (dy * x_hat).sum(axes).astype(scale.dtype), dy.sum(axes).astype(shift.dtype)


def batch_norm_forward(
    x: Float[Array, "*n c"],
    scale: Channels,
    shift: Channels,
    *,
    eps: float = 1e-5,
    across: Names = (),
) -> tuple[tuple[Float[Array, "*n c"], Channels, Channels], Residuals]:
    _check("batch_norm", x, eps, scale=scale, shift=shift)
    _check_names("batch_norm", across)
    mean, var = _moments(upcast(x), range(x.ndim - 1), across)
    rstd = lax.rsqrt(var + eps)
    y = _apply(x, mean, rstd, scale, shift)
    return (y, mean.reshape(-1), var.reshape(-1)), (x, scale, shift, (mean, rstd))


def batch_norm_backward(
    residuals: Residuals,
    cotangents: tuple[Float[Array, "*n c"], Channels, Channels],
    /,
    *,
    eps: float = 1e-5,
    across: Names = (),
) -> Gradients:
    x, scale, shift, (mean, rstd) = residuals
    dy, dmean, dvar = cotangents
    axes, count = (
        tuple(range(x.ndim - 1)),
        math.prod(x.shape[:-1]) * (lax.axis_size(across) if across else 1),
    )
    centred, dy = upcast(x) - mean, upcast(dy)
    x_hat = centred * rstd
    # dx = r (g − mean g − x̂ · mean(g ⊙ x̂)) + dμ/N + dv · 2(x − μ)/N
    dx = _standardize_gradient(dy * _beside(scale, x), x_hat, rstd, axes, across)
    dx = dx + _beside(dmean / count, x) + _beside(dvar * 2, x) * centred / count
    # dscale = Σ dy ⊙ x̂,  dshift = Σ dy
    return dx.astype(x.dtype), *_channel_sums(dy, x_hat, scale, shift)


def layer_norm_forward(
    x: Float[Array, "*n c"], scale: Channels, shift: Channels, *, eps: float = 1e-5
) -> tuple[Float[Array, "*n c"], Residuals]:
    _check("layer_norm", x, eps, scale=scale, shift=shift)
    mean, var = _moments(upcast(x), (-1,))
    rstd = lax.rsqrt(var + eps)
    return _apply(x, mean, rstd, scale, shift), (x, scale, shift, (mean, rstd))


def layer_norm_backward(
    residuals: Residuals, dy: Float[Array, "*n c"], /, *, eps: float = 1e-5
) -> Gradients:
    x, scale, shift, (mean, rstd) = residuals
    x_hat, dy = (upcast(x) - mean) * rstd, upcast(dy)
    dx = _standardize_gradient(dy * _beside(scale, x), x_hat, rstd, (-1,))
    return dx.astype(x.dtype), *_channel_sums(dy, x_hat, scale, shift)


def group_norm_forward(
    x: Float[Array, "*n c"], scale: Channels, shift: Channels, *, groups: int, eps: float = 1e-5
) -> tuple[Float[Array, "*n c"], Residuals]:
    _check("group_norm", x, eps, scale=scale, shift=shift)
    check_rank("group_norm", "x", x, "n c", at_least=True)
    if not is_integer(groups) or groups < 1 or x.shape[-1] % groups:
        raise setting_error(
            "group_norm", "groups", f"a divisor of the {x.shape[-1]} channels of `x`", groups
        )
    grouped = _grouped(upcast(x), groups)
    mean, var = _moments(grouped, _group_axes(x))
    rstd = lax.rsqrt(var + eps)
    x_hat = ((grouped - mean) * rstd).reshape(x.shape)
    return (x_hat * _beside(scale, x) + _beside(shift, x)).astype(x.dtype), (
        x,
        scale,
        shift,
        (mean, rstd),
    )


def group_norm_backward(
    residuals: Residuals, dy: Float[Array, "*n c"], /, *, groups: int, eps: float = 1e-5
) -> Gradients:
    x, scale, shift, (mean, rstd) = residuals
    x_hat, dy = (_grouped(upcast(x), groups) - mean) * rstd, upcast(dy)
    dx = _standardize_gradient(
        _grouped(dy * _beside(scale, x), groups), x_hat, rstd, _group_axes(x)
    )
    return dx.reshape(x.shape).astype(x.dtype), *_channel_sums(
        dy, x_hat.reshape(x.shape), scale, shift
    )


def _grouped(x: Array, groups: int) -> Array:
    """(n, *space, c) as (n, *space, groups, c/groups)."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _group_axes(x: Array) -> tuple[int, ...]:
    """Space and the channels of a group, in :func:`_grouped`'s layout."""
    return (*range(1, x.ndim - 1), x.ndim)


def frozen_norm_forward(
    x: Float[Array, "*n c"],
    scale: Channels,
    shift: Channels,
    mean: Channels,
    var: Channels,
    *,
    eps: float = 1e-5,
) -> tuple[
    Float[Array, "*n c"], tuple[Float[Array, "*n c"], Channels, Channels, Channels, Channels]
]:
    _check("frozen_norm", x, eps, scale=scale, shift=shift, mean=mean, var=var)
    y = _apply(x, _beside(mean, x), _beside(lax.rsqrt(upcast(var) + eps), x), scale, shift)
    return y, (x, scale, shift, mean, var)


def frozen_norm_backward(
    residuals: tuple[Float[Array, "*n c"], Channels, Channels, Channels, Channels],
    dy: Float[Array, "*n c"],
    /,
    *,
    eps: float = 1e-5,
) -> tuple[Float[Array, "*n c"], Channels, Channels, Channels, Channels]:
    x, scale, shift, mean, var = residuals
    rstd, dy = lax.rsqrt(upcast(var) + eps), upcast(dy)
    x_hat = (upcast(x) - _beside(mean, x)) * _beside(rstd, x)
    dx = dy * _beside(scale, x) * _beside(rstd, x)
    dscale, dshift = _channel_sums(dy, x_hat, scale, shift)
    # dμ = −Σ dx;  dv = −½ r² scale Σ dy ⊙ x̂
    dmean = -dx.sum(tuple(range(x.ndim - 1))).astype(mean.dtype)
    dvar = (-0.5 * rstd**2 * upcast(scale) * (dy * x_hat).sum(tuple(range(x.ndim - 1)))).astype(
        var.dtype
    )
    return dx.astype(x.dtype), dscale, dshift, dmean, dvar


def _check(op: str, x: Array, eps: float, **channels: Array) -> None:
    check_floating(op, x=x, **channels)
    check_rank(op, "x", x, "c", at_least=True)
    for name, array in channels.items():
        check_rank(op, name, array, "c")
        check_axis_size(op, name, array, "c", 0, x.shape[-1], "`x` has channels")
    if not is_number(eps) or not eps > 0:
        raise setting_error(op, "eps", "a number > 0", eps)


def _check_names(op: str, across: Any) -> None:
    if not isinstance(across, tuple) or not all(isinstance(name, str) for name in across):
        raise setting_error(op, "across", "a tuple of names of mesh axes", across)


def _normalize(x: Array, axes: Sequence[int], eps: float) -> tuple[Array, Array, Array]:
    """The reference: by standard deviation, with NumPy's own mean and var."""
    axes = tuple(axes)
    mean, var = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    return (x - mean) / jnp.sqrt(var + eps), mean, var


def _affine(x_hat: Array, scale: Array, shift: Array) -> Array:
    return jnp.einsum("...c,c->...c", x_hat, scale) + jnp.broadcast_to(shift, x_hat.shape)


def batch_norm_reference(
    x: Array, scale: Array, shift: Array, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    x_hat, mean, var = _normalize(x, range(x.ndim - 1), eps)
    return _affine(x_hat, scale, shift), mean.reshape(-1), var.reshape(-1)


def layer_norm_reference(x: Array, scale: Array, shift: Array, *, eps: float = 1e-5) -> Array:
    return _affine(_normalize(x, (-1,), eps)[0], scale, shift)


def group_norm_reference(
    x: Array, scale: Array, shift: Array, *, groups: int, eps: float = 1e-5
) -> Array:
    blocks = jnp.split(x, groups, axis=-1)
    return _affine(
        jnp.concatenate([_normalize(b, range(1, x.ndim), eps)[0] for b in blocks], -1), scale, shift
    )


def frozen_norm_reference(
    x: Array, scale: Array, shift: Array, mean: Array, var: Array, *, eps: float = 1e-5
) -> Array:
    mean, std = (jnp.broadcast_to(a, x.shape) for a in (mean, jnp.sqrt(var + eps)))
    return _affine((x - mean) / std, scale, shift)


def _cases(*more: Case, **static: int) -> tuple[Case, ...]:
    return (
        Case("image", (normal(3, 4, 2, 4), normal(4), normal(4)), static),
        Case("rows", (normal(5, 6), normal(6), normal(6)), static),
        Case("large eps", (normal(2, 3, 4), normal(4), normal(4)), {**static, "eps": 0.5}),
        *more,
    )


def space(choose: Choose, *, grouped: bool = False, given: bool = False) -> Case:
    groups = choose.integer(1, 3) if grouped else 1
    each, leading = choose.integer(1, 3), some(choose, 3, least=1)
    x, channel = normal(*leading, groups * each), normal(groups * each)
    moments = (channel, rows(groups * each)) if given else ()
    settings = {"eps": choose.among(1e-5, 0.5)} | ({"groups": groups} if grouped else {})
    return Case("drawn", (x, channel, channel, *moments), settings)


def _bad(op: str, **static: int) -> tuple[Bad, ...]:
    return (
        Bad("channels", (zeros(2, 4), zeros(3), zeros(4)), f"{op}: `scale` must have c = 4 as `x` has channels, got 3", static),  # noqa: E501
        Bad("eps", (zeros(2, 4), zeros(4), zeros(4)), f"{op}: setting `eps` must be a number > 0", {**static, "eps": 0.0}),  # noqa: E501
        Bad("dtype", (zeros(2, 4, dtype="int32"), zeros(4), zeros(4)), f"{op}: `x` must be a floating-point array", static, TypeError),  # noqa: E501
    )  # fmt: skip


_own = (True, False, False, (True, True))  # x and its moments, but for batch norm
_equation, _keeps = "y = scale·(x − μ)/√(v + ε) + shift", "x, scale, shift, mean, 1/std"
_video = Case(
    "3-D", (normal(2, 2, 2, 3, 4), normal(4), normal(4))
)  # two channels would make layer norm's gradient all rounding
_groups = Case("one channel a group", (normal(2, 3, 3), normal(3), normal(3)), {"groups": 3})
_bad_groups = Bad(
    "groups",
    (zeros(2, 4), zeros(4), zeros(4)),
    "group_norm: setting `groups` must be a divisor of the 4 channels",
    {"groups": 3},
)
_frozen = Case("image", (normal(3, 4, 2, 4), normal(4), normal(4), normal(4), rows(4)))
_frozen_rows = Case("rows", (normal(5, 3), normal(3), normal(3), normal(3), rows(3)), {"eps": 0.1})
_bad_var = Bad(
    "var",
    (zeros(2, 4), zeros(4), zeros(4), zeros(4), zeros(3)),
    "frozen_norm: `var` must have c = 4",
)

batch_norm = Op(
    "batch_norm",
    batch_norm_forward,
    batch_norm_backward,
    batch_norm_reference,
    _cases(_video),
    bad=_bad("batch_norm"),
    doc=__doc__,
    space=space,
    equation=_equation + " over the batch",
    keeps=_keeps,
)
layer_norm = Op(
    "layer_norm",
    layer_norm_forward,
    layer_norm_backward,
    layer_norm_reference,
    _cases(_video),
    bad=_bad("layer_norm"),
    norms=functools.partial(by_example, layer_norm_backward, _own),
    doc=__doc__,
    space=space,
    equation=_equation + " over the channels",
    keeps=_keeps,
)
group_norm = Op(
    "group_norm",
    group_norm_forward,
    group_norm_backward,
    group_norm_reference,
    _cases(_groups, groups=2),
    bad=(*_bad("group_norm", groups=2), _bad_groups),
    norms=functools.partial(by_example, group_norm_backward, _own),
    doc=__doc__,
    space=functools.partial(space, grouped=True),
    equation=_equation + " over a group",
    keeps=_keeps,
)
frozen_norm = Op(
    "frozen_norm",
    frozen_norm_forward,
    frozen_norm_backward,
    frozen_norm_reference,
    (_frozen, _frozen_rows),
    bad=(_bad_var,),
    norms=functools.partial(by_example, frozen_norm_backward, (True, False, False, False, False)),
    doc=__doc__,
    space=functools.partial(space, given=True),
    equation=_equation + ", μ and v given",
    keeps="x, scale, shift, mean, var",
)
