"""3×3 and 5×5 convolution with a third of the multiplications, for CPUs (Winograd's minimal
filtering; Lavin and Gray 2016).

The output is cut into tiles of m₁ × m₂. With A, G and B of :mod:`jaxcnn.kernels._toom_cook` for
each axis, and ⊙ over the n₁ × n₂ places of a tile:

    V = B₁ x B₂ᵀ      U = G₁ w G₂ᵀ      M[o] = Σ_i V[i] ⊙ U[i,o]      y = A₁ M A₂ᵀ
    dM = A₁ᵀ dy A₂    dU[i,o] = Σ_tiles V[i] ⊙ dM[o]                  dw = G₁ᵀ dU G₂
    dx is the convolution of dy with the kernel turned round.

Channels are the last axis throughout, so the transforms are sums of whole vectors and the products
ordinary matrix products, one for each place of a tile. A barrier after each stage keeps XLA from
computing every sum again for every use. Sizes and times: README.md beside this file."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

from jaxcnn._core.window import Window
from jaxcnn.kernels import _blocks as blocks
from jaxcnn.kernels._implementation import Implementation, Kind
from jaxcnn.kernels._toom_cook import combine, matrices

TILES = {3: (4, 2), 5: (2, 2)}
LEAST_CHANNELS = 32
SUMMED, MOST_PARTS = 128, 16  # tiles in one sum of the weight gradient, and sums in its program
# XLA gives a matrix product to several threads only if its result has about this many elements
PARALLEL = 2**17
# V and M of a block: the last-level cache holds so much; of the sums of the weight gradient, which
# are threaded at any size, the cache before it
NEAR_BYTES, CACHE_BYTES = 28 * 2**20, 6 * 2**20

held = lax.optimization_barrier


def can(window: Window, inputs: int, groups: int) -> bool:
    """Whether the geometry is one that is cut into tiles."""
    size = window.taps[0]
    square = len(window.taps) == 2 and window.taps[1] == size and size in TILES
    dense = all(s == 1 for s in (*window.stride, *window.dilation))
    inside = all(pad < size for pair in window.padding for pad in pair)
    return square and dense and inside and groups == 1


def suits(kind: Kind, x: jax.Array, window: Window, inputs: int, outputs: int, groups: int) -> bool:
    """Whether this kernel suits ``x``'s batch, and is faster there."""
    if not can(window, inputs, groups):
        return False
    # errs twice as much as the direct sum, and gains nothing
    if kind == "weight_gradient" and window.taps[0] > 3:
        return False
    return min(inputs, outputs) >= LEAST_CHANNELS and blocks.enough(x, window, inputs * outputs)


def correlate(x: jax.Array, w: jax.Array, *, window: Window, groups: int = 1) -> jax.Array:
    """y[p,o] = Σ x[p + k − lo, i] w[k,i,o]."""
    m, tiles = _tiling(window)
    (a1, g1, _), (a2, g2, _) = (matrices(size, len(w)) for size in m)
    n1, n2, outputs = len(g1), len(g2), w.shape[-1]
    down = jnp.stack(combine(g1, list(w)))  # (n₁, taps, i, o)
    u = held(combine(g2, [down[:, tap] for tap in range(len(w))]))  # n₂ times (n₁, i, o)
    height, width = window.places

    def one(part: jax.Array) -> jax.Array:
        rows = []
        for column, v in enumerate(_input_transform(part, window)):
            product = held(jnp.einsum("apc,aco->apo", v.reshape(n1, -1, v.shape[-1]), u[column]))
            rows.append(jnp.stack(combine(a1, [product[place] for place in range(n1)])))
        rows = held(rows)
        y = jnp.stack(combine(a2, rows), -2)  # (m₁, tiles, m₂, o)
        y = y.reshape(m[0], -1, *tiles, m[1], outputs).transpose(1, 2, 0, 3, 4, 5)
        return y.reshape(-1, tiles[0] * m[0], tiles[1] * m[1], outputs)[:, :height, :width]

    places = n1 * n2 * tiles[0] * tiles[1]
    enough = blocks.least(len(x), PARALLEL / (tiles[0] * tiles[1] * outputs))
    few = blocks.most(len(x), NEAR_BYTES / (places * (x.shape[-1] + outputs) * x.dtype.itemsize))
    return blocks.over(one, max(enough, few), x)


