"""Which kernel computes a product of a convolution, on which platform, and what ``vmap`` makes of
it.

A product is one of correlate(x, w), input_gradient(dy, w) and weight_gradient(x, dy): linear in
each of its sides. On a CPU the first kernel that suits takes it, elsewhere XLA's own convolution. A
CPU computes 16-bit products in float32, as it has no faster way, and rounds the result. Under
``vmap`` JAX would lift the loop over blocks of images out of the cache, and make of mapped weights
a grouped convolution, a hundred times slower on a CPU. Here instead:

    images mapped, weights shared   one product of all images: the mapped axis joins the batch
    anything else, on a CPU         as many products side by side as stay in the cache, by
                                    im2col; one after the other where one alone fills it
    anything else, elsewhere        what JAX does

Differentiation does not see that rule: the derivative is written with the ordinary product, which
JAX may take apart as often as it likes."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
from jax import lax
from jax.custom_batching import custom_vmap

from jaxcnn._core.cotangent import varying
from jaxcnn._core.wide import wide
from jaxcnn._core.window import Window
from jaxcnn.kernels import _blocks as blocks
from jaxcnn.kernels import _depthwise as depthwise
from jaxcnn.kernels import _im2col as im2col
from jaxcnn.kernels import _winograd as winograd
from jaxcnn.kernels._divided import divided
from jaxcnn.kernels._guarded import guarded

Name = Literal["correlate", "input_gradient", "weight_gradient"]
Product = Callable[[jax.Array, jax.Array], jax.Array]


# Compiled once for all calls outside a program, traced once for all inside
@functools.partial(
    jax.jit, static_argnames=("name", "exact", "window", "inputs", "outputs", "groups"), inline=True
)
def product(
    name: Name,
    exact: Callable[..., jax.Array],
    left: jax.Array,
    right: jax.Array,
    window: Window,
    inputs: int,
    outputs: int,
    groups: int,
) -> jax.Array:
    """``exact(left, right, window=window, groups=groups)``, the product called ``name``, by the
    fastest road."""
    plain = functools.partial(exact, window=window, groups=groups)
    if left.dtype.itemsize == 2:

        def widened(left: jax.Array, right: jax.Array) -> jax.Array:
            y = product(name, exact, wide(left), wide(right), window, inputs, outputs, groups)
            return y.astype(left.dtype)

        return lax.platform_dependent(left, right, cpu=widened, default=plain)
    if not blocks.in_reach(left):
        return plain(left, right)
    if groups > 1:
        if not depthwise.suits(left, window, inputs, groups):
            return plain(left, right)
        fast = functools.partial(getattr(depthwise, name), window=window, inputs=inputs)
        return lax.platform_dependent(left, right, cpu=fast, default=plain)

    def ordinary(
        left: jax.Array, right: jax.Array, divide: bool = False, kernels: Any = (im2col,)
    ) -> jax.Array:
        for kernel in kernels:
            if kernel.suits(name, left, window, inputs, outputs):
                fast = functools.partial(getattr(kernel, name), window=window)
                # whose sums may overflow where XLA's do not
                if kernel is winograd or name == "weight_gradient":
                    fast = guarded(fast, plain)
                fast = divided(fast, over_batch=name == "weight_gradient") if divide else fast
                return lax.platform_dependent(left, right, cpu=fast, default=plain)
        return plain(left, right)

    def rule(
        size: int, mapped: list[bool], left: jax.Array, right: jax.Array
    ) -> tuple[jax.Array, bool]:
        if name != "weight_gradient" and mapped == [True, False]:
            y = wired(left.reshape(-1, *left.shape[2:]), right)
            return y.reshape(*left.shape[:2], *y.shape[1:]), True
        images = left.shape[1] if mapped[0] else left.shape[0]
        together = im2col.BLOCK_BYTES // im2col.columns_bytes(images, inputs, window, left.dtype)
        one = (
            wired
            if together < 2
            else functools.partial(getattr(im2col, name), window=window, block=images)
        )
        fast = functools.partial(_chunks, one, mapped, max(1, together))
        axes = tuple(0 if is_mapped else None for is_mapped in mapped)
        return lax.platform_dependent(left, right, cpu=fast, default=jax.vmap(plain, axes)), True

    by_itself = bool(varying(left))  # inside shard_map, where nothing is left to divide
    mapped = custom_vmap(
        functools.partial(ordinary, divide=not by_itself, kernels=(winograd, im2col))
    )
    mapped.def_vmap(rule)
    wired = jax.custom_jvp(mapped)

    def derivative(
        primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        (left, right), (dleft, dright) = primals, tangents
        return wired(left, right), ordinary(dleft, right) + ordinary(left, dright)

    wired.defjvp(derivative)
    return wired(left, right)


def _chunks(
    one: Product, mapped: list[bool], chunk: int, left: jax.Array, right: jax.Array
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
