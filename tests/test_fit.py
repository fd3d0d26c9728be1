"""A run: its steps are those of ``make_step``, it can be cut anywhere, and it says when and why it
ends."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcnn import layers, models, ops, train

# whose numbers stay what they are; others are folded into such a key
KEY = jax.random.key(7, impl="threefry2x32")
X = np.random.default_rng(0).normal(size=(22, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int32)
# A bias before batch norm has a gradient of rounding errors alone, which Adam would make large
MODEL = layers.serial(
    hidden=layers.dense(8, bias=False),
    norm=layers.batch_norm(),
    relu=layers.relu(),
    dropout=layers.dropout(0.2),
    out=layers.dense(2),
)
LOSS = ops.softmax_cross_entropy
ADAM = optax.adam(optax.cosine_onecycle_schedule(40, 0.05))


def fit(
    model: layers.Layer = MODEL, optimizer: Any = ADAM, data: Any = (X, LABELS), **settings: Any
) -> Any:
    own = {name: settings.pop(name) for name in {*settings} & {"average", "microbatch", "measures"}}
    recipe = train.Recipe(model, LOSS, optimizer, **own)
    return train.fit(recipe, data, **({"key": KEY, "batch_size": 4} | settings))


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def whole() -> Any:
    """Two epochs of five steps, and two steps more."""
    return fit(steps=12, average=0.9, test=(X, LABELS))


def test_a_run_is_its_steps_in_turn(whole: Any) -> None:
    first, rest = jax.random.split(KEY)
    orders, inside = jax.random.split(rest)
    step = train.make_step(train.Recipe(MODEL, LOSS, ADAM, average=0.9))
    state, losses = train.create(train.Recipe(MODEL, optimizer=ADAM, average=0.5), first, (6,)), []
    rows = itertools.chain.from_iterable(
        np.asarray(train.shuffled(jax.random.fold_in(orders, e), 22, 4)) for e in range(3)
    )
    for batch in itertools.islice(rows, 12):
        state, metrics = step(state, X[batch], LABELS[batch], inside)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(np.concatenate([r.losses for r in whole[1]]), losses, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole[0], state
    )


@pytest.mark.parametrize("cut", [3, 5, 7])
def test_a_run_that_goes_on_ends_as_one_that_never_stopped(whole: Any, cut: int) -> None:
    begun, _ = fit(steps=cut, average=0.9)
    state, reports = fit(steps=12, average=0.9, start=begun)
    assert bits(state) == bits(whole[0])
    assert sum(len(r.losses) for r in reports) == 12 - cut


def test_how_often_is_reported_changes_nothing(whole: Any) -> None:
    state, reports = fit(steps=12, average=0.9, report_every=3)
    assert bits(state) == bits(whole[0])
    assert [r.step for r in reports] == [3, 5, 8, 10, 12]
    assert [r.epoch for r in reports] == [0.6, 1.0, 1.6, 2.0, 2.4]


def test_the_test_set_is_seen_after_every_epoch_and_at_the_end(whole: Any) -> None:
    assert [(r.step, r.scores is not None) for r in whole[1]] == [(5, True), (10, True), (12, True)]
    state = whole[0]
    logits = train.make_predict(train.Recipe(MODEL))(state.average, state.state, X)
    assert whole[1][-1].scores == {
        "accuracy": pytest.approx(float((logits.argmax(-1) == LABELS).mean()))
    }
    _, reports = fit(steps=6, test=(X, LABELS), evaluate_every=4, measures={"loss": LOSS})
    assert [(r.step, r.scores is not None) for r in reports] == [(4, True), (6, True)]
    assert list(reports[0].scores) == ["loss"]


def test_evaluation_counts_every_example_once() -> None:
    params, state = MODEL.init(KEY, (6,))
    logits, _ = MODEL.apply(params, state, jnp.asarray(X))
    expected = {
        "loss": float(LOSS(logits, jnp.asarray(LABELS)).mean()),
        "accuracy": float((logits.argmax(-1) == LABELS).mean()),
    }
    for size in (1, 5, 22, 100):
        got = train.make_evaluate(
            train.Recipe(MODEL, measures={"loss": LOSS, "accuracy": train.accuracy}),
            batch_size=size,
        )(params, state, X, LABELS)
        assert got == pytest.approx(expected, rel=1e-5)


def test_the_average_follows_the_parameters() -> None:
    model = models.mlp((2,))
    optimizer = optax.sgd(0.1)
    state = train.create(train.Recipe(model, optimizer=optimizer, average=0.5), KEY, (6,))
    expected, step = (
        jax.tree.map(np.asarray, state.params),
        train.make_step(train.Recipe(model, LOSS, optimizer, average=0.75)),
    )
    for _ in range(3):
        state, _ = step(state, X, LABELS, KEY)
        expected = jax.tree.map(
            lambda mean, p: 0.75 * mean + 0.25 * np.asarray(p), expected, state.params
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.average, expected)


def test_step_and_state_agree_about_the_average() -> None:
    state = train.create(train.Recipe(MODEL, optimizer=ADAM), KEY, (6,))
    with pytest.raises(
        ValueError,
        match=r"average of the parameters: the recipe has one, the train state none; create it by the same",
    ):
        train.make_step(train.Recipe(MODEL, LOSS, ADAM, average=0.9))(state, X, LABELS, KEY)


def test_accumulated_gradients_are_those_of_the_batch() -> None:
    model = models.mlp((8, 2), "tanh")
    by_twos, whole = (fit(model, optax.sgd(0.1), steps=6, microbatch=m)[0] for m in (2, None))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
        by_twos.params,
        whole.params,
    )


def poisoned() -> Iterator[Any]:
    for number in itertools.count():
        yield np.where(number == 5, np.nan, X[:4]).astype(np.float32), LABELS[:4]


def test_a_step_that_is_not_finite_is_named_and_changes_nothing() -> None:
    with pytest.raises(
        train.DivergedError,
        match=r"the loss is nan in step 5 \(input: 24 of 24 numbers of x are not finite\); try",
    ) as caught:
        fit(data=poisoned(), steps=8, report_every=2)
    assert caught.value.step == 5
    clean = fit(data=iter([(X[:4], LABELS[:4])] * 5), steps=5)[0]
    assert bits(caught.value.state._replace(step=0)) == bits(clean._replace(step=0))


def test_a_rule_that_makes_nan_is_named() -> None:
    broken = MODEL.map_ops(
        lambda path, op: (
            op.replace(backward=lambda saved, dy, **s: (dy / 0,)) if op.name == "relu" else op
        )
    )
    with pytest.raises(
        train.DivergedError,
        match=(
            r"a gradient is not finite in step 0 \(backward: 32 of 32 numbers of δ at the output of"
            r" `norm`, made by the backward of layer `relu` \(relu\)"
        ),
    ):
        fit(broken, steps=3)


def test_an_iterator_hands_out_the_batches() -> None:
    state, reports = fit(data=iter([(X[:4], LABELS[:4])] * 7), steps=7, report_every=3)
    assert [len(r.losses) for r in reports] == [3, 3, 1]
    assert int(state.step) == 7
    assert np.isnan(reports[0].epoch)
    with pytest.raises(ValueError, match="the data ended before step 2"):
        fit(data=iter([(X[:4], LABELS[:4])] * 2), steps=3)


def test_callbacks_see_every_report_and_end_the_run() -> None:
    seen: list[int] = []
    stop = train.EarlyStopping("accuracy", patience=1, mode="min")
    _, reports = fit(
        optimizer=optax.adam(0.1),
        epochs=20,
        test=(X, LABELS),
        callbacks=[stop, lambda r, s: seen.append(r.step)],
    )
    assert seen == [r.step for r in reports]
    scores = [r.scores["accuracy"] for r in reports]
    assert len(reports) < 20
    assert scores[-1] >= scores[-2] == min(scores) == stop.best
    assert stop.best_state is not None
    logits = train.make_predict(train.Recipe(MODEL))(
        stop.best_state.params, stop.best_state.state, X
    )
    assert float((logits.argmax(-1) == LABELS).mean()) == pytest.approx(stop.best)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give either `epochs` or `steps`; got epochs=None, steps=None"),
        ({"epochs": 1, "steps": 1}, "give either `epochs` or `steps`"),
        ({"epochs": 0}, "setting `epochs` must be an integer ≥ 1, got 0"),
        ({"steps": True}, "setting `steps` must be an integer ≥ 1, got True"),
        ({"steps": 1, "batch_size": 0}, "setting `batch_size` must be an integer ≥ 1"),
        ({"steps": 1, "batch_size": 23}, "`batch_size` must be at most the number of examples, 22"),
        ({"steps": 1, "report_every": True}, "setting `report_every` must be an integer ≥ 1"),
        ({"steps": 1, "average": 1.0}, r"`average` must be None or a number in \[0, 1\)"),
        ({"steps": 1, "data": (X, LABELS[:5])}, "x and target must be as many; got 22 and 5"),
        ({"epochs": 1, "data": iter([(X, LABELS)])}, "an iterator does not say what an epoch is"),
        ({"steps": 1, "test": (X, LABELS[:5])}, "as many, and at least one; got 22 and 5"),
        ({"steps": 1, "test": (X[:0], LABELS[:0])}, "as many, and at least one; got 0 and 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit(**settings)


def test_early_stopping_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="`patience` must be an integer ≥ 1"):
        train.EarlyStopping("accuracy", patience=0)
    with pytest.raises(KeyError, match="there is no score `loss`; there is accuracy"):
        fit(steps=1, test=(X, LABELS), callbacks=[train.EarlyStopping("loss")])


def test_several_runs_at_once_are_each_as_it_would_be_alone() -> None:
    keys = jax.random.split(KEY, 2)
    settings: Any = {"optimizer": optax.sgd(0.1), "epochs": 2, "average": 0.9, "test": (X, LABELS)}
    state, reports = fit(key=keys, **settings)
    for number, key in enumerate(keys):
        alone, own = fit(key=key, **settings)
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(a, b[number], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(reports[-1].each[number].losses, own[-1].losses, rtol=1e-3)
        assert reports[-1].each[number].scores == own[-1].scores
    assert reports[-1].scores == {
        "accuracy": pytest.approx(np.mean([r.scores["accuracy"] for r in reports[-1].each]))
    }
    np.testing.assert_allclose(reports[-1].losses, np.mean([r.losses for r in reports[-1].each], 0))


def test_several_runs_go_on_to_the_bit() -> None:
    keys = jax.random.split(KEY, 2)
    whole, _ = fit(key=keys, steps=8)
    half, _ = fit(key=keys, steps=3)
    again, _ = fit(key=keys, steps=8, start=half)
    assert bits(whole) == bits(again)


def test_several_runs_need_arrays() -> None:
    with pytest.raises(ValueError, match=r"several runs at once .* need `data` as arrays"):
        fit(key=jax.random.split(KEY, 2), data=iter([(X, LABELS)]), steps=1)


def test_a_step_that_is_not_finite_can_be_skipped() -> None:
    x = X.copy()
    x[3] = np.nan
    with pytest.raises(train.DivergedError, match="input"):
        fit(data=(x[:20], LABELS[:20]), epochs=1)
    with pytest.raises(train.DivergedError, match="input"):
        fit(data=(x[:20], LABELS[:20]), epochs=1, key=jax.random.split(KEY, 2))
    state, reports = fit(data=(x[:20], LABELS[:20]), epochs=2, not_finite="skip")
    losses = np.concatenate([report.losses for report in reports])
    assert np.isnan(losses).sum() == 2  # once an epoch
    assert all(np.isfinite(report.loss) for report in reports)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params))


def test_the_state_at_hand_is_that_before_the_bad_step() -> None:
    """Though other steps of the same program come after it."""
    data = np.where(np.arange(22)[:, None] == 3, np.nan, X), LABELS
    with pytest.raises(train.DivergedError) as caught:
        fit(data=data, epochs=3)
    found = caught.value
    assert found.step % 5 < 4  # others of the same epoch, and report, follow
    assert int(found.state.step) == found.step
    assert bits(found.state) == bits(fit(steps=found.step)[0])


def test_of_several_runs_the_state_at_hand_is_that_of_the_bad_one() -> None:
    keys = jax.vmap(jax.random.key)(jnp.arange(3))
    data = np.where(np.arange(22)[:, None] == 3, np.nan, X), LABELS
    with pytest.raises(train.DivergedError) as caught:
        fit(data=data, epochs=3, key=keys)
    alone = []
    for key in keys:
        with pytest.raises(train.DivergedError) as one:
            fit(data=data, epochs=3, key=key)
        alone.append(one.value)
    first = min(alone, key=lambda error: error.step)
    assert caught.value.step == first.step
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(same, caught.value.state.params, first.state.params)


def test_only_true_ends_a_run() -> None:
    for answer in (1, np.ones(2)):
        assert (
            int(
                fit(
                    steps=2, report_every=1, callbacks=[lambda report, state, answer=answer: answer]
                )[0].step
            )
            == 2
        )
    for answer in (np.True_,):
        assert (
            int(
                fit(
                    steps=2, report_every=1, callbacks=[lambda report, state, answer=answer: answer]
                )[0].step
            )
            == 1
        )


def test_early_stopping_ends_a_run_that_never_has_a_score() -> None:
    stop = train.EarlyStopping("loss", patience=2, mode="min")
    looks = [
        stop(train.Report(step, 9, 1.0, np.zeros(1), {"loss": math.nan}), None) for step in range(4)
    ]
    assert looks == [False, False, True, True]


def test_an_iterator_that_knows_its_epochs() -> None:
    class Known:
        per_epoch = 3

        def __init__(self) -> None:
            self.batches = itertools.cycle([(X[:4], LABELS[:4])])

        def __iter__(self) -> "Known":
            return self

        def __next__(self) -> Any:
            return next(self.batches)

    state, reports = fit(data=Known(), epochs=2, test=(X, LABELS))
    assert int(state.step) == 6
    assert [(report.epoch, report.scores is not None) for report in reports] == [
        (1.0, True),
        (2.0, True),
    ]
