"""Scalar activations: one table of f and f′, each derivative written in terms of what is kept.

    y  = f(x)
    dx = f′ · dy          elementwise

| name       | f(x)                     | f′                         | kept      | at the kink |
|------------|--------------------------|----------------------------|-----------|-------------|
| relu       | max(x, 0)                | [y > 0]                    | y         | 0, or ``at_zero`` (one byte kept) |
| leaky_relu | x, or slope·x below 0    | 1, or slope where y ≤ 0    | y         | slope at 0  |
| elu        | x, or α(eˣ − 1) below 0  | 1, or y + α where y ≤ 0    | y         | α at 0      |
| step       | [x > 0]                  | 0                          | nothing   | f(0) = 0    |
| sigmoid    | 1/(1 + e⁻ˣ)              | y(1 − y)                   | x, or y with ``keep="y"`` | |
| tanh       | tanh x                   | 1 − y²                     | y         |             |
| softplus   | ln(1 + eˣ)               | 1 − e⁻ʸ  (= sigmoid x)     | y         |             |
| silu       | x·σ, σ = sigmoid x       | σ(1 + x(1 − σ))            | x         |             |
| gelu       | x·Φ(x)                   | Φ(x) + x·φ(x)              | x         |             |

Φ and φ are the normal distribution's cumulative and density; ``gelu(approximate=True)`` is x·(1 +
tanh u)/2 with u = √(2/π)(x + 0.044715 x³). What is kept is an array that the neighbouring layer
keeps too, so in a network an activation costs no memory of its own;
silu and gelu need x, and so does sigmoid, as a y that has been rounded to 1 no longer tells how
small 1 − y is (``keep="y"`` takes 1 − y as it is).

Shapes: any, floating. All are finite, value and derivative, for every finite x whose value is; at
±∞ they are their limits, and NaN gives NaN. Raise TypeError for integers, ValueError for a slope or
alpha below 0 (the sign of y would no longer tell that of x). Source, in experiments/README.md:
S0.6, S1.5, S3.3, S3.4, S4.3.

>>> import jax, jax.numpy as jnp
>>> x = jnp.array([-1.0, 0.0, 2.0])
>>> jax.grad(lambda x: relu(x).sum())(x), jax.grad(lambda x: relu(x, at_zero=1.0).sum())(x)
(Array([0., 0., 1.], dtype=float32), Array([0., 1., 1.], dtype=float32))
>>> softplus(jnp.array([-1e4, 0.0, 1e4]))
Array([0.000000e+00, 6.931472e-01, 1.000000e+04], dtype=float32)
"""  # noqa: E501

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn._core.case import Bad, Case, Kink, distinct, values, zeros
from jaxcnn._core.contracts import Array, Float, Shaped
from jaxcnn._core.errors import check_floating, is_number, setting_error
from jaxcnn._core.op import Op
from jaxcnn._core.space import Choose, any_shape

P = ParamSpec("P")
R = TypeVar("R")

CASES = (
    Case("rows", (distinct(4, 5, scale=3.0),)),
    Case("image", (distinct(2, 3, 2, 3),)),
    Case("far out", (values([-30.0, -8.0, -1.0, 1.0, 8.0, 30.0]),)),
    Case("one number", (distinct(),), batched=()),
)


def space(choose: Choose) -> Case:
    return any_shape(choose, distinct)


_BAD = Bad(
    "dtype", (zeros(3, dtype="int32"),), "`x` must be a floating-point array", error=TypeError
)


def _table(
    name: str,
    forward: Callable[P, tuple[Array, R]],
    backward: Callable[..., tuple[Array]],
    reference: Callable[..., Array],
    equation: str,
    keeps: str,
    kinks: tuple[Kink, ...] = (),
    cases: tuple[Case, ...] = (),
    bad: tuple[Bad, ...] = (),
    ulps: float = 0.0,
) -> Op[P, Array, R]:
    return Op(
        name,
        forward,
        backward,
        reference,
        (*(dataclasses.replace(case, ulps=ulps) for case in CASES), *cases),
        kinks,
        (_BAD, *bad),
        equation=equation,
        keeps=keeps,
        space=space,
        doc=f"{name}: {equation}, elementwise; keeps {keeps}. See the table in"
        " jaxcnn.ops._activations.",
    )


def scalar(
    name: str,
    f: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    reference: Callable[[Array], Array],
    *,
    keeps: Literal["y", "x"],
    equation: str,
) -> Op[[Array], Array, Array]:
    """A smooth op from a row of the table; ``derivative`` reads what ``keeps`` names. All three are
    functions of a module, so that the op can be pickled."""
    forward = functools.partial(_scalar_forward, name, f, keeps)
    backward = functools.partial(_scalar_backward, derivative)
    return _table(name, forward, backward, reference, equation, keeps)


