"""The facts of the five lecture documents, a test a row (see experiments/README.md): each formula
is the library's gradient, each number comes out, or it is said why not."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import activations, deltas, example_norms, layers, models, ops, train, value_and_grad
from jaxcnn._core.op import Op
from jaxcnn.explain import Graph
from jaxcnn.layers import Layer
from jaxcnn.rules import straight_through

pytestmark = pytest.mark.usefixtures("x64")
Array = jax.Array | np.ndarray
exactly = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(list(shape)).standard_normal(shape))


def image(rows: Any) -> jax.Array:
    """One image of one channel."""
    return jnp.asarray(rows, float)[None, :, :, None]


def started(model: Layer, *shape: int) -> Any:
    params, _ = model.init(jax.random.key(0), shape)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), params)


def gradients(model: Layer, loss: Op, params: Any, x: Array, target: Array) -> Any:
    """Of the loss summed over the examples, by hand-written rules."""
    _, grads = jax.jit(value_and_grad(model, loss))(params, {}, jnp.asarray(x), jnp.asarray(target))
    return jax.tree.map(lambda d: d * len(x), grads)


def error_signals(
    model: Layer, loss: Op, params: Any, x: Array, target: Array
) -> dict[str, jax.Array]:
    """δ at the output of every layer, for the loss summed over the examples."""
    (y, _), residuals = model.forward(params, {}, jnp.asarray(x))
    losses, saved = loss.run(y, jnp.asarray(target))
    return deltas(model, residuals, loss.pull(saved, jnp.ones_like(losses))[0])


# S0: the course project


def test_s0_1_convolution_over_channels() -> None:
    """out[i,j] = Σ in[i−k1, j−k2, c] f[c,k1,k2] with k from 1: a true convolution, whose output
    stands one place further than ``flip=True`` counted from k = 0."""
    x, f = draw(6, 7, 3), draw(3, 2, 4)
    k1, k2 = f.shape[1:]
    wanted = np.zeros((6 - k1 + 1, 7 - k2 + 1))
    for p, q in np.ndindex(*wanted.shape):
        i, j = p + k1, q + k2  # the first place for which every k reads inside the image
        wanted[p, q] = sum(
            x[i - a, j - b, c] * f[c, a - 1, b - 1]
            for a, b, c in itertools.product(range(1, k1 + 1), range(1, k2 + 1), range(3))
        )
    w = f.transpose(1, 2, 0)[..., None]
    exactly(ops.conv(x[None], w, padding="VALID", flip=True)[0, :, :, 0], wanted)
    # what a layer computes: correlation
    exactly(ops.conv(x[None], w[::-1, ::-1], padding="VALID")[0, :, :, 0], wanted)


def test_s0_2_n_images_at_once() -> None:
    x, w = draw(5, 6, 6, 2), draw(3, 3, 2, 4)
    cases: list[tuple[Op, Any]] = [
        (ops.conv, (w,)),
        (ops.max_pool, ()),
        (ops.avg_pool, ()),
        (ops.relu, ()),
    ]
    for op, weights in cases:
        y, saved = op.run(x, *weights)
        dx, *rest = op.pull(saved, jnp.cos(y))
        total = [0.0 for _ in rest]
        for n in range(len(x)):
            y_n, saved_n = op.run(x[n : n + 1], *weights)
            dx_n, *rest_n = op.pull(saved_n, jnp.cos(y_n))
            exactly(y_n[0], y[n])
            exactly(dx_n[0], dx[n])
            total = [t + d for t, d in zip(total, rest_n, strict=True)]
        for d, t in zip(rest, total, strict=True):
            exactly(d, t)


def test_s0_3_max_pooling() -> None:
    x = image([[29, 15, 28, 184], [0, 100, 70, 38], [12, 12, 7, 2], [12, 12, 45, 6]])
    exactly(ops.max_pool(x)[0, :, :, 0], [[100, 184], [12, 45]])


def test_s0_4_average_pooling() -> None:
    """The document prints 36 for the first: it dropped the half."""
    x = image([[31, 15, 28, 184], [0, 100, 70, 38], [12, 12, 7, 2], [12, 12, 45, 6]])
    exactly(ops.avg_pool(x)[0, :, :, 0], [[36.5, 80], [12, 15]])


def test_s0_5_gradients_of_a_network_with_one_hidden_layer() -> None:
    """The document climbs the log-likelihood J; the loss is −J, so every gradient has the other
    sign."""
    model = models.mlp((4, 3), "sigmoid")
    params, x, labels = started(model, 5), draw(7, 5), jnp.arange(7) % 3
    w, b, v, c = (params[f"dense{n}"][name] for n in (1, 2) for name in ("kernel", "bias"))
    z = jax.nn.sigmoid(x @ w + b[None])
    y, t = jax.nn.softmax(z @ v + c[None]), jax.nn.one_hot(labels, 3, dtype=x.dtype)
    likelihood = (t * jnp.log(y)).sum()
    (loss, _), _ = value_and_grad(model, ops.softmax_cross_entropy)(params, {}, x, labels)
    exactly(-loss * 7, likelihood)
    grads = gradients(model, ops.softmax_cross_entropy, params, x, labels)
    hidden = ((t - y) @ v.T) * z * (1 - z)
    exactly(-grads["dense2"]["kernel"], z.T @ (t - y))
    exactly(-grads["dense2"]["bias"], (t - y).sum(0))
    exactly(-grads["dense1"]["kernel"], x.T @ hidden)
    exactly(-grads["dense1"]["bias"], hidden.sum(0))


def test_s0_6_derivatives_in_terms_of_the_output() -> None:
    """Only z is kept, and z is enough."""
    x, dy = draw(50), draw(50, 1)[:, 0]
    for op, derivative in (
        (ops.sigmoid.using(keep="y"), lambda z: z * (1 - z)),
        (ops.tanh, lambda z: 1 - z**2),
        (ops.relu, lambda z: z > 0),
    ):
        settings: Any = dict(op.fixed)
        z, kept = op.forward(x, **settings)
        assert kept is z
        exactly(op.backward(z, dy, **settings)[0], derivative(z) * dy)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_s0_7_deltas_of_a_network_of_any_depth(depth: int) -> None:
    """δ^(L) = Y − T for a loss that descends, δ^(l) = (δ^(l+1) W^(l+1)ᵀ) ⊙ Z'^(l), ∇W^(l) =
    Z^(l−1)ᵀ δ^(l), ∇b^(l) = Σ δ^(l)."""
    model = models.mlp((4,) * (depth - 1) + (3,), "tanh")
    params, x, labels = started(model, 5), draw(6, 5), jnp.arange(6) % 3
    z = [x]
    for number in range(1, depth + 1):
        a = z[-1] @ params[f"dense{number}"]["kernel"] + params[f"dense{number}"]["bias"][None]
        z.append(jnp.tanh(a) if number < depth else jax.nn.softmax(a))
    found = error_signals(model, ops.softmax_cross_entropy, params, x, labels)
    grads = gradients(model, ops.softmax_cross_entropy, params, x, labels)
    delta = z[-1] - jax.nn.one_hot(labels, 3, dtype=x.dtype)
    for number in range(depth, 0, -1):
        exactly(found[f"dense{number}"], delta)
        exactly(grads[f"dense{number}"]["kernel"], z[number - 1].T @ delta)
        exactly(grads[f"dense{number}"]["bias"], delta.sum(0))
        delta = (delta @ params[f"dense{number}"]["kernel"].T) * (1 - z[number - 1] ** 2)


# S1: a worked backpropagation

ALPHA = LAMBDA = 0.1
# w ← w − α (∂L_i/∂w + λ w)
DESCEND = optax.chain(optax.add_decayed_weights(LAMBDA), optax.sgd(ALPHA))
PATTERN, TARGET = np.array([1.0, 1, 0, 0, 0])[None, :, None], np.array([0])


def sample() -> tuple[layers.Serial, Any]:
    """The network of the sample run, with the weights that its arithmetic pins down."""
    params = {
        "conv": {"kernel": jnp.array([0.1, -0.1]).reshape(2, 1, 1)},
        "hidden": {"kernel": jnp.array([[-0.1, 0.1], [0.2, -0.1]])},  # rows A, B; columns C, D
        "scores": {"kernel": jnp.array([[0.1, 0.2], [0.1, -0.2 / 2]])},  # rows C, D; columns 1, 2
    }
    return models.seesaw_cnn(), params


def moved(params: Any, grads: Any) -> Any:
    """Δw of every weight, all from the old weights."""
    updates, _ = DESCEND.update(grads, DESCEND.init(params), params)
    return updates


def test_s1_1_weight_decay() -> None:
    """∂(L_i + ½ λ Σ w²)/∂w = ∂L_i/∂w + λ w: as a pair, and as what an optimizer adds."""
    w, saved = draw(3, 4), None
    value, saved = ops.l2.run(w)
    exactly(value, (w**2).sum() / 2)
    exactly(LAMBDA * ops.l2.pull(saved, jnp.ones(()))[0], LAMBDA * w)
    model = models.mlp((3,))
    params, x, labels = started(model, 4), draw(5, 4), jnp.arange(5) % 3
    _, grads = value_and_grad(model, ops.softmax_cross_entropy)(params, {}, x, labels)

    def with_penalty(params: Any) -> jax.Array:
        data = ops.softmax_cross_entropy(model.apply(params, {}, x)[0], labels).mean()
        return data + LAMBDA * sum(ops.l2(leaf) for leaf in jax.tree.leaves(params))

    jax.tree.map(
        lambda du, d: exactly(du, -ALPHA * d), moved(params, grads), jax.grad(with_penalty)(params)
    )


def test_s1_2_gradient_of_the_scores() -> None:
    f, labels = (
        jnp.concatenate([draw(5, 4), jnp.array([[1e4, -1e4, 0, 9999.0]])]),
        jnp.array([0, 1, 2, 3, 0, 1]),
    )
    loss, saved = ops.softmax_cross_entropy.run(f, labels)
    (df,) = [d for d in ops.softmax_cross_entropy.pull(saved, jnp.ones_like(loss)) if d is not None]
    exactly(df, jax.nn.softmax(f) - jax.nn.one_hot(labels, 4, dtype=f.dtype))
    exactly(loss[-1], 2e4 + math.log1p(math.exp(-1)))
    assert jnp.isfinite(loss).all()


def test_s1_3_gradient_of_a_hidden_weight() -> None:
    """(Σ_f ∂L/∂f · w) · f(1 − f) · out."""
    model, params = sample()
    found = error_signals(model, ops.softmax_cross_entropy, params, PATTERN, TARGET)
    grads = gradients(model, ops.softmax_cross_entropy, params, PATTERN, TARGET)
    out, w = jnp.array([0.1, 0.0]), params["scores"]["kernel"]
    hidden = jax.nn.sigmoid(out @ params["hidden"]["kernel"])
    for i, h in itertools.product(range(2), range(2)):
        wanted = (found["scores"][0] * w[h]).sum() * hidden[h] * (1 - hidden[h]) * out[i]
        exactly(grads["hidden"]["kernel"][i, h], wanted)


def test_s1_4_max_pool_sends_all_to_the_largest() -> None:
    x = jnp.array([0.3, 0.1, 0.2, 0.7])[None, :, None]
    y, saved = ops.max_pool.run(x, window=2)
    (dx,) = ops.max_pool.pull(saved, jnp.array([5.0, 7.0])[None, :, None])
    exactly(y[0, :, 0], [0.3, 0.7])
    exactly(dx[0, :, 0], [5, 0, 0, 7])


def test_s1_5_relu_at_zero() -> None:
    """The document lets the gradient pass at 0; JAX and PyTorch do not, and neither does the
    default here."""
    x, dy = jnp.array([-1.0, 0.0, 1.0]), jnp.ones(3)
    for setting, wanted in (({}, [0, 0, 1]), ({"at_zero": 1.0}, [0, 1, 1])):
        _, saved = ops.relu.run(x, **setting)
        exactly(ops.relu.pull(saved, dy)[0], wanted)


def test_s1_6_gradient_of_a_shared_filter() -> None:
    """Input of 5, filter of 2: ∂L/∂w1 = Σ ∂L/∂f_i · In_i, ∂L/∂w2 = Σ ∂L/∂f_i · In_{i+1}."""
    x, w, df = draw(5), draw(2), draw(4)
    f, saved = ops.conv.run(x.reshape(1, 5, 1), w.reshape(2, 1, 1), padding="VALID")
    _, dw = ops.conv.pull(saved, df.reshape(1, 4, 1))
    exactly(f[0, :, 0], [w[0] * x[i] + w[1] * x[i + 1] for i in range(4)])
    exactly(dw[:, 0, 0], [(df * x[:4]).sum(), (df * x[1:]).sum()])


def test_s1_7_the_sample_run() -> None:
    """Number by number; ``python -m experiments.walkthrough`` prints them beside the document's,
    with the reason for each difference."""
    model, params = sample()
    (scores, _), _ = model.forward(params, {}, jnp.asarray(PATTERN))
    near = functools.partial(np.testing.assert_allclose, atol=5e-9)
    near(scores, [[0.1, 0.04925031]], atol=5e-6)
    p = jax.nn.softmax(scores)
    near(p, [[0.51268, 0.48732]], atol=5e-6)
    loss = ops.softmax_cross_entropy(scores, jnp.asarray(TARGET))
    near(loss, [0.66809], atol=5e-6)
    near(loss / math.log(10), [0.29015], atol=5e-6)  # the document's 0.29 is this one
    found = error_signals(model, ops.softmax_cross_entropy, params, PATTERN, TARGET)
    near(found["scores"], [[-0.487315, 0.487315]], atol=5e-7)
    near(found["pool"][0, :, 0], [-0.00365477, 0.00487303])
    through = found["scores"].round(2) @ params["scores"]["kernel"].T @ params["hidden"]["kernel"].T
    near(through, [[-0.0147, 0.0196]])  # the document's: without σ'(C) and σ'(D)
    # the pool's tie goes to the first of the two
    near(found["relu"][0, :, 0], [0, -0.00365477, 0.00487303, 0])
    near(found["conv"][0, :, 0], [0, -0.00365477, 0, 0])  # and nothing passes a ReLU at 0
    pass_at_zero = layers.serial(**{**model.layers, "relu": layers.of(ops.relu.using(at_zero=1.0))})
    near(
        error_signals(pass_at_zero, ops.softmax_cross_entropy, params, PATTERN, TARGET)["conv"][
            0, :, 0
        ],
        [0, -0.00365477, 0.00487303, 0],
    )
    delta_w = moved(params, gradients(model, ops.softmax_cross_entropy, params, PATTERN, TARGET))
    near(delta_w["scores"]["kernel"][0, 0], 0.02324393)
    near(delta_w["hidden"]["kernel"][0, 0], 0.00087817)
    near(delta_w["conv"]["kernel"][:, 0, 0], [-0.00063452, 0.001])
    same = gradients(pass_at_zero, ops.softmax_cross_entropy, params, PATTERN, TARGET)["conv"][
        "kernel"
    ]
    # as both inputs of the tie are 0, the convention does not show in the filter
    near(same[:, 0, 0], [-0.00365477, 0])


def test_s1_9_all_weights_move_from_the_old_weights() -> None:
    """p = (0.3, 0.7) and target 2: ∂L/∂f = (0.3, −0.3). Updating w1…w4 before w5…w8 are computed
    gives something else."""
    model = layers.serial(
        hidden=layers.dense(2, bias=False),
        sigmoid=layers.activation("sigmoid"),
        scores=layers.dense(2, bias=False),
    )
    x, target, w_hidden = (
        jnp.array([[0.4, 0.2]]),
        jnp.array([1]),
        jnp.array([[0.5, -0.3], [-1.0, 0.6]]),
    )
    exactly(x @ w_hidden, 0)  # so C = D = ½
    w_scores = jnp.array([[0.1, 0.2], [0.3, 0.2 + 2 * math.log(7 / 3)]])
    params = {"hidden": {"kernel": w_hidden}, "scores": {"kernel": w_scores}}
    df = error_signals(model, ops.softmax_cross_entropy, params, x, target)["scores"]
    exactly(df, [[0.3, -0.3]])
    optimizer = optax.chain(optax.add_decayed_weights(LAMBDA), optax.sgd(ALPHA))
    step = train.make_step(train.Recipe(model, ops.softmax_cross_entropy, optimizer))
    start = train.TrainState(
        jax.tree.map(jnp.copy, params), {}, optimizer.init(params), jnp.int32(0)
    )
    after = step(start, x, target, jax.random.key(0))[0].params
    new_scores = w_scores - ALPHA * (0.5 * df + LAMBDA * w_scores)
    exactly(after["scores"]["kernel"], new_scores)

    def new_hidden(w_scores: jax.Array) -> jax.Array:
        return w_hidden - ALPHA * (x.T @ ((df @ w_scores.T) * 0.25) + LAMBDA * w_hidden)

    exactly(after["hidden"]["kernel"], new_hidden(w_scores))
    assert np.abs(new_hidden(new_scores) - new_hidden(w_scores)).max() > 1e-5


# S2: two layers as matrices


def test_s2_1_two_layers() -> None:
    """n = Wᵀâ + b with W of shape (H, L), a = σ(n)."""
    w, b, a = draw(3, 4), draw(4), draw(3)
    exactly(ops.sigmoid(ops.dense(a, w, b)), 1 / (1 + np.exp(-(w.T @ a + b))))


def test_s2_2_losses() -> None:
    y, t = draw(6, 3), draw(6, 3) + 1
    exactly(ops.squared_error(y, t).sum(), ((t - y) ** 2).sum())
    exactly(ops.squared_error(y, t).mean(), ((t - y) ** 2).sum() / 6)
    rows = jax.nn.softmax(t)
    exactly(ops.softmax_cross_entropy(y, rows).sum(), -(rows * jnp.log(jax.nn.softmax(y))).sum())


def test_s2_3_the_recursion_of_s() -> None:
    """S = −2 A e at the output and Ŝ = Â W S below, with A = diag σ'(n); ∂f/∂W = â Sᵀ, ∂f/∂b = S.
    On four layers, one pattern."""
    parts = {}
    for number, width in enumerate((4, 5, 3, 2), start=1):
        parts |= {
            f"dense{number}": layers.dense(width),
            f"sigmoid{number}": layers.activation("sigmoid"),
        }
    model = layers.serial(**parts)
    params, x, t = started(model, 3), draw(1, 3), draw(1, 2)
    a = [x[0]]
    for number in range(1, 5):
        a.append(
            jax.nn.sigmoid(
                a[-1] @ params[f"dense{number}"]["kernel"] + params[f"dense{number}"]["bias"]
            )
        )
    found = error_signals(model, ops.squared_error, params, x, t)
    grads = gradients(model, ops.squared_error, params, x, t)
    s = -2 * jnp.diag(a[4] * (1 - a[4])) @ (t[0] - a[4])
    for number in range(4, 0, -1):
        exactly(found[f"dense{number}"][0], s)
        exactly(grads[f"dense{number}"]["kernel"], jnp.outer(a[number - 1], s))
        exactly(grads[f"dense{number}"]["bias"], s)
        s = jnp.diag(a[number - 1] * (1 - a[number - 1])) @ params[f"dense{number}"]["kernel"] @ s


def test_s2_4_one_pattern_at_a_time() -> None:
    """W ← W − α ∂f/∂W after every pattern, in random order, all in one program."""
    model, optimizer = (
        layers.serial(dense=layers.dense(2), sigmoid=layers.activation("sigmoid")),
        optax.sgd(0.5),
    )
    x, t, order = draw(8, 3), draw(8, 2), np.random.default_rng(1).permutation(8)
    start = train.create(train.Recipe(model, optimizer=optimizer), jax.random.key(0), (3,))
    w, b = np.array(start.params["dense"]["kernel"]), np.array(start.params["dense"]["bias"])
    for n in order:
        a = 1 / (1 + np.exp(-(x[n] @ w + b)))
        s = -2 * a * (1 - a) * (t[n] - a)
        w, b = w - 0.5 * np.outer(x[n], s), b - 0.5 * s
    steps = train.make_steps(train.make_step(train.Recipe(model, ops.squared_error, optimizer)))
    end, _ = steps(start, x, t, jnp.asarray(order)[:, None], jax.random.key(0))
    exactly(end.params["dense"]["kernel"], w)
    exactly(end.params["dense"]["bias"], b)


# S3: training many layers


def test_s3_1_losses_and_where_their_gradients_vanish() -> None:
    y, o = draw(4, 3), draw(4, 3) - 1
    exactly(ops.squared_error(o, y, scale=0.5), ((y - o) ** 2).sum(-1) / 2)
    bits = (y > 0).astype(float)
    sigma = jax.nn.sigmoid(o)
    exactly(
        ops.sigmoid_cross_entropy(o, bits),
        -(bits * jnp.log(sigma) + (1 - bits) * jnp.log(1 - sigma)).sum(-1),
    )
    p = jax.nn.softmax(y)
    exactly(ops.kl_divergence(o, p), (p * jnp.log(p / jax.nn.softmax(o))).sum(-1))
    # written on the output: −1, not 0, at out = p
    exactly(jax.grad(lambda out: -(p * jnp.log(out)).sum())(p), -1)
    for loss, logits, target in (
        (ops.softmax_cross_entropy, y, p),
        (ops.kl_divergence, y, p),
        (ops.sigmoid_cross_entropy, o, sigma),
    ):
        _, saved = loss.run(logits, target)
        exactly(loss.pull(saved, jnp.ones(4))[0], 0)  # written on the scores: 0


def test_s3_2_the_gradient_of_a_sum_is_the_sum_of_the_gradients() -> None:
    model = models.mlp((4, 3), "tanh")
    params, x, labels = started(model, 5), draw(12, 5), jnp.arange(12) % 3
    whole = gradients(model, ops.softmax_cross_entropy, params, x, labels)
    for size in (1, 3, 4):
        parts = [
            gradients(
                model, ops.softmax_cross_entropy, params, x[n : n + size], labels[n : n + size]
            )
            for n in range(0, 12, size)
        ]
        jax.tree.map(lambda total, *parts: exactly(sum(parts), total), whole, *parts)
    alone = jax.vmap(
        lambda x, t: value_and_grad(model, ops.softmax_cross_entropy)(params, {}, x[None], t[None])[
            1
        ]
    )
    jax.tree.map(lambda each, total: exactly(each.sum(0), total), alone(x, labels), whole)
    _, norms = example_norms(model, ops.softmax_cross_entropy)(params, {}, x, labels)
    jax.tree.map(
        lambda each, norm: exactly(jnp.sqrt((each**2).reshape(12, -1).sum(1)), norm),
        alone(x, labels),
        norms,
    )


def test_s3_3_the_threshold_unit_and_what_stands_in_for_its_derivative() -> None:
    x, dy = jnp.array([-2.0, -0.5, 0.5, 2.0]), jnp.array([1.0, 2, 3, 4])
    y, saved = ops.step.run(x)
    exactly(y, [0, 0, 1, 1])
    exactly(ops.step.pull(saved, dy)[0], 0)
    y, saved = straight_through(ops.step).run(x)
    exactly(y, [0, 0, 1, 1])
    exactly(straight_through(ops.step).pull(saved, dy)[0], dy)


def test_s3_4_jacobians() -> None:
    x = draw(5)
    exactly(jax.jacrev(ops.sigmoid)(x), jnp.diag(ops.sigmoid(x) * (1 - ops.sigmoid(x))))
    exactly(jax.jacrev(ops.tanh)(x), jnp.diag(1 - jnp.tanh(x) ** 2))
    y = ops.softmax(x)
    exactly(jax.jacrev(ops.softmax)(x), jnp.diag(y) - jnp.outer(y, y))


def test_s3_5_a_graph_of_nodes() -> None:
    """σ(w0 x0 + w1 x1 + w2): x0 gets 2 · 0.2 = 0.4 and w0 gets −1 · 0.2 = −0.2 in the document,
    which rounds σ' to 0.2."""
    graph = Graph()
    w0, x0, w1, x1, w2 = (
        graph.input(n, v)
        for n, v in (("w0", 2.0), ("x0", -1.0), ("w1", -3.0), ("x1", -2.0), ("w2", -3.0))
    )
    total = graph.add(graph.multiply(w0, x0), graph.multiply(w1, x1), w2)
    out = graph.apply(ops.sigmoid, total)
    found = graph.backward(out)
    exactly(total.value, 1)
    exactly(found["w0"], -0.19661193324148185)
    exactly(found["x0"], 0.3932238664829637)
    assert "0.3932" in str(graph)
    assert "-0.1966" in str(graph)


