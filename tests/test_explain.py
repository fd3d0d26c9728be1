"""What a network sees: each map beside its definition, computed another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import activations, deltas, layers, models, ops, verify
from jaxcnn.explain import (
    Graph,
    class_gradient,
    grad_cam,
    maximise,
    occlusion,
    seen_by,
    top_patches,
    until,
)
from jaxcnn.explain._graph import ADD, MULTIPLY

MODEL = layers.serial(
    conv1=layers.conv(3, window=3, stride=2),
    tanh=layers.activation("tanh"),
    pool=layers.max_pool(2),
    conv2=layers.conv(4, window=(3, 2), padding="VALID", dilation=(1, 2)),
    relu=layers.relu(),
    avg=layers.avg_pool(2, stride=1),
    flatten=layers.flatten(),
    dense=layers.dense(3),
)
X = jax.random.normal(jax.random.key(0), (4, 18, 18, 2))
CLASSES = jnp.array([0, 1, 2, 0])
PARAMS, STATE = MODEL.init(jax.random.key(1), X.shape[1:])


def own(model: layers.Serial) -> dict:
    """The parameters of its layers."""
    return {name: part for name, part in PARAMS.items() if name in model.layers}


def scores(x: jax.Array) -> jax.Array:
    y, _ = MODEL.apply(PARAMS, STATE, x)
    return jnp.take_along_axis(y, CLASSES[:, None], 1)[:, 0]


def test_activations_are_the_outputs_of_the_layers() -> None:
    found = activations(MODEL, PARAMS, STATE, X)
    assert list(found) == list(MODEL.layers)
    x = X
    for name, layer in MODEL.layers.items():
        x, _ = layer.apply(PARAMS.get(name, {}), {}, x)
        np.testing.assert_allclose(found[name], x, rtol=1e-5, atol=1e-6)


def test_activations_reach_inside_and_have_the_names_of_the_deltas() -> None:
    inner = layers.serial(dense=layers.dense(4), tanh=layers.activation("tanh"))
    model = layers.serial(
        deep=layers.repeat(inner, 3), block=layers.residual(inner, layers.dense(4))
    )
    params, state = model.init(jax.random.key(0), (4,))
    x = jnp.ones((2, 4))
    (y, _), residuals = model.forward(params, state, x)
    found = activations(model, params, state, x)
    assert set(found) == set(deltas(model, residuals, y))
    np.testing.assert_array_equal(found["block"], y)
    np.testing.assert_allclose(found["block/body"] + found["block/shortcut"], y, rtol=1e-6)
    np.testing.assert_array_equal(found["deep/2"], found["deep"])
    first = {name: {k: v[0] for k, v in part.items()} for name, part in params["deep"].items()}
    np.testing.assert_allclose(found["deep/0"], inner.apply(first, {}, x)[0], rtol=1e-6)


def test_the_class_gradient_is_the_scores_gradient() -> None:
    got = class_gradient(MODEL, PARAMS, STATE, X, CLASSES)
    np.testing.assert_allclose(got, jax.grad(lambda x: scores(x).sum())(X), rtol=1e-4, atol=1e-6)


def test_grad_cam_by_hand() -> None:
    y = activations(MODEL, PARAMS, STATE, X)["pool"]
    rest = layers.serial(
        **{n: MODEL.layers[n] for n in ("conv2", "relu", "avg", "flatten", "dense")}
    )
    one_hot = jax.nn.one_hot(CLASSES, 3)
    d = jax.grad(lambda y: (rest.apply(own(rest), {}, y)[0] * one_hot).sum())(y)
    wanted = np.maximum(np.einsum("nc,nhwc->nhw", d.mean((1, 2)), y), 0)
    np.testing.assert_allclose(
        grad_cam(MODEL, PARAMS, STATE, X, CLASSES, layer="pool"), wanted, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("layer", ["dense", "nowhere"])
def test_grad_cam_needs_a_layer_with_space(layer: str) -> None:
    with pytest.raises(
        ValueError, match=r"grad_cam: `layer` must be a layer with spatial axes \(conv1, tanh, pool"
    ):
        grad_cam(MODEL, PARAMS, STATE, X, CLASSES, layer=layer)


def test_occlusion_square_by_square() -> None:
    got = occlusion(MODEL, PARAMS, STATE, X, CLASSES, window=6, stride=4, fill=0.5)
    assert got.shape == (4, 4, 4)
    for i, j in ((0, 0), (1, 3), (3, 2)):
        covered = X.at[:, 4 * i : 4 * i + 6, 4 * j : 4 * j + 6].set(0.5)
        np.testing.assert_allclose(got[:, i, j], scores(X) - scores(covered), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "places"), [("conv1", (0, 4)), ("pool", (2, 2)), ("conv2", (1, 0)), ("avg", (0, 0))]
)
def test_a_unit_reads_the_cells_that_its_gradient_reaches(
    layer: str, places: tuple[int, int]
) -> None:
    """Of random images, all cells in the span that a unit reads have a gradient in at least one
    channel, but those that dilation or a maximum skips; none outside has."""
    part = until(MODEL, layer)
    seen = seen_by(MODEL, PARAMS, STATE, X.shape[1:], layer, places)
    d = jax.grad(lambda x: part.apply(own(part), {}, x)[0][:, places[0], places[1]].sum())(X)
    reached = np.abs(d).sum((0, 3)) > 0
    outside = np.ones_like(reached)
    outside[seen] = False
    assert not reached[outside].any()
    for axis in (0, 1):
        span = np.flatnonzero(reached.any(1 - axis))
        assert span.min() - seen[axis].start <= 2
        assert seen[axis].stop - 1 - span.max() <= 2


def test_top_patches_are_the_strongest() -> None:
    images = jax.random.normal(jax.random.key(5), (23, 18, 18, 2))
    found = top_patches(MODEL, PARAMS, STATE, images, "relu", 2, count=4, batch=10)
    y = activations(MODEL, PARAMS, STATE, images)["relu"][..., 2].reshape(23, -1).max(1)
    assert [index for index, _, _ in found] == np.argsort(-y)[:4].tolist()
    np.testing.assert_allclose([value for _, _, value in found], np.sort(y)[::-1][:4], rtol=1e-5)


def test_a_top_patch_is_what_its_unit_reads() -> None:
    """All else of the image made black, the unit has the same value."""
    images = jax.random.normal(jax.random.key(5), (9, 18, 14, 2))  # rows and columns are not alike
    part = until(MODEL, "pool")
    for index, place, value in top_patches(MODEL, PARAMS, STATE, images, "pool", 1, count=5):
        rest = jnp.zeros_like(images[0]).at[place].set(images[index][place])
        y = np.asarray(part.apply(own(part), {}, rest[None])[0][0, ..., 1])
        whole = np.asarray(part.apply(own(part), {}, images[index][None])[0][0, ..., 1])
        at = np.unravel_index(whole.argmax(), whole.shape)
        np.testing.assert_allclose([y[at], whole[at]], value, rtol=1e-5)


def test_bad_channels_and_places_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"top_patches: setting `channel` must be an integer in \[0, 3\), got 3"
    ):
        top_patches(MODEL, PARAMS, STATE, X, "conv1", 3)
    with pytest.raises(
        ValueError, match=r"maximise: setting `channel` must be an integer in \[0, 4\), got -1"
    ):
        maximise(MODEL, PARAMS, STATE, X, "conv2", -1)
    with pytest.raises(ValueError, match="top_patches: layer `dense` has no spatial axes"):
        top_patches(MODEL, PARAMS, STATE, X, "dense", 0)
    for place in ((9, 0), (0, -1), (0,)):
        with pytest.raises(
            ValueError, match="`place` must be one of the 9×9 places of layer `conv1`"
        ):
            seen_by(MODEL, PARAMS, STATE, X.shape[1:], "conv1", place)


def test_maximise_excites() -> None:
    start = 0.1 * X[:1]
    made = maximise(MODEL, PARAMS, STATE, start, "conv2", 1, steps=20)
    before, after = (
        activations(MODEL, PARAMS, STATE, x)["conv2"][..., 1].mean() for x in (start, made)
    )
    assert after > before + 1


def test_what_cannot_be_followed_says_so() -> None:
    with pytest.raises(
        ValueError, match="until: the model has no layer `conv9`; it has conv1, tanh"
    ):
        until(MODEL, "conv9")
    resnet = models.resnet20()
    params, state = resnet.init(jax.random.key(0), (8, 8, 3))
    with pytest.raises(ValueError, match="seen_by: cannot follow layer `block1_1`"):
        seen_by(resnet, params, state, (8, 8, 3), "block1_1", (0, 0))
    wider = layers.serial(up=layers.conv_transpose(2, stride=2), norm=layers.group_norm(1))
    params, state = wider.init(jax.random.key(0), (8, 8, 3))
    for name, op in {"up": "conv_transpose", "norm": "group_norm"}.items():
        with pytest.raises(
            ValueError, match=f"cannot follow layer `{name}`: {op} is no window over the cells"
        ):
            seen_by(wider, params, state, (8, 8, 3), name, (0, 0))


def test_a_graph_with_a_node_used_twice() -> None:
    graph = Graph()
    x = graph.input("x", 3.0)
    graph.input("y", [1.0, 2.0])
    square = graph.multiply(x, x)
    out = graph.add(square, graph.apply(ops.tanh, x), graph.multiply(square, x))
    grads = graph.backward(out)
    np.testing.assert_allclose(grads["x"], 2 * 3 + 1 - np.tanh(3) ** 2 + 27, rtol=1e-6)
    np.testing.assert_array_equal(grads["y"], [0, 0])  # nothing leads there
    assert [node.name for node in graph.nodes] == ["x", "y", "multiply", "tanh", "multiply2", "add"]
    assert "add        = multiply + tanh + multiply2" in str(graph)


def test_a_graph_has_no_name_twice() -> None:
    graph = Graph()
    graph.input("x", 1.0)
    with pytest.raises(ValueError, match="there is a node `x` already"):
        graph.input("x", 2.0)


def test_sums_and_products_of_a_graph_are_proven() -> None:
    x, y = np.linspace(-1, 1, 3), np.linspace(0.5, 2, 3)
    assert verify.check(ADD, x, y, reference=lambda x, y: x + y).ok
    assert verify.check(MULTIPLY, x, y, reference=lambda x, y: x * y).ok


def test_a_graph_broadcasts_nothing() -> None:
    graph = Graph()
    x, y = graph.input("x", [1.0, 2.0]), graph.input("y", 3.0)
    for combine in (graph.add, graph.multiply):
        with pytest.raises(ValueError, match=r"all inputs must have one shape.*got \(2,\), \(\)"):
            combine(x, y)


def test_a_graph_of_layers_with_labels() -> None:
    graph = Graph()
    x, w = graph.input("x", [[1.0, 2.0]]), graph.input("w", [[0.5, -1.0], [0.25, 2.0]])
    loss = graph.apply(
        ops.softmax_cross_entropy, graph.apply(ops.dense, x, w), graph.input("label", np.array([1]))
    )
    wanted = jax.grad(
        lambda w: ops.softmax_cross_entropy(jnp.array([[1.0, 2.0]]) @ w, jnp.array([1])).sum()
    )(w.value)
    np.testing.assert_allclose(graph.backward(loss)["w"], wanted, rtol=1e-6)
    assert len(str(graph).splitlines()) == 1 + len(graph.nodes)  # a matrix takes one line


def test_names_of_a_graph_are_its_own() -> None:
    graph = Graph()
    x = graph.input("tanh", 0.5)
    assert [graph.apply(ops.tanh, x).name, graph.apply(ops.tanh, x).name] == ["tanh2", "tanh3"]
    with pytest.raises(ValueError, match="graph: batch_norm has several outputs"):
        graph.apply(
            ops.batch_norm,
            *(
                graph.input(n, v)
                for n, v in {"a": np.ones((4, 2)), "b": np.ones(2), "c": np.ones(2)}.items()
            ),
        )