def input_gradient(dy: jax.Array, w: jax.Array, *, window: Window, groups: int = 1) -> jax.Array:
    """dx: dy correlated with the kernel turned round, its channels swapped."""
    turned = lax.rev(w, (0, 1)).swapaxes(-1, -2)
    reach = len(w) - 1
    padding = tuple((reach - lo, reach - hi) for lo, hi in window.padding)
    return correlate(
        dy,
        turned,
        window=window._replace(cells=window.places, places=window.cells, padding=padding),
    )


def weight_gradient(x: jax.Array, dy: jax.Array, *, window: Window, groups: int = 1) -> jax.Array:
    """dw[k,i,o] = Σ x[p + k − lo, i] dy[p,o]."""
    m, tiles = _tiling(window)
    inputs, outputs = x.shape[-1], dy.shape[-1]
    (a1, g1, _), (a2, g2, _) = (matrices(size, window.taps[0]) for size in m)
    fill = [(0, t * size - p, 0) for t, size, p in zip(tiles, m, window.places, strict=True)]

    def product(x: jax.Array, dy: jax.Array) -> jax.Array:
        dy = lax.pad(dy, jnp.array(0, dy.dtype), [(0, 0, 0), *fill, (0, 0, 0)])
        rows = held(
            jnp.stack(combine(a1.T, [_every(dy, 1, i, m[0], tiles[0]) for i in range(m[0])]))
        )
        columns = combine(a2.T, [_every(rows, 3, j, m[1], tiles[1]) for j in range(m[1])])
        pairs = zip(_input_transform(x, window), columns, strict=True)
        flat = [(v.reshape(len(g1), -1, inputs), d.reshape(len(g1), -1, outputs)) for v, d in pairs]
        return jnp.stack([_sum_over_tiles(v, d) for v, d in flat])

    an_image = len(g1) * len(g2) * tiles[0] * tiles[1] * (inputs + outputs) * x.dtype.itemsize
    du = blocks.total(product, x, dy, blocks.most(len(x), CACHE_BYTES / an_image))
    across = jnp.stack(combine(g2.T, list(du)), 1)  # (n₁, taps, i, o)
    return jnp.stack(combine(g1.T, list(across)))


def _sum_over_tiles(v: jax.Array, d: jax.Array) -> jax.Array:
    """Σ_p v[a,p,c] d[a,p,o], in parts: what one matrix product rounds in a long sum depends on the
    machine, and the transforms make it several times larger."""
    count = v.shape[1]
    parts = min(-(-count // SUMMED), MOST_PARTS)
    ends = [count * part // parts for part in range(parts + 1)]
    return functools.reduce(
        jnp.add,
        [jnp.einsum("apc,apo->aco", v[:, a:b], d[:, a:b]) for a, b in itertools.pairwise(ends)],
    )


def _tiling(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size of a tile, and how many stand below and beside each other."""
    m1, m2 = TILES[window.taps[0]]
    return (m1, m2), (-(-window.places[0] // m1), -(-window.places[1] // m2))


def _input_transform(x: jax.Array, window: Window) -> list[jax.Array]:
    """V, for each column of a tile: (n₁, b, *tiles, i)."""
    m, tiles = _tiling(window)
    taps = window.taps[0]
    fill = [
        (lo, t * size + taps - 1 - a - lo, 0)
        for t, size, a, (lo, _) in zip(tiles, m, window.cells, window.padding, strict=True)
    ]
    padded = held(lax.pad(x, jnp.array(0, x.dtype), [(0, 0, 0), *fill, (0, 0, 0)]))
    (_, _, b1), (_, _, b2) = (matrices(size, taps) for size in m)
    rows = held(
        jnp.stack(combine(b1, [_every(padded, 1, i, m[0], tiles[0]) for i in range(len(b1))]))
    )
    return combine(b2, [_every(rows, 3, j, m[1], tiles[1]) for j in range(len(b2))])


def _every(x: jax.Array, axis: int, first: int, step: int, count: int) -> jax.Array:
    """``count`` entries along ``axis``, ``step`` apart."""
    return lax.slice_in_dim(x, first, first + step * (count - 1) + 1, step, axis)


WINOGRAD = Implementation(
    "winograd",
    "square kernels of 3 or 5 taps in 2-D with stride, dilation and groups 1 and padding below the"
    " taps",
    can,
    suits,
    correlate,
    input_gradient,
    weight_gradient,
)