def test_s3_6_the_square_of_a_product() -> None:
    w, q = draw(3, 4), draw(4)
    r, dense = ops.dense.run(q, w.T)
    f, squared = ops.squared_error.run(r, jnp.zeros(3))
    dr, _ = ops.squared_error.pull(squared, jnp.ones(()))
    dq, dwt, _ = ops.dense.pull(dense, dr)
    exactly(f, ((w @ q) ** 2).sum())
    exactly(dr, 2 * r)
    exactly(dwt.T, 2 * jnp.outer(r, q))
    exactly(dq, 2 * w.T @ r)


def test_s3_7_the_bias_as_one_more_weight() -> None:
    x, w, b, dy = draw(6, 3), draw(3, 4), draw(4), draw(6, 4)
    y, saved = ops.dense.run(x, w, b)
    wider, extended = ops.dense.run(
        jnp.concatenate([x, jnp.ones((6, 1))], 1), jnp.concatenate([w, b[None]])
    )
    exactly(y, wider)
    (dx, dw, db), (dx_and_1, dw_and_b, _) = ops.dense.pull(saved, dy), ops.dense.pull(extended, dy)
    exactly(dx, dx_and_1[:, :-1])
    exactly(jnp.concatenate([dw, db[None]]), dw_and_b)


def test_s3_8_small_changes() -> None:
    """Δz ≈ J Δy: the error falls with the square of the step, for a number, a vector and a function
    of a function."""
    functions: list[tuple[Callable[..., Any], jax.Array]] = [
        (ops.softplus, jnp.asarray(0.3)),
        (ops.softmax, draw(4)),
        (lambda x: ops.tanh(ops.dense(ops.sigmoid(x), draw(4, 3))), draw(4)),
    ]
    for f, y in functions:
        jacobian, along = (
            jax.jacrev(f)(y),
            jnp.cos(jnp.arange(y.size, dtype=float)).reshape(y.shape),
        )
        linear = jnp.tensordot(jacobian, along, y.ndim)
        errors = [
            float(jnp.abs(f(y + h * along) - f(y) - h * linear).max()) for h in (1e-2, 1e-3, 1e-4)
        ]
        for coarse, fine in itertools.pairwise(errors):
            assert 80 < coarse / fine < 125


