"""Which kernel computes a product of a convolution, on which platform, and what ``vmap`` makes of
it.

A product is one of correlate(x, w), input_gradient(dy, w) and weight_gradient(x, dy): linear in
each of its sides. On a CPU the first kernel that suits takes it, elsewhere XLA's own convolution. A
CPU computes 16-bit products in float32, as it has no faster way, and rounds the result. Under
``vmap`` JAX would lift the loop over blocks of images out of the cache, and make of mapped weights
a grouped convolution, a hundred times slower on a CPU. Here instead:

    images mapped, weights shared      one product of all images: the mapped axis joins the batch
    anything else, on a CPU            as many products side by side as stay in the cache, by
                                       im2col; one after the other where one alone fills it
    anything else, elsewhere           what JAX does

Differentiation does not see that rule: the derivative is written with the ordinary product, which
JAX may take apart as often as it likes."""

import functools
from collections.abc import Callable

import jax
from jax import lax
from jax.custom_batching import custom_vmap

from jaxcnn._core.cotangent import varying
from jaxcnn._core.errors import setting_error
from jaxcnn._core.upcast import upcast
from jaxcnn._core.window import Window
from jaxcnn.kernels import _blocks as blocks
from jaxcnn.kernels import _im2col as im2col
from jaxcnn.kernels._depthwise import DEPTHWISE
from jaxcnn.kernels._divided import divided
from jaxcnn.kernels._guarded import guarded
from jaxcnn.kernels._im2col import IM2COL
from jaxcnn.kernels._implementation import Implementation, Kind, Name
from jaxcnn.kernels._winograd import WINOGRAD
from jaxcnn.kernels._xla import XLA

Bound = Callable[[jax.Array, jax.Array], jax.Array]


# In the order in which they are tried, from the last to XLA's own
IMPLEMENTATIONS: dict[str, Implementation] = {
    one.name: one for one in (XLA, IM2COL, WINOGRAD, DEPTHWISE)
}


def check_suits(
    op: str, implementation: str | None, x: jax.Array, w: jax.Array, window: Window, groups: int
) -> None:
    """The setting names an implementation that can compute all three products."""
    if implementation is None:
        return
    if implementation not in IMPLEMENTATIONS:
        expected = f"None or one of {', '.join(IMPLEMENTATIONS)}"
        raise setting_error(op, "implementation", expected, implementation)
    inputs, blockwise = w.shape[-2] * groups, blocks.in_reach(x) and bool(x.size and w.size)
    suit = [
        name
        for name, one in IMPLEMENTATIONS.items()
        if one is XLA or (blockwise and one.can(window, inputs, groups))
    ]
    if implementation not in suit:
        takes = IMPLEMENTATIONS[implementation].takes
        if not blockwise:
            takes += ", and a batch of known length, not empty, that no mesh cuts"
        expected = f"None or one that suits ({', '.join(suit)}); {implementation} takes {takes}"
        raise setting_error(op, "implementation", expected, implementation)


def correlate(
    x: jax.Array, w: jax.Array, window: Window, groups: int, implementation: Name | None = None
) -> jax.Array:
    """y[n,p,o] = Σ x[n, p·s + k·d − lo, i] w[k,i,o]."""
    sizes = x.shape[-1], w.shape[-1], groups
    return _product("correlate", x, w, window, *sizes, implementation)


def input_gradient(
    dy: jax.Array, w: jax.Array, window: Window, groups: int, implementation: Name | None = None
) -> jax.Array:
    """The adjoint of :func:`correlate` in x."""
    sizes = w.shape[-2] * groups, dy.shape[-1], groups
    return _product("input_gradient", dy, w, window, *sizes, implementation)


def weight_gradient(
    x: jax.Array, dy: jax.Array, window: Window, groups: int, implementation: Name | None = None
) -> jax.Array:
    """The adjoint of :func:`correlate` in w."""
    sizes = x.shape[-1], dy.shape[-1], groups
    return _product("weight_gradient", x, dy, window, *sizes, implementation)


