"""The first NaN of a step has a name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcnn import layers, models, ops
from jaxcnn._core.op import Op
from jaxcnn.precision import Policy
from jaxcnn.train import Recipe, autopsy

KEY = jax.random.key(0)
X, LABELS = jax.random.normal(KEY, (4, 8, 8, 1)), jnp.array([0, 1, 2, 0])
LOSS = ops.softmax_cross_entropy
MODEL = layers.serial(
    conv=layers.conv(2),
    norm=layers.batch_norm(),
    relu=layers.relu(),
    block=layers.residual(layers.serial(inner=layers.conv(2), tanh=layers.activation("tanh"))),
    flatten=layers.flatten(),
    out=layers.dense(3),
)
PARAMS, STATE = MODEL.init(KEY, X.shape[1:])


def found(
    model: Any = MODEL,
    params: Any = PARAMS,
    x: Any = X,
    target: Any = LABELS,
    loss: Op = LOSS,
    policy: Any = None,
    **settings: Any,
) -> Any:
    recipe = Recipe(model, loss, policy=policy)
    return autopsy(recipe, params, STATE, x, target, KEY, **settings)


def with_op(name: str, **halves: Any) -> layers.Serial:
    """The model with another half of an op."""
    return MODEL.map_ops(
        lambda path, op: (
            op.replace(**{half: make(op) for half, make in halves.items()})
            if op.name == name
            else op
        )
    )


def test_a_sound_step_has_none() -> None:
    assert found() is None
    assert found(models.mlp((4, 3)), models.mlp((4, 3)).init(KEY, X.shape[1:])[0]) is None


def test_input_target_and_parameters() -> None:
    assert found(x=X.at[0, 1, 2, 0].set(jnp.nan))[:5] == ("input", "", (), "x", 1)
    assert found(target=jnp.full((4, 3), jnp.inf)).stage == "target"
    params = {**PARAMS, "out": {**PARAMS["out"], "bias": jnp.array([0.0, jnp.nan, 0.0])}}
    assert str(found(params=params)) == "parameters: 1 of 3 numbers of out/bias are not finite"


def test_forward_names_the_layer_and_its_ops() -> None:
    model = with_op("tanh", forward=lambda op: lambda x, /, **s: (op.forward(x, **s)[0] / 0, x))
    finding = found(model)
    assert finding[:3] == ("forward", "block/body/tanh", ("tanh",))
    finding = found(x=1e30 * X, policy=Policy("float16"))
    assert finding.stage == "input"
    finding = found(
        x=6e4 * jnp.sign(X),
        params={**PARAMS, "conv": jax.tree.map(lambda w: 5 * w, PARAMS["conv"])},
        policy=Policy("float16"),
    )
    assert finding[:3] == ("forward", "conv", ("conv", "bias"))


def test_backward_names_who_made_it() -> None:
    model = with_op(
        "tanh", backward=lambda op: lambda saved, dy, /, **s: (op.backward(saved, dy, **s)[0] / 0,)
    )
    finding = found(model)
    assert finding[:3] == ("backward", "block/body/tanh", ("tanh",))
    assert (
        "δ at the output of `block/body/inner`, made by the backward of layer `block/body/tanh`"
        " (tanh)" in str(finding)
    )


def test_the_gradient_of_a_parameter() -> None:
    model = with_op(
        "dense",
        backward=lambda op: (
            lambda saved, dy, /, **s: (lambda dx, dw, db: (dx, dw * np.nan, db))(
                *op.backward(saved, dy, **s)
            )
        ),
    )
    finding = found(model)
    assert (finding.stage, finding.layer, finding.ops) == ("backward", "out", ("dense",))
    assert (
        str(finding) == "backward: 384 of 384 numbers of the gradient of out/kernel are not finite"
    )


def test_the_loss() -> None:
    loss = ops.squared_error
    model = layers.serial(flatten=layers.flatten(), out=layers.dense(3))
    params, _ = model.init(KEY, X.shape[1:])
    finding = autopsy(Recipe(model, loss), params, {}, 1e25 * X, jnp.zeros((4, 3)))
    assert finding is not None
    assert (finding.stage, finding.ops) == ("loss", ("squared_error",))


@pytest.mark.parametrize("train", [True, False])
def test_it_takes_what_the_step_took(train: bool) -> None:
    """A variance of −1 is met in evaluation alone."""
    state = {**STATE, "norm": {**STATE["norm"], "var": -jnp.ones(2)}}
    finding = autopsy(Recipe(MODEL, LOSS), PARAMS, state, X, LABELS, train=train)
    assert (finding is None) == train
    if finding is not None:
        assert finding[:2] == ("forward", "norm")


def test_a_loss_scale_that_is_too_large_has_a_place() -> None:
    policy = Policy("float16", loss_scale=2.0**40)
    assert found(policy=policy) is None
    assert found(policy=policy, scale=2.0**40).stage == "backward"


def test_a_layer_deep_inside_has_one_name_and_its_op() -> None:
    """By layers and by parameters, in a residual and in a repeat."""
    model = layers.serial(
        block=layers.residual(layers.serial(dense=layers.dense(4))),
        many=layers.repeat(layers.serial(dense=layers.dense(4)), 2),
    )
    params, state = model.init(KEY, (4,))
    x = jnp.full((3, 4), 1e30)
    for path, name in (
        (("block", "body", "dense"), "block/body/dense"),
        (("many", "dense"), "many/0/dense"),
    ):
        big = jax.tree.map(jnp.copy, params)
        inner = big
        for part in path:
            inner = inner[part]
        inner["kernel"] = inner["kernel"].at[:].set(1e30)
        finding: Any = autopsy(Recipe(model, ops.squared_error), big, state, x, jnp.zeros((3, 4)))
        assert (finding.stage, finding.layer, finding.ops) == ("forward", name, ("dense",))
        inner["kernel"] = inner["kernel"].at[0, 0].set(jnp.nan)
        finding = autopsy(Recipe(model, ops.squared_error), big, state, x, jnp.zeros((3, 4)))
        assert (finding.stage, finding.layer) == ("parameters", "/".join(path))
        assert finding.what == "/".join((*path, "kernel"))