# S4: modules


def test_s4_1_a_layer_receives_and_hands_back() -> None:
    """From ∂E/∂O: ∂E/∂W[j,i] = ∂E/∂O[i] · H[j] and ∂E/∂H[j] = Σ_i ∂E/∂O[i] W[j,i]."""
    layer = layers.dense(3)
    params, h, d_o = started(layer, 4), draw(1, 4), draw(1, 3)
    _, residuals = layer.forward(params, {}, h)
    grads, d_h = layer.backward(residuals, d_o)
    w = params["kernel"]
    for j in range(4):
        exactly(d_h[0, j], sum(d_o[0, i] * w[j, i] for i in range(3)))
        for i in range(3):
            exactly(grads["kernel"][j, i], d_o[0, i] * h[0, j])
            exactly(
                moved(params, grads)["kernel"][j, i],
                -ALPHA * (d_o[0, i] * h[0, j] + LAMBDA * w[j, i]),
            )


def test_s4_3_softplus() -> None:
    x = jnp.array([-1e4, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4])
    y, saved = ops.softplus.run(x)
    (derivative,) = ops.softplus.pull(saved, jnp.ones_like(x))
    exactly(y[1:-1], np.log1p(np.exp(x[1:-1])))
    exactly(y[jnp.array([0, -1])], [0, 1e4])
    exactly(derivative, 1 / (1 + np.exp(-np.asarray(x).clip(-700))))