# Compiled once for all calls outside a program, traced once for all inside
@functools.partial(
    jax.jit,
    static_argnames=("kind", "window", "inputs", "outputs", "groups", "implementation"),
    inline=True,
)
def _product(
    kind: Kind,
    left: jax.Array,
    right: jax.Array,
    window: Window,
    inputs: int,
    outputs: int,
    groups: int,
    implementation: Name | None,
) -> jax.Array:
    """The product by the implementation that is asked for, or by the fastest one that suits."""
    sizes = inputs, outputs, groups
    if implementation not in (None, "xla"):
        asked = IMPLEMENTATIONS[implementation].product(kind)
        # its sums are plain ones: what has 16 bits is added in float32
        y = asked(upcast(left), upcast(right), window=window, groups=groups)
        return y.astype(left.dtype)
    plain = functools.partial(XLA.product(kind), window=window, groups=groups)
    if implementation == "xla":
        return plain(left, right)
    if left.dtype.itemsize == 2:

        def widened(left: jax.Array, right: jax.Array) -> jax.Array:
            y = _product(kind, upcast(left), upcast(right), window, *sizes, None)
            return y.astype(left.dtype)

        return lax.platform_dependent(left, right, cpu=widened, default=plain)
    if not blocks.in_reach(left):
        return plain(left, right)
    if groups > 1:
        if not DEPTHWISE.suits(kind, left, window, *sizes):
            return plain(left, right)
        fast = functools.partial(DEPTHWISE.product(kind), window=window, groups=groups)
        return lax.platform_dependent(left, right, cpu=fast, default=plain)

    def ordinary(
        left: jax.Array,
        right: jax.Array,
        divide: bool = False,
        kernels: tuple[Implementation, ...] = (IM2COL,),
        guard: bool = True,
    ) -> jax.Array:
        for kernel in kernels:
            if kernel.suits(kind, left, window, *sizes):
                fast = functools.partial(kernel.product(kind), window=window, groups=groups)
                # whose sums may overflow where XLA's do not
                if guard and (kernel is WINOGRAD or kind == "weight_gradient"):
                    fast = guarded(fast, plain)
                fast = divided(fast, over_batch=kind == "weight_gradient") if divide else fast
                return lax.platform_dependent(left, right, cpu=fast, default=plain)
        return plain(left, right)

    def rule(
        size: int, mapped: list[bool], left: jax.Array, right: jax.Array
    ) -> tuple[jax.Array, bool]:
        if kind != "weight_gradient" and mapped == [True, False]:
            y = wired(left.reshape(-1, *left.shape[2:]), right)
            return y.reshape(*left.shape[:2], *y.shape[1:]), True
        images = left.shape[1] if mapped[0] else left.shape[0]
        together = im2col.BLOCK_BYTES // im2col.columns_bytes(images, inputs, window, left.dtype)
        one = (
            wired
            if together < 2
            else functools.partial(getattr(im2col, kind), window=window, block=images)
        )
        fast = functools.partial(_chunks, one, mapped, max(1, together))
        axes = tuple(0 if is_mapped else None for is_mapped in mapped)
        return lax.platform_dependent(left, right, cpu=fast, default=jax.vmap(plain, axes)), True

    by_itself = bool(varying(left))  # inside shard_map, where nothing is left to divide
    mapped = custom_vmap(
        functools.partial(ordinary, divide=not by_itself, kernels=(WINOGRAD, IM2COL))
    )
    mapped.def_vmap(rule)
    wired = jax.custom_jvp(mapped)

    def derivative(
        primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        (left, right), (dleft, dright) = primals, tangents
        # the guard is a loop, which JAX cannot take apart backwards
        product = functools.partial(ordinary, guard=False)
        return wired(left, right), product(dleft, right) + product(left, dright)

    wired.defjvp(derivative)
    return wired(left, right)


def _chunks(
    one: Bound, mapped: list[bool], chunk: int, left: jax.Array, right: jax.Array
) -> jax.Array:
    """``chunk`` products side by side, then the next."""
    both = left, right
    own = [array for array, is_mapped in zip(both, mapped, strict=True) if is_mapped]

    def step(own: list[jax.Array]) -> jax.Array:
        rest = iter(own)
        return one(
            *(
                next(rest) if is_mapped else array
                for array, is_mapped in zip(both, mapped, strict=True)
            )
        )

    return lax.map(step, own, batch_size=None if chunk == 1 else min(chunk, len(own[0])))
