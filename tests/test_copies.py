"""What is handed from process to process, or copied: ops, models and errors, also after they were
used."""

import concurrent.futures
import copy
import multiprocessing
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from every import FIRST
from jaxcnn import layers, models, ops, train
from jaxcnn.precision import Policy
from jaxcnn.train import DivergedError

WAYS = {"pickled": lambda thing: pickle.loads(pickle.dumps(thing)), "copied": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("op", "case"), FIRST)
def test_an_op_that_was_used(op, case, way):
    args = case.draw(0)
    want = op(*args, **case.static)
    got = WAYS[way](op)(*args, **case.static)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["lenet", pytest.param("resnet20", marks=pytest.mark.slow), "mlp"])
def test_a_model_that_was_used(name, way):
    model, shape = (
        (models.mlp((5, 3)), (6,)) if name == "mlp" else (models.MODELS[name](3), (16, 16, 1))
    )
    params, state = model.init(jax.random.key(0), shape)
    x = jnp.ones((2, *shape))
    want, _ = model.apply(params, state, x, train=False)
    np.testing.assert_array_equal(WAYS[way](model).apply(params, state, x, train=False)[0], want)


@pytest.mark.parametrize("way", WAYS)
def test_a_policy(way):
    policy = Policy("bfloat16", loss_scale="dynamic")
    assert WAYS[way](policy) == policy


def diverge() -> None:
    """A run whose second step has a loss of NaN."""
    x, target = jnp.ones((8, 3)).at[5].set(jnp.nan), jnp.zeros(8, int)
    model = layers.serial(dense=layers.dense(2))
    train.fit(
        train.Recipe(model, ops.softmax_cross_entropy, optax.sgd(0.1)),
        (x, target),
        key=jax.random.key(0),
        batch_size=8,
        epochs=1,
    )


def test_diverged_error_crosses_a_pool_of_processes():
    """Which hangs on an error that cannot be made again from its pickle."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        error = pool.submit(diverge).exception(timeout=120)
    assert isinstance(error, DivergedError)
    assert error.step == 0
    assert np.isnan(error.loss)
    assert str(error.finding) in str(error)
    assert error.state.params["dense"]["kernel"].shape == (3, 2)
    again = copy.deepcopy(error)
    assert (again.step, str(again)) == (error.step, str(error))