def test_s4_5_softmax_output_layer() -> None:
    """O_i = exp(Σ I W_i) / Σ_k exp(Σ I W_k)."""
    x, w = draw(2, 4), draw(4, 3)
    sums = np.exp(np.asarray(x) @ np.asarray(w))
    exactly(ops.softmax(ops.dense(x, w)), sums / sums.sum(-1, keepdims=True))


SOBEL = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
GAUSSIAN = """
0.00000067 0.00002292 0.00019117 0.00038771 0.00019117 0.00002292 0.00000067
0.00002292 0.00078633 0.00655965 0.01330373 0.00655965 0.00078633 0.00002292
0.00019117 0.00655965 0.05472157 0.11098164 0.05472157 0.00655965 0.00019117
0.00038771 0.01330373 0.11098164 0.22518352 0.11098164 0.01330373 0.00038771
0.00019117 0.00655965 0.05472157 0.11098164 0.05472157 0.00655965 0.00019117
0.00002292 0.00078633 0.00655965 0.01330373 0.00655965 0.00078633 0.00002292
0.00000067 0.00002292 0.00019117 0.00038771 0.00019117 0.00002292 0.00000067"""


def test_s4_6_kernels_over_an_image() -> None:
    """Of the 49 printed numbers of the Gaussian the centre alone is off: it should read
    0.22508352."""
    printed = np.array(GAUSSIAN.split(), float).reshape(7, 7)
    across = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 0.84089642**2))
    gaussian = np.outer(across, across) / across.sum() ** 2
    off = np.abs(gaussian - printed)
    assert (off > 1e-8).sum() == 1
    exactly(round(gaussian[3, 3], 8), 0.22508352)
    down, along = np.mgrid[0:9, 0:9]
    slope = image(3.0 * along + 4.0 * down)
    kernels = jnp.stack([SOBEL, SOBEL.T], -1)[:, :, None]
    gx, gy = jnp.moveaxis(ops.conv(slope, kernels, padding="VALID")[0], -1, 0)
    exactly(jnp.hypot(gx, gy), 8 * 5.0)
    exactly(jnp.arctan2(gy, gx), math.atan2(4, 3))
    blurred = ops.conv(slope, jnp.asarray(gaussian)[:, :, None, None], padding="VALID")
    exactly(blurred[0, 1, 1, 0], slope[0, 4, 4, 0])  # a slope is the same after a symmetric blur