def _scalar_forward(
    name: str, f: Callable[[Array], Array], keeps: str, /, x: Float[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    check_floating(name, x=x)
    y = f(x)
    return y, y if keeps == "y" else x


def _scalar_backward(
    derivative: Callable[[Array], Array], kept: Float[Array, "*n"], dy: Float[Array, "*n"], /
) -> tuple[Float[Array, "*n"]]:
    return (derivative(kept) * dy,)


def _kink(slope: float, /, **static: Any) -> Kink:
    return Kink(f"zero: derivative {slope:g}", (np.zeros(3),), np.full(3, slope), static)


def _tanh_derivative(y: Array) -> Array:
    return 1 - y * y


def _tanh_reference(x: Array) -> Array:
    return 2 * jax.nn.sigmoid(2 * x) - 1


def _softplus(x: Array) -> Array:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _softplus_derivative(y: Array) -> Array:
    return -jnp.expm1(-y)


def _softplus_reference(x: Array) -> Array:
    return jax.nn.softplus(x)


FAR = 800.0  # where eˣ is ∞, e⁻ˣ is 0, and a product with them must not be ∞·0


def _silu(x: Array) -> Array:
    return jnp.maximum(x, -FAR) * lax.logistic(x)


def _silu_derivative(x: Array) -> Array:
    s = lax.logistic(x)
    return s * (1 + jnp.clip(x, -FAR, FAR) * (1 - s))


def _silu_reference(x: Array) -> Array:
    return jax.nn.silu(x)


tanh = scalar("tanh", lax.tanh, _tanh_derivative, _tanh_reference, keeps="y", equation="y = tanh x")
softplus = scalar(
    "softplus",
    _softplus,
    _softplus_derivative,
    _softplus_reference,
    keeps="y",
    equation="y = ln(1 + eˣ)",
)
silu = scalar(
    "silu", _silu, _silu_derivative, _silu_reference, keeps="x", equation="y = x/(1 + e⁻ˣ)"
)


def sigmoid_forward(
    x: Float[Array, "*n"], *, keep: Literal["x", "y"] = "x"
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    check_floating("sigmoid", x=x)
    if keep not in ("x", "y"):
        raise setting_error("sigmoid", "keep", "'x' or 'y'", keep)
    y = lax.logistic(x)
    return y, y if keep == "y" else x


def sigmoid_backward(
    kept: Float[Array, "*n"], dy: Float[Array, "*n"], /, *, keep: Literal["x", "y"] = "x"
) -> tuple[Float[Array, "*n"]]:
    # dx = y (1 − y) dy, and the same for 1 − y: the smaller of the two has all its digits
    y = kept if keep == "y" else lax.logistic(-jnp.abs(kept))
    return (y * (1 - y) * dy,)


def sigmoid_reference(x: Array, *, keep: str = "x") -> Array:
    return jax.nn.sigmoid(x)


sigmoid = _table(
    "sigmoid",
    sigmoid_forward,
    sigmoid_backward,
    sigmoid_reference,
    "y = 1/(1 + e⁻ˣ)",
    "x, or y",
    cases=(Case("y kept", (distinct(3, 4, scale=3.0),), {"keep": "y"}),),
    bad=(Bad("keep", (zeros(3),), "sigmoid: setting `keep` must be 'x' or 'y'", {"keep": "z"}),),
    ulps=8,
)


def relu_forward(
    x: Float[Array, "*n"], *, at_zero: float = 0.0
) -> tuple[Float[Array, "*n"], Shaped[Array, "*n"]]:
    check_floating("relu", x=x)
    if not is_number(at_zero):
        raise setting_error("relu", "at_zero", "a number (the derivative at 0)", at_zero)
    y = jnp.where(x <= 0, 0, x)  # written so that NaN comes through
    return y, y if at_zero == 0 else jnp.sign(x).astype(jnp.int8)


def relu_backward(
    kept: Shaped[Array, "*n"], dy: Float[Array, "*n"], /, *, at_zero: float = 0.0
) -> tuple[Float[Array, "*n"]]:
    dx = jnp.where(kept > 0, dy, 0)
    return (dx if at_zero == 0 else jnp.where(kept == 0, jnp.array(at_zero, dy.dtype) * dy, dx),)


def leaky_relu_forward(
    x: Float[Array, "*n"], *, slope: float = 0.01
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    check_floating("leaky_relu", x=x)
    _check_not_negative("leaky_relu", "slope", slope)
    y = jnp.where(x > 0, x, slope * x) if slope else jnp.where(x <= 0, 0, x)  # 0·∞ is NaN
    return y, y


def leaky_relu_backward(
    y: Float[Array, "*n"], dy: Float[Array, "*n"], /, *, slope: float = 0.01
) -> tuple[Float[Array, "*n"]]:
    return (jnp.where(y > 0, dy, slope * dy),)


def elu_forward(
    x: Float[Array, "*n"], *, alpha: float = 1.0
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    check_floating("elu", x=x)
    _check_not_negative("elu", "alpha", alpha)
    # the branch not taken must stay finite at second order too
    below = alpha * jnp.expm1(jnp.where(x > 0, 0, x))
    y = jnp.where(x > 0, x, below)
    return y, y


def elu_backward(
    y: Float[Array, "*n"], dy: Float[Array, "*n"], /, *, alpha: float = 1.0
) -> tuple[Float[Array, "*n"]]:
    return (jnp.where(y > 0, dy, (y + alpha) * dy),)


def _check_not_negative(op: str, name: str, value: float) -> None:
    if not is_number(value) or not value >= 0:
        raise setting_error(op, name, "a number ≥ 0", value)


def step_forward(x: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], tuple[()]]:
    check_floating("step", x=x)
    return jnp.where(jnp.isnan(x), x, (x > 0).astype(x.dtype)), ()


def step_backward(residuals: tuple[()], dy: Float[Array, "*n"], /) -> tuple[Float[Array, "*n"]]:
    return (jnp.zeros_like(dy),)


def gelu_forward(
    x: Float[Array, "*n"], *, approximate: bool = False
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    check_floating("gelu", x=x)
    cumulative = (1 + lax.tanh(_gelu_inner(x))) / 2 if approximate else _normal_cumulative(x)
    return jnp.maximum(x, -FAR) * cumulative, x


def gelu_backward(
    x: Float[Array, "*n"], dy: Float[Array, "*n"], /, *, approximate: bool = False
) -> tuple[Float[Array, "*n"]]:
    # beyond, the slope is 0 or 1 to the last bit, x³ may overflow, and ∞·0 is NaN
    x = jnp.clip(x, -40, 40)
    if approximate:
        t = lax.tanh(_gelu_inner(x))
        slope = (1 + t) / 2 + x * (1 - t * t) / 2 * math.sqrt(2 / math.pi) * (
            1 + 3 * 0.044715 * x * x
        )
    else:
        slope = _normal_cumulative(x) + x * jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return (slope * dy,)


def _gelu_inner(x: Array) -> Array:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


def _normal_cumulative(x: Array) -> Array:
    # erfc keeps its digits far below 0, where 1 + erf loses them
    return lax.erfc(-x / math.sqrt(2)) / 2


def relu_reference(x: Array, *, at_zero: float = 0.0) -> Array:
    return jax.nn.relu(x)


def leaky_relu_reference(x: Array, *, slope: float = 0.01) -> Array:
    return jax.nn.leaky_relu(x, slope)


def elu_reference(x: Array, *, alpha: float = 1.0) -> Array:
    return jax.nn.elu(x, alpha)


def step_reference(x: Array) -> Array:
    return jnp.heaviside(x, 0.0)


def gelu_reference(x: Array, *, approximate: bool = False) -> Array:
    return jax.nn.gelu(x, approximate=approximate)


_x = distinct(4, 5, scale=3.0)
relu = _table(
    "relu",
    relu_forward,
    relu_backward,
    relu_reference,
    "y = max(x, 0)",
    "y",
    (_kink(0.0), _kink(1.0, at_zero=1.0), _kink(0.5, at_zero=0.5)),
    cases=(Case("chosen at 0", (_x,), {"at_zero": 1.0}),),
)
leaky_relu = _table(
    "leaky_relu",
    leaky_relu_forward,
    leaky_relu_backward,
    leaky_relu_reference,
    "y = x where x > 0, else slope·x",
    "y",
    (_kink(0.01), _kink(0.5, slope=0.5)),
    cases=(Case("steep", (_x,), {"slope": 0.5}),),
    bad=(
        Bad(
            "slope",
            (zeros(3),),
            "leaky_relu: setting `slope` must be a number ≥ 0",
            {"slope": -1.0},
        ),
    ),
)
elu = _table(
    "elu",
    elu_forward,
    elu_backward,
    elu_reference,
    "y = x where x > 0, else α(eˣ − 1)",
    "y",
    (_kink(1.0), _kink(0.5, alpha=0.5)),
    cases=(Case("alpha", (_x,), {"alpha": 0.5}),),
    bad=(Bad("alpha", (zeros(3),), "elu: setting `alpha` must be a number ≥ 0", {"alpha": -1.0}),),
)
step = _table(
    "step",
    step_forward,
    step_backward,
    step_reference,
    "y = 1 where x > 0, else 0",
    "nothing",
    (_kink(0.0),),
)
gelu = _table(
    "gelu",
    gelu_forward,
    gelu_backward,
    gelu_reference,
    "y = x·Φ(x)",
    "x",
    cases=(Case("by tanh", (_x,), {"approximate": True}),),
)
