"""Right rules that use much of JAX inside: nested rules, jit, vmap, cond, callbacks, checkpoint,
other precisions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from corpus.rule import Rule, array, normal, rule

sine = rule(lambda x: (jnp.sin(x), x), lambda x, dy: (jnp.cos(x) * dy,))
nested = rule(lambda x: (sine(x) ** 2, x), lambda x, dy: (2 * sine(x) * jnp.cos(x) * dy,))


@jax.custom_jvp
def soft(x):
    return jnp.log1p(jnp.exp(x))


@soft.defjvp
def _(primals, tangents):
    return soft(*primals), jax.nn.sigmoid(primals[0]) * tangents[0]


def row(x, w):
    return jnp.tanh(x @ w)


def row_backward(residuals, dy):
    x, w, y = residuals
    da = dy * (1 - y * y)
    return w @ da, jnp.outer(x, da)


row_rule = rule(lambda x, w: ((y := row(x, w)), (x, w, y)), row_backward)


def branch(x, deep):
    return lax.cond(deep, lambda x: jnp.tanh(x), lambda x: 2 * x, x)


def branch_backward(residuals, dy):
    x, deep = residuals
    return lax.cond(deep, lambda: (1 - jnp.tanh(x) ** 2) * dy, lambda: 2 * dy), None


def switch_backward(residuals, dy):
    x, i = residuals
    return lax.switch(i, [lambda: dy, lambda: 2 * x * dy, lambda: jnp.exp(x) * dy]), None


def switch(x, i):
    return lax.switch(i, [lambda: x, lambda: x * x, lambda: jnp.exp(x)])


def host_cosine(x, dy):
    return np.asarray(np.cos(x) * dy, np.asarray(x).dtype)


def callback(method):
    def backward(x, dy):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return (jax.pure_callback(host_cosine, shape, x, dy, vmap_method=method),)

    return rule(lambda x: (jnp.sin(x), x), backward)


def indexed(x):
    """The index looks like a constant, but under a trace it is a tracer."""
    index = jnp.asarray([0, 2, 4], jnp.int32)
    return rule(
        lambda x: (x[index] ** 2, x),
        lambda x, dy: (jnp.zeros_like(x).at[index].set(2 * x[index] * dy),),
    )(x)


def host_reverse(dy):
    return np.ascontiguousarray(dy[..., ::-1])


def host_reverse_backward(_, dy):
    return (
        jax.pure_callback(
            host_reverse, jax.ShapeDtypeStruct(dy.shape, dy.dtype), dy, vmap_method="broadcast_all"
        ),
    )


# --- other precisions


def single_forward(x):
    """Computed in float32 whatever x is."""
    y = jnp.exp(x.astype(jnp.float32))
    return y.astype(x.dtype), y


def single_backward(y, dy):
    return ((y * dy.astype(jnp.float32)).astype(dy.dtype),)


def single(x):
    return jnp.exp(x.astype(jnp.float32)).astype(x.dtype)


def mixed(x, w):
    """A matrix product in bfloat16, accumulated in float32."""
    y = lax.dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    return y.astype(x.dtype)


def mixed_backward(residuals, dy):
    # What is saved is rounded to bfloat16, and so is each gradient, as by the transpose of a cast.
    x, w = (a.astype(jnp.bfloat16).astype(jnp.float32) for a in residuals)
    g = dy.astype(jnp.float32)
    dx, dw = g @ w.T, x.T @ g
    return dx.astype(jnp.bfloat16).astype(dy.dtype), dw.astype(jnp.bfloat16).astype(dy.dtype)


KERNEL = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)), jnp.float32)


def projected(x):
    return (x @ KERNEL).astype(x.dtype)


def projected_backward(_, dy):
    return ((dy @ KERNEL.T).astype(dy.dtype),)


def rematerialised(x, w):
    return jax.checkpoint(lambda x: jnp.sin(x @ w) ** 2)(x)


def rematerialised_backward(residuals, dy):
    x, w = residuals
    _, pull = jax.vjp(lambda x, w: jnp.sin(x @ w) ** 2, x, w)
    return pull(dy)


@jax.jit
def jitted_forward(x):
    return jax.nn.gelu(x), x


@jax.jit
def jitted_backward(x, dy):
    return (jax.vjp(jax.nn.gelu, x)[1](dy)[0],)


def make_layer(width):
    """A factory, as layers are made in libraries; ``width`` is a Python number."""

    @jax.custom_vjp
    def layer(x):
        return x * width

    layer.defvjp(lambda x: (x * width, None), lambda _, dy: (dy * width,))
    return layer


def chain(x):
    """Many small rules one after the other."""
    for _ in range(5):
        x = sine(x) + 0.5 * x
    return x


def chain_reference(x):
    for _ in range(5):
        x = jnp.sin(x) + 0.5 * x
    return x


def scanned(x):
    return lax.scan(lambda c, r: (sine(c + r), c), jnp.zeros_like(x[0]), x)[0]


def scanned_reference(x):
    c = jnp.zeros_like(x[0])
    for r in x:
        c = jnp.sin(c + r)
    return c


def gathered(x):
    """A rule on one half, whose captured index is a concrete array."""
    index = np.asarray([0, 2, 4])
    f = rule(
        lambda x: (x[index] ** 2, x),
        lambda x, dy: (jnp.zeros_like(x).at[index].set(2 * x[index] * dy),),
    )
    return f(x)


def hutchinson(x, key):
    """An estimate by random probes; deterministic for a key."""
    probes = jax.random.rademacher(key, (4, x.shape[0]), dtype=x.dtype)
    return ((probes @ x) ** 2).mean()


def hutchinson_backward(residuals, dy):
    x, key = residuals
    probes = jax.random.rademacher(key, (4, x.shape[0]), dtype=x.dtype)
    return 2 * dy * (probes @ x) @ probes / 4, None


def log_density(x):
    """Calls jax.grad in its forward."""
    return jax.grad(lambda x: -(x**4).sum() / 4)(x)


def barrier(x):
    return lax.optimization_barrier(x * 3)


V, X, W = normal(1, 8), normal(2, 4, 3), normal(3, 3, 2)

RIGHT = [
    Rule("a rule inside a rule", nested, (V,), lambda x: jnp.sin(x) ** 2),
    Rule("a chain of rules", chain, (V,), chain_reference),
    Rule("a rule inside a scan", scanned, (normal(4, 4, 3),), scanned_reference),
    Rule("a rule inside a jit", jax.jit(lambda x: 2 * sine(x)), (V,), lambda x: 2 * jnp.sin(x)),
    Rule("a rule inside a vmap", lambda x, w: jax.vmap(row_rule, in_axes=(0, None))(x, w), (X, W), row),
    Rule("a rule inside a checkpoint", jax.checkpoint(lambda x: sine(x) * x), (V,), lambda x: jnp.sin(x) * x),
    Rule("a checkpoint inside a rule", rule(lambda x, w: (rematerialised(x, w), (x, w)), rematerialised_backward), (X, W), lambda x, w: jnp.sin(x @ w) ** 2),
    Rule("forward and backward jitted", rule(jitted_forward, jitted_backward), (V,), jax.nn.gelu),
    Rule("custom_jvp", soft, (V,), jax.nn.softplus, note="no custom_vjp at all"),
    Rule("plain function", lambda x, w: jnp.tanh(x @ w).sum(0), (X, W), lambda x, w: jnp.tanh(jnp.einsum("ij,jk->ik", x, w)).sum(0)),
    Rule("cond", rule(lambda x, d: (branch(x, d), (x, d)), branch_backward), (V, jnp.asarray(True)), branch),
    Rule("switch", rule(lambda x, i: (switch(x, i), (x, i)), switch_backward), (V, jnp.asarray(1, jnp.int32)), switch),
    Rule("callback, one element of the batch after another", callback("sequential"), (V,), jnp.sin, note="the backward cannot be differentiated"),
    Rule("callback, all at once", callback("broadcast_all"), (V,), jnp.sin, note="the backward cannot be differentiated"),
    Rule("callback that reverses the last axis", rule(lambda x: (x[::-1], None), host_reverse_backward), (V,), lambda x: x[::-1], note="the backward cannot be differentiated"),
    Rule("float32 inside, the reference too", rule(single_forward, single_backward), (V,), single),
    Rule("float32 inside, the reference not", rule(single_forward, single_backward), (V,), jnp.exp, note="right to float32"),
    Rule("bfloat16 inside, the reference too", rule(lambda x, w: (mixed(x, w), (x, w)), mixed_backward), (X, W), mixed, needs="reference", note="differences see only the rounding"),
    Rule("float32 matrix captured", rule(lambda x: (projected(x), None), projected_backward), (X,), lambda x: jnp.einsum("ij,jk->ik", x, KERNEL.astype(x.dtype))),
    Rule("made by a factory", make_layer(7), (V,), lambda x: 7 * x),
    Rule("partial application", functools.partial(rule(lambda s, x: (s * x, (s, x)), lambda r, dy: ((r[1] * dy).sum(), r[0] * dy)), 2.5), (V,), lambda x: 2.5 * x),
    Rule("constant index captured", gathered, (normal(5, 5),), lambda x: x[jnp.asarray([0, 2, 4])] ** 2),
    Rule("constant index captured, a tracer under a trace", indexed, (normal(5, 8),), lambda x: x[jnp.asarray([0, 2, 4])] ** 2, note="JAX refuses to checkpoint it"),
    Rule("random probes from a key", rule(lambda x, key: (hutchinson(x, key), (x, key)), hutchinson_backward), (V, jax.random.key(4)), hutchinson),
    Rule("derivative in the forward", rule(lambda x: (log_density(x), x), lambda x, dy: (-3 * x * x * dy,)), (V,), lambda x: -(x**3)),
    Rule("optimization barrier", rule(lambda x: (barrier(x), None), lambda _, dy: (lax.optimization_barrier(dy) * 3,)), (V,), lambda x: 3 * x),
    Rule("constant function", rule(lambda x: (jnp.ones(3, x.dtype), x), lambda x, dy: (jnp.zeros_like(x),)), (V,), lambda x: jnp.ones(3, x.dtype)),
    Rule("identity", rule(lambda x: (x, None), lambda _, dy: (dy,)), (array(1.0, -2.0),), lambda x: x),
    Rule("an unrolled loop of slices", rule(lambda x: (jnp.stack([x[i : i + 3].sum() for i in range(6)]), None), lambda _, dy: (jnp.convolve(dy, jnp.ones(3, dy.dtype)),)), (V,), lambda x: jnp.convolve(x, jnp.ones(3, x.dtype), "valid")),
]  # fmt: skip