def test_s4_7_shapes_and_counts() -> None:
    """9×9, padding 2, stride 2, 3×3: 36 places share 9 weights instead of 324; 3 channels and 3
    filters make 81."""
    layer = layers.conv(1, window=3, stride=2, padding=2, bias=False)
    params = started(layer, 9, 9, 1)
    assert layer.output_shape(params, {}, (9, 9, 1)) == (6, 6, 1)
    assert params["kernel"].size == 9
    assert params["kernel"].size * math.prod(layer.output_shape(params, {}, (9, 9, 1))) == 324
    assert (
        started(layers.conv(3, window=3, stride=2, padding=2, bias=False), 9, 9, 3)["kernel"].size
        == 81
    )


def test_s4_8_shared_weights_add_up() -> None:
    """A layer in which every place has a kernel of its own, all equal: its gradients, added, are
    those of the shared kernel."""
    x, w, dy = draw(2, 5, 5, 2), draw(3, 3, 2, 4), draw(2, 3, 3, 4)
    own = jnp.broadcast_to(w, (3, 3, *w.shape))
    seen = ops.patches(x, window=3)

    def unshared(own: jax.Array) -> jax.Array:
        return jnp.einsum("nhwklc,hwklco->nhwo", seen, own)

    y, saved = ops.conv.run(x, w, padding="VALID")
    exactly(unshared(own), y)
    (alone,) = jax.vjp(unshared, own)[1](dy)
    exactly(alone.sum((0, 1)), ops.conv.pull(saved, dy)[1])


