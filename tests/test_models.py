"""A composition of pairs is a pair: whole models, by hand and by jax.grad, the same numbers."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import deltas, layers, models, ops, value_and_grad
from jaxcnn.layers import _chain as chain
from jaxcnn.train import Recipe, make_predict

SHAPES = {
    "lenet": (models.lenet(classes=3), (14, 14, 1)),
    "vgg6": (models.vgg6(classes=3), (8, 8, 3)),
    "resnet20": (models.resnet20(classes=3), (8, 8, 3)),
    "mlp": (models.mlp((5, 4, 3), "tanh"), (6,)),
    "seesaw": (models.seesaw_cnn(), (5, 1)),
    "recurrent": (layers.serial(rnn1=layers.rnn(4), rnn2=layers.rnn(3), flatten=layers.flatten(), out=layers.dense(3)), (4, 2)),
    "deep": (
        layers.serial(
            conv=layers.conv(4, window=3, stride=2),
            norm=layers.group_norm(2),
            up=layers.conv_transpose(2, stride=2),
            norm2=layers.layer_norm(),
            gelu=layers.activation("gelu"),
            bias=layers.bias(),
            pool=layers.avg_pool(2),
            flatten=layers.flatten(),
            repeat=layers.repeat(layers.serial(dense=layers.dense(8), tanh=layers.activation("tanh"), drop=layers.dropout(0.2)), 3),
            out=layers.dense(3),
        ),
        (4, 4, 3),
    ),
}  # fmt: skip


def setup(name, batch=4):
    model, shape = SHAPES[name]
    params, state = model.init(jax.random.key(0), shape)
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), (params, state))
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.standard_normal((batch, *shape)))
    classes = 2 if name == "seesaw" else 3
    return model, *wide, x, jnp.asarray(rng.integers(classes, size=batch))


def by_autodiff(model, loss, params, state, x, target, key, train):
    def mean_loss(params):
        y, new = model.apply(params, state, x, key, train=train)
        return loss(y, target).mean(), new

    return jax.value_and_grad(mean_loss, has_aux=True)(params)


def close(a, b, tolerance=1e-12):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        assert got.dtype == want.dtype
        scale = max(float(jnp.abs(want).max()), 1e-300)
        assert float(jnp.abs(got - want).max()) <= tolerance * max(scale, 1.0), (
            jax.tree_util.keystr(path)
        )


# Those that take longest to compile; vgg6 is also held against autodiff's in test_bench_peers
LONG = {("vgg6", True), ("vgg6", False), ("resnet20", False)}


@pytest.mark.parametrize(
    ("name", "train"),
    [
        pytest.param(name, train, marks=[pytest.mark.slow] * ((name, train) in LONG))
        for name in SHAPES
        for train in (True, False)
    ],
)
def test_explicit_gradient_equals_jax_grad(name, train, x64):
    model, params, state, x, target = setup(name)
    key = jax.random.key(3)
    explicit = jax.jit(
        functools.partial(value_and_grad(model, ops.softmax_cross_entropy), train=train)
    )
    (value, new_state), grads = explicit(params, state, x, target, key)
    wired = jax.jit(by_autodiff, static_argnums=(0, 1, 7))
    (true_value, true_state), true_grads = wired(
        model, ops.softmax_cross_entropy, params, state, x, target, key, train
    )
    assert abs(float(value - true_value)) < 1e-12
    close(grads, true_grads)
    close(new_state, true_state)
    assert jax.tree.structure(grads) == jax.tree.structure(params)


@pytest.mark.parametrize(
    "name", ["lenet", pytest.param("resnet20", marks=pytest.mark.slow), "deep"]
)
def test_explicit_gradient_equals_autodiff_through_the_plain_forwards(name, x64):
    """Through the unwired forwards JAX's autodiff never sees a hand-written rule: an independent
    answer for the whole model."""
    model, params, state, x, target = setup(name)
    key = jax.random.key(3)
    (value, _), grads = jax.jit(value_and_grad(model, ops.softmax_cross_entropy))(
        params, state, x, target, key
    )

    def plain_loss(params):
        (y, _), _ = model.forward(params, state, x, key, train=True)
        return ops.softmax_cross_entropy.plain(y, target).mean()

    true_value, true_grads = jax.jit(jax.value_and_grad(plain_loss))(params)
    assert abs(float(value - true_value)) < 1e-12
    close(grads, true_grads, 1e-10)


def test_the_model_is_a_pair_for_its_input_too(x64):
    model, params, state, x, _ = setup("lenet")
    (y, _), residuals = jax.jit(model.forward)(params, state, x)
    _, dx = jax.jit(model.backward)(residuals, y)
    true_dx = jax.grad(lambda x: (model.apply(params, state, x)[0] ** 2).sum() / 2)(x)
    close(dx, true_dx)


def poisoned(op):
    return op.replace(
        backward=lambda *args, **settings: jax.tree.map(
            lambda d: d * jnp.nan, op.backward(*args, **settings)
        )
    )


@pytest.mark.parametrize("way", [pytest.param("explicit", marks=pytest.mark.slow), "jax.grad"])
@pytest.mark.parametrize(
    "where",
    [
        "conv1",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("relu1", "pool1", "conv2")),
        "dense1",
    ],
)
def test_poison_in_one_backward_reaches_every_gradient_behind_it_and_no_other(where, way):
    sound: dict[str, Any] = dict(models.lenet(classes=3).layers)
    sick = dict(sound)
    links = tuple(chain.Link(poisoned(link.op), link.parameters) for link in sound[where].links)
    sick[where] = chain.Chain(links, sound[where].parameters)
    model = layers.serial(**sick)
    params, state = model.init(jax.random.key(0), (14, 14, 1))
    x, target = jnp.ones((2, 14, 14, 1)), jnp.array([0, 1])
    if way == "explicit":
        (value, _), grads = value_and_grad(model, ops.softmax_cross_entropy)(
            params, state, x, target, train=False
        )
    else:
        (value, _), grads = by_autodiff(
            model, ops.softmax_cross_entropy, params, state, x, target, None, False
        )
    assert jnp.isfinite(value)
    behind = True
    for name in sick:
        for grad in jax.tree.leaves(grads.get(name, {})):
            assert bool(jnp.isnan(grad).any()) == behind, (
                name
            )  # not all: a silent ReLU lets nothing through, NaN neither
        behind = behind and name != where


def test_deltas_by_name_follow_the_matrix_recursion(x64):
    """S0.7: δ^(L) = Y − T, δ^(l) = (δ^(l+1) Wᵀ) ⊙ Z'."""
    model = models.mlp((5, 4, 3, 2), "tanh")
    params, state = model.init(jax.random.key(0), (6,))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), params)
    x, target = (
        jnp.asarray(np.random.default_rng(0).standard_normal((7, 6))),
        jnp.array([0, 1, 0, 1, 1, 0, 0]),
    )
    (y, _), residuals = model.forward(params, state, x)
    dy = jax.nn.softmax(y) - jax.nn.one_hot(target, 2, dtype=y.dtype)
    found = deltas(model, residuals, dy)
    assert list(found) == [
        "flatten",
        "dense1",
        "tanh1",
        "dense2",
        "tanh2",
        "dense3",
        "tanh3",
        "dense4",
    ]
    z, activations = x, [x]
    for level in (1, 2, 3):
        z = jnp.tanh(z @ params[f"dense{level}"]["kernel"] + params[f"dense{level}"]["bias"][None])
        activations.append(z)
    delta = dy
    for level in (4, 3, 2, 1):
        np.testing.assert_allclose(found[f"dense{level}"], delta, atol=1e-13)
        delta = (delta @ params[f"dense{level}"]["kernel"].T) * (1 - activations[level - 1] ** 2)


