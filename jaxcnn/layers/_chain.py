"""A layer from ops: a chain, each op taking the running value and some of the layer's parameters.

``conv`` is the chain conv → bias, ``dense`` the one op dense, ``relu()`` a chain without
parameters. Initialisers are those of ``jax.nn.initializers``.

>>> import jax
>>> params, state = conv(8, kernel_size=3).init(jax.random.key(0), (28, 28, 1))
>>> {name: array.shape for name, array in params.items()}
{'kernel': (3, 3, 1, 8), 'bias': (8,)}
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxcnn import ops
from jaxcnn._core.cotangent import Static
from jaxcnn._core.errors import check_counts, check_rank, setting_error
from jaxcnn._core.keys import threefry
from jaxcnn._core.op import AnyOp, Op
from jaxcnn._core.window import Ints, Padding
from jaxcnn.layers._layer import Layer, MapOp, Params, Path, State, entry

Initializer = Callable[..., jax.Array]
Shape = tuple[int, ...]


# Functions of this module, as what jax.nn.initializers makes cannot be pickled
def he_normal(key: jax.Array, shape: Shape, dtype: Any = None) -> jax.Array:
    return initializers.he_normal()(key, shape, dtype)


def he_normal_transposed(key: jax.Array, shape: Shape, dtype: Any = None) -> jax.Array:
    """For conv_transpose, whose kernel has its inputs last, as it is the kernel of the convolution
    that it transposes."""
    return initializers.he_normal(in_axis=-1, out_axis=-2)(key, shape, dtype)


ZEROS = initializers.zeros
ONES = initializers.ones


@dataclasses.dataclass(frozen=True)
class Link:
    """One op of a chain, and the names of the parameters that it takes after the running value."""

    op: AnyOp
    parameters: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Parameter:
    """How one parameter starts: its shape for a given input shape, and an initialiser."""

    shape: Callable[[Shape], Shape]
    initializer: Initializer


@dataclasses.dataclass(frozen=True, eq=False)
class Chain(Layer):
    """Ops one after the other. ``check`` may refuse an input shape before parameters are made for
    it."""

    links: tuple[Link, ...]
    parameters: dict[str, Parameter] = dataclasses.field(default_factory=dict)
    rank: int = 0

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Params, State]:
        if len(input_shape) < self.rank:
            raise ValueError(
                f"{self.links[0].op.name}: needs inputs with {self.rank} axes or more (without the"
                f" batch), got shape {tuple(input_shape)}"
            )
        keys = jax.random.split(threefry("init", key), max(len(self.parameters), 1))
        made = zip(keys, self.parameters.items(), strict=False)
        return {
            name: p.initializer(k, p.shape(input_shape), jnp.result_type(float))
            for k, (name, p) in made
        }, {}

    def forward(
        self,
        params: Params,
        state: State,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> tuple[tuple[jax.Array, State], Any]:
        saved = []
        for link in self.links:
            x, kept = link.op.run(x, *(entry(params, name) for name in link.parameters))
            saved.append(kept)
        return (x, state), tuple(saved)

    def backward(self, residuals: Any, dy: jax.Array) -> tuple[Params, jax.Array]:
        dparams: Params = {}
        for link, kept in zip(reversed(self.links), reversed(residuals), strict=True):
            dy, *rest = link.op.pull(kept, dy)
            dparams.update(zip(link.parameters, rest, strict=False))
        return {name: dparams[name] for name in self.parameters}, dy

    def map_ops(self, change: MapOp, path: Path = ()) -> "Chain":
        links = tuple(dataclasses.replace(link, op=change(path, link.op)) for link in self.links)
        return dataclasses.replace(self, links=links)

    def example_norms(self, residuals: Any, dy: jax.Array) -> Params:
        norms: Params = {}
        for link, kept in zip(reversed(self.links), reversed(residuals), strict=True):
            if link.parameters:
                norms.update(
                    zip(link.parameters, link.op.example_norms(kept, dy)[1:], strict=False)
                )
            dy, *_ = link.op.pull(kept, dy)
        return {name: norms[name] for name in self.parameters}


def of(op: AnyOp) -> Chain:
    """A layer without parameters from an op of one input: ``of(ops.softmax)``,
    ``of(ops.leaky_relu.using(slope=0.2))``."""
    return Chain((Link(op),))


def dense(
    features: int,
    *,
    bias: bool = True,
    kernel_init: Initializer = he_normal,
    bias_init: Initializer = ZEROS,
) -> Chain:
    """x w + b on the last axis; parameters ``kernel`` (i, features) and ``bias``."""
    _check_features("dense", features)
    parameters = {"kernel": Parameter(functools.partial(_per_input, features), kernel_init)}
    if bias:
        parameters["bias"] = Parameter(functools.partial(_constant, features), bias_init)
    return Chain((Link(ops.dense, tuple(parameters)),), parameters, rank=1)


def conv(
    features: int,
    *,
    kernel_size: Ints | None = None,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    flip: bool = False,
    bias: bool = True,
    kernel_init: Initializer = he_normal,
    bias_init: Initializer = ZEROS,
    window: Ints | None = None,
) -> Chain:
    """Convolution to ``features`` channels; parameters ``kernel`` (*kernel_size, i/groups,
    features) and ``bias``."""
    _check_features("conv", features, groups)
    taps = _kernel_size("conv", kernel_size, window)
    op = ops.conv.using(stride=stride, padding=padding, dilation=dilation, groups=groups, flip=flip)
    shape = functools.partial(_kernel, taps, groups, features)
    return _kernel_and_bias(op, Parameter(shape, kernel_init), features, bias, bias_init)


def conv_transpose(
    features: int,
    *,
    kernel_size: Ints | None = None,
    stride: Ints = 1,
    padding: Padding = "SAME",
    dilation: Ints = 1,
    groups: int = 1,
    output_size: Ints | None = None,
    bias: bool = True,
    kernel_init: Initializer = he_normal_transposed,
    bias_init: Initializer = ZEROS,
    window: Ints | None = None,
) -> Chain:
    """Transposed convolution to ``features`` channels; parameters ``kernel`` (*kernel_size,
    features/groups, i) and ``bias``."""
    _check_features("conv_transpose", features, groups)
    taps = _kernel_size("conv_transpose", kernel_size, window)
    op = ops.conv_transpose.using(
        stride=stride, padding=padding, dilation=dilation, groups=groups, output_size=output_size
    )
    shape = functools.partial(_kernel_transposed, taps, groups, features)
    return _kernel_and_bias(op, Parameter(shape, kernel_init), features, bias, bias_init)


def bias(*, bias_init: Initializer = ZEROS) -> Chain:
    """One number added to each channel; parameter ``bias``."""
    return Chain((Link(ops.bias, ("bias",)),), {"bias": Parameter(_channels, bias_init)}, rank=1)


def layer_norm(*, eps: float = 1e-5) -> Chain:
    """Layer norm over the channels; parameters ``scale`` and ``shift``."""
    return _scale_and_shift(ops.layer_norm.using(eps=eps))


def group_norm(groups: int, *, eps: float = 1e-5) -> Chain:
    """Group norm; parameters ``scale`` and ``shift``."""
    return _scale_and_shift(ops.group_norm.using(groups=groups, eps=eps))


def max_pool(
    window: Ints = 2, *, stride: Ints | None = None, padding: Padding = "VALID", dilation: Ints = 1
) -> Chain:
    """The largest value in each window."""
    return of(ops.max_pool.using(window=window, stride=stride, padding=padding, dilation=dilation))


def avg_pool(
    window: Ints = 2,
    *,
    stride: Ints | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> Chain:
    """The mean of each window."""
    return of(
        ops.avg_pool.using(
            window=window,
            stride=stride,
            padding=padding,
            count_include_pad=count_include_pad,
        )
    )


def global_avg_pool() -> Chain:
    """The mean over all spatial axes."""
    return of(ops.global_avg_pool)


def activation(op: AnyOp | str) -> Chain:
    """An activation, by op or by name: ``activation("tanh")``."""
    if isinstance(op, Op):
        return of(op)
    known = {a.name: a for a in ops.ACTIVATIONS}
    if op not in known:
        raise ValueError(f"activation must be an Op or one of {', '.join(known)}, got {op!r}")
    return of(known[op])


def relu() -> Chain:
    """max(x, 0)."""
    return of(ops.relu)


def flatten() -> Chain:
    """All axes but the batch as one."""
    return of(FLATTEN)


def _flatten_forward(x: jax.Array, /) -> tuple[jax.Array, Static[Shape]]:
    return x.reshape(x.shape[0], math.prod(x.shape[1:])), Static(x.shape[1:])


def _flatten_backward(residuals: Static[Shape], dy: jax.Array, /) -> tuple[jax.Array]:
    return (dy.reshape(dy.shape[0], *residuals.value),)


FLATTEN = Op(
    "flatten",
    _flatten_forward,
    _flatten_backward,
    equation="y = x, one axis an example",
    keeps="nothing",
)


def last() -> Chain:
    """The last step of a sequence: (n, t, c) → (n, c)."""
    return of(LAST)


def _last_forward(x: jax.Array, /) -> tuple[jax.Array, Static[int]]:
    check_rank("last", "x", x, "n t c")
    return x[:, -1], Static(x.shape[1])


def _last_backward(residuals: Static[int], dy: jax.Array, /) -> tuple[jax.Array]:
    steps = residuals.value
    return (jnp.pad(dy[:, None], [(0, 0), (steps - 1, 0), (0, 0)]),)


LAST = Op("last", _last_forward, _last_backward, equation="y[c] = x[T,c]", keeps="nothing")


def _scale_and_shift(op: AnyOp) -> Chain:
    parameters = {"scale": Parameter(_channels, ONES), "shift": Parameter(_channels, ZEROS)}
    return Chain((Link(op, tuple(parameters)),), parameters, rank=1)


def _kernel_and_bias(
    op: AnyOp, kernel: Parameter, features: int, bias: bool, bias_init: Initializer
) -> Chain:
    parameters, links = {"kernel": kernel}, [Link(op, ("kernel",))]
    if bias:
        parameters["bias"] = Parameter(functools.partial(_constant, features), bias_init)
        links.append(Link(ops.bias, ("bias",)))
    return Chain(tuple(links), parameters, rank=2)


def _kernel_size(op: str, kernel_size: Ints | None, window: Ints | None) -> Ints:
    """3 along each axis where nothing is given; ``window`` is the older name."""
    if kernel_size is not None and window is not None:
        raise setting_error(op, "kernel_size", "given once, as kernel_size or as window", window)
    return next((size for size in (kernel_size, window) if size is not None), 3)


def _channels(shape: Shape) -> Shape:
    return (shape[-1],)


def _constant(features: int, shape: Shape) -> Shape:
    return (features,)


def _per_input(features: int, shape: Shape) -> Shape:
    return shape[-1], features


def _kernel(window: Ints, groups: int, features: int, shape: Shape) -> Shape:
    return *_window(window, len(shape) - 1), shape[-1] // groups, features


def _kernel_transposed(window: Ints, groups: int, features: int, shape: Shape) -> Shape:
    return *_window(window, len(shape) - 1), features // groups, shape[-1]


def _window(window: Ints, rank: int) -> tuple[int, ...]:
    return (window,) * rank if isinstance(window, int) else tuple(window)


def _check_features(op: str, features: int, groups: int = 1) -> None:
    check_counts(op, groups=groups, features=features)
    if features % groups:
        raise setting_error(op, "groups", f"a divisor of the {features} features", groups)