def test_s4_9_pooling_in_nine_regions() -> None:
    x, dy = draw(1, 9, 9, 1), draw(1, 3, 3, 1)
    y, saved = ops.max_pool.run(x, window=3)
    (dx,) = ops.max_pool.pull(saved, dy)
    assert y.shape == (1, 3, 3, 1)
    for i, j in itertools.product(range(3), range(3)):
        region, error = (a[0, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3, 0] for a in (x, dx))
        exactly(y[0, i, j, 0], region.max())
        exactly(error, jnp.where(region == region.max(), dy[0, i, j, 0], 0))


def test_s4_10_rectifiers_leave_units_off() -> None:
    """Of ReLU units about a half are silent, in the activations and in δ alike; of sigmoid units
    none."""
    shares = {}
    for name in ("relu", "sigmoid"):
        model = models.mlp((64, 64, 64, 3), name)
        params, x, labels = started(model, 20), draw(200, 20), jnp.arange(200) % 3
        found = error_signals(model, ops.softmax_cross_entropy, params, x, labels)
        outputs = activations(model, params, {}, x)
        for number in range(1, 4):
            active, error = outputs[f"{name}{number}"], found[f"dense{number}"]
            shares[name, number] = float((active == 0).mean()), float((error == 0).mean())
    for number in range(1, 4):
        assert shares["sigmoid", number] == (0, 0)
        silent, without_error = shares["relu", number]
        assert 0.4 < silent < 0.6
        assert without_error == pytest.approx(silent)


def test_s4_11_any_function_of_a_neighbourhood() -> None:
    """The median filter: an outlier is gone, an edge stays; its gradient goes to the pixel that is
    the median."""
    x = image(np.where(np.arange(7) > 3, 1.0, 0.0) * np.ones((7, 1))).at[0, 2, 1, 0].set(9.0)

    def median(x: jax.Array) -> jax.Array:
        return jnp.median(ops.patches(x, window=3), axis=(3, 4))

    exactly(median(x)[0, :, :, 0], np.where(np.arange(1, 6) > 3, 1.0, 0.0) * np.ones((5, 1)))
    spread = image(np.random.default_rng(0).permutation(49).reshape(7, 7))
    dx = jax.grad(lambda x: median(x)[0, 2, 2, 0])(spread)
    exactly(dx, spread == median(spread)[0, 2, 2, 0])