def test_deltas_reach_inside_repeated_layers(x64):
    model, params, state, x, _ = setup("deep")
    (y, _), residuals = model.forward(params, state, x)
    found = deltas(model, residuals, y)
    assert [name for name in found if name.startswith("repeat/1")] == [
        "repeat/1/dense",
        "repeat/1/tanh",
        "repeat/1/drop",
        "repeat/1",
    ]
    np.testing.assert_array_equal(found["repeat/2"], found["repeat"])
    assert found["repeat/0/dense"].shape == (4, 8)


def test_float64_models_start_in_float64(x64):
    model = layers.serial(
        conv=layers.conv(2),
        norm=layers.batch_norm(),
        flatten=layers.flatten(),
        dense=layers.dense(2),
    )
    params, state = model.init(jax.random.key(0), (3, 3, 1))
    assert {leaf.dtype.name for leaf in jax.tree.leaves((params, state))} == {"float64"}
    assert model.apply(params, state, jnp.ones((2, 3, 3, 1)))[0].dtype == "float64"


def test_deltas_reach_inside_blocks():
    model, shape = SHAPES["resnet20"]

    def follow(key, x):
        (y, _), residuals = model.forward(*model.init(key, shape), x, train=True)
        found = deltas(model, residuals, y)
        assert found["dense"] is y
        return found

    found = jax.eval_shape(follow, jax.random.key(0), jnp.ones((2, *shape)))
    assert {
        "conv",
        "block1_1",
        "block1_1/body",
        "block1_1/body/conv1",
        "block2_1/shortcut/conv",
        "dense",
    } <= set(found)
    assert found["block1_1/body"].shape == (2, *shape[:2], 16)


def test_batch_norm_state_moves_in_training_only_and_carries_no_gradient():
    model = layers.serial(norm=layers.batch_norm(momentum=0.9))
    params, state = model.init(jax.random.key(0), (2,))
    x = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    _, trained = model.apply(params, state, x, train=True)
    np.testing.assert_allclose(trained["norm"]["mean"], [0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(trained["norm"]["var"], [0.9 + 0.1 * 1, 0.9 + 0.1 * 4], rtol=1e-6)
    _, evaluated = model.apply(params, state, x)
    assert jax.tree.all(jax.tree.map(np.array_equal, evaluated, state))
    through_state = jax.grad(
        lambda x: sum(
            jnp.sum(s) for s in jax.tree.leaves(model.apply(params, state, x, train=True)[1])
        )
    )(x)
    np.testing.assert_array_equal(through_state, 0)


@pytest.mark.parametrize("name", ["lenet", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_the_whole_step_is_sharded_over_devices_like_any_function(name):
    model, shape = SHAPES[name]
    params, state = model.init(jax.random.key(0), shape)
    rng = np.random.default_rng(0)
    x, target = (
        jnp.asarray(rng.standard_normal((16, *shape)), jnp.float32),
        jnp.asarray(rng.integers(3, size=16)),
    )
    step = jax.jit(
        functools.partial(value_and_grad(model, ops.softmax_cross_entropy), train=name != "lenet")
    )
    (value, _), grads = step(params, state, x, target)
    for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            laid = [
                jax.device_put(v, jax.sharding.NamedSharding(mesh, jax.P("data")))
                for v in (x, target)
            ]
            weights, running = jax.device_put(
                (params, state), jax.sharding.NamedSharding(mesh, jax.P())
            )
            (sharded_value, _), sharded = step(weights, running, *laid)
        np.testing.assert_allclose(sharded_value, value, rtol=1e-5)
        for got, want in zip(jax.tree.leaves(sharded), jax.tree.leaves(grads), strict=True):
            assert float(jnp.abs(np.asarray(got) - want).max()) <= 2e-6 * max(
                1.0, float(jnp.abs(want).max())
            )


def test_summary_counts_what_is_kept_once(capsys):
    models.lenet().summary((28, 28, 1), batch=128)
    rows = {
        line.split()[0]: line.split()
        for line in capsys.readouterr().out.splitlines()
        if line and line[0] != "-"
    }
    assert rows["conv1"][-2:] == ["832", "0"]
    assert rows["relu1"][-2:] == ["0", f"{128 * 14 * 14 * 32 * 4:,}"]
    assert rows["pool1"][-2:] == ["0", f"{128 * 14 * 14 * 32:,}"]  # one byte an output
    assert rows["total"][1] == "1,630,602"


misspelt: dict[str, Any] = {"strides": 2}


@pytest.mark.parametrize(
    ("build", "shape", "words"),
    [
        (lambda: models.lenet(), (3, 3, 1), ["max_pool: the window covers 2 cells", "in layer `pool2`"]),
        (lambda: models.lenet(), (28,), ["conv: needs inputs with 2 axes or more", "in layer `conv1`"]),
        (lambda: layers.residual(layers.dense(3)), (4,), ["residual: body gives (3,) but the shortcut (4,)"]),
        (lambda: layers.repeat(layers.dense(3), 2), (4,), ["repeat: the layer must keep its input's shape (4,), but gives (3,)"]),
        (lambda: layers.rnn(3), (4,), ["rnn: needs inputs of shape (steps, features)"]),
        (lambda: models.mlp(()), (4,), ["mlp: `widths` needs at least"]),
        (lambda: layers.activation("relux"), (4,), ["activation must be an Op or one of relu"]),
        (lambda: layers.conv(3, groups=2), (4, 4, 2), ["conv: setting `groups` must be a divisor of the 3 features"]),
        (lambda: layers.dense(0), (4,), ["dense: setting `features` must be an integer ≥ 1"]),
        (lambda: layers.dropout(1.0), (4,), ["dropout: setting `rate` must be a number in [0, 1)"]),
        (lambda: layers.conv(4, **misspelt), (4, 4, 1), ["strides"]),
        (lambda: inspect.unwrap(layers.serial)(a=ops.relu), (4,), ["serial: `a` must be a Layer, got Op; wrap an op as layers.of(op)"]),
    ],
)  # fmt: skip
def test_bad_models_say_where(build, shape, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        build().init(jax.random.key(0), shape)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert all(word in told for word in words), told


@pytest.mark.parametrize("name", ["lenet", "resnet20", "deep"])
def test_exported_for_any_size_of_batch(name, x64):
    """The convolutions' fast roads, which count the examples, are not taken there."""
    model, shape = SHAPES[name]
    params, state = model.init(jax.random.key(0), shape)
    forward = make_predict(Recipe(model))
    (n,) = jax.export.symbolic_shape("n")
    exported = jax.export.export(forward)(
        params, state, jax.ShapeDtypeStruct((n, *shape), "float64")
    )
    for size in 1, 5:
        x = jax.random.normal(jax.random.key(1), (size, *shape))
        y = exported.call(params, state, x)
        np.testing.assert_allclose(y, forward(params, state, x), rtol=1e-9, atol=1e-9)


def test_dropout_needs_a_key_in_training_only():
    model = layers.serial(drop=layers.dropout(0.5))
    assert model.apply({}, {}, jnp.ones((2, 3)))[0].sum() == 6
    with pytest.raises(ValueError, match="dropout: `key` is needed in training"):
        model.apply({}, {}, jnp.ones((2, 3)), train=True)


def test_missing_parameters_are_named():
    model = models.mlp((3,))
    with pytest.raises(ValueError, match="parameter `kernel` is missing") as caught:
        model.apply({}, {}, jnp.ones((2, 4)))
    assert (
        "in layer `dense1`, whose input has shape (4,) without the batch" in caught.value.__notes__
    )


def test_a_loss_that_is_no_op_is_refused():
    with pytest.raises(TypeError, match="value_and_grad: `loss` must be an Op"):
        inspect.unwrap(value_and_grad)(models.mlp((2,)), jnp.square)


def test_an_explicit_mesh_needs_no_context():
    """The mesh is read off the arrays where nobody has set one."""
    mesh = jax.make_mesh((8,), ("data",))
    x = jax.device_put(jnp.ones((8, 3)), jax.sharding.NamedSharding(mesh, jax.P("data")))
    w = jax.device_put(jnp.ones((3, 2)), jax.sharding.NamedSharding(mesh, jax.P()))
    grad = jax.jit(jax.grad(lambda w, x: ops.dense(x, w).sum()))(w, x)
    np.testing.assert_array_equal(grad, 8.0)


def test_a_kernel_size_has_an_older_name():
    key = jax.random.key(0)
    for make, shape in ((layers.conv, (5, 5, 2)), (layers.conv_transpose, (5, 5, 2))):
        new, old = make(4, kernel_size=(1, 2)), make(4, window=(1, 2))
        assert new.init(key, shape)[0]["kernel"].shape == old.init(key, shape)[0]["kernel"].shape
        assert make(4).init(key, shape)[0]["kernel"].shape[:2] == (3, 3)
        with pytest.raises(ValueError, match="`kernel_size` must be given once"):
            make(4, kernel_size=3, window=3)
