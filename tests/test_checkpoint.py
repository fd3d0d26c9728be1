"""Checkpoints: what is restored is what was saved, to the bit; what does not fit says why; what is
half there is not there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from jaxcnn import models, ops, train
from jaxcnn.train._checkpoint import CheckpointError, Checkpoints

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int32)
MODEL, ADAM = models.mlp((8, 2)), optax.adam(0.01)
MLP = {"model": "mlp"}


def fit(steps: int, **settings: Any) -> train.TrainState:
    return train.fit(
        train.Recipe(MODEL, ops.softmax_cross_entropy, ADAM, average=0.9),
        (X, LABELS),
        test=(X, LABELS),
        key=jax.random.key(0),
        batch_size=8,
        report_every=3,
        steps=steps,
        **settings,
    )[0]


def like(model: Any = MODEL, optimizer: Any = ADAM) -> train.TrainState:
    return train.create(
        train.Recipe(model, optimizer=optimizer, average=0.5), jax.random.key(1), (6,)
    )


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, train.TrainState]:
    """A run of 23 steps, and where its checkpoints are."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with Checkpoints(folder, every=5, keep=2, about=MLP) as checkpoints:
        return folder, fit(23, callbacks=[checkpoints])


def test_a_run_that_was_cut_ends_to_the_bit_as_one_that_was_not(saved: Any, tmp_path: Path) -> None:
    folder, ended = saved
    with Checkpoints(folder, about=MLP) as checkpoints:
        assert checkpoints.steps == [22, 23]  # 20 lies inside a report of 19 to 22
        start = checkpoints.restore(like())
    assert bits(start) == bits(ended)
    assert jax.tree.structure(start) == jax.tree.structure(ended)
    assert bits(fit(40, start=start)) == bits(fit(40))


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    state = like()
    with Checkpoints(tmp_path, every=2, keep=1, score="accuracy") as checkpoints:
        for step, score in enumerate([0.5, 0.9, 0.7, None, 0.8], start=1):
            report = train.Report(
                step, 9, 1.0, np.zeros(1), None if score is None else {"accuracy": score}
            )
            checkpoints(report, state)
        checkpoints.wait()
        assert checkpoints.steps == [2, 4]
        checkpoints(train.Report(9, 9, 1.0, np.zeros(1), None), state)  # the end
        checkpoints.wait()
        assert checkpoints.steps == [2, 9]


def test_what_is_saved_is_the_state_of_then(tmp_path: Path) -> None:
    """Though the next step takes its buffers while it is being written."""
    step, state = (
        train.make_step(train.Recipe(MODEL, ops.softmax_cross_entropy, ADAM)),
        train.create(train.Recipe(MODEL, optimizer=ADAM), jax.random.key(0), (6,)),
    )
    wanted = {}
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for number in range(3):
            wanted[number] = bits(state)
            checkpoints.save(number, state)
            state, _ = step(state, X, LABELS, jax.random.key(1))
        checkpoints.wait()
        for number in range(3):
            assert bits(checkpoints.restore(state, number)) == wanted[number]


def test_what_is_written_shares_no_memory_with_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the next step takes the state's buffers while the writing goes on."""
    state, given = like(), []
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(
            checkpoints._manager, "save", lambda step, args, **_: given.append(args["state"].item)
        )
        checkpoints.save(1, state)
    places = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)}
    assert len(given[0]) == len(jax.tree.leaves(state))
    assert not places & {leaf.unsafe_buffer_pointer() for leaf in given[0].values()}


def test_the_first_of_equals_stays_the_best(tmp_path: Path) -> None:
    state = like()

    def look(checkpoints: Checkpoints, step: int, score: float) -> None:
        checkpoints(train.Report(step, 9, 1.0, np.zeros(1), {"accuracy": score}), state)

    with Checkpoints(tmp_path, every=1, keep=1, score="accuracy") as checkpoints:
        for step, score in enumerate([0.5, 1.0, 1.0], start=1):
            look(checkpoints, step, score)
    # a run that goes on
    with Checkpoints(tmp_path, every=1, keep=1, score="accuracy") as checkpoints:
        checkpoints.restore(state)
        look(checkpoints, 4, 1.0)
        checkpoints.wait()
        assert checkpoints.steps == [2, 4]


def test_another_course_of_a_run_does_not_take_the_first_for_its_own(tmp_path: Path) -> None:
    state = like()
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state)
        checkpoints.wait()
        checkpoints.restore(state, 1)
        checkpoints.save(1, state)  # the one it came from
        with pytest.raises(
            CheckpointError, match="checkpoint 3 is there already, of an earlier run"
        ):
            checkpoints.save(3, state)


def test_another_model_optimizer_or_run_is_refused_by_name(saved: Any) -> None:
    with Checkpoints(saved[0], about=MLP) as checkpoints:
        with pytest.raises(
            CheckpointError,
            match=(
                r"checkpoint 23 is of another model or optimizer: average.dense1.bias is"
                r" float32\[8\] there, float32\[9\] here"
            ),
        ):
            checkpoints.restore(like(models.mlp((9, 2))))
        with pytest.raises(
            CheckpointError, match=r"opt_state.0.count is int32\[\] there, nothing here"
        ):
            checkpoints.restore(like(optimizer=optax.sgd(0.1)))
        with pytest.raises(CheckpointError, match=r"there is no checkpoint 3 \(there: 22, 23\)"):
            checkpoints.restore(like(), 3)
    with (
        Checkpoints(saved[0], about={"model": "lenet"}) as checkpoints,
        pytest.raises(
            CheckpointError,
            match="checkpoint 23 has model 'mlp', this run 'lenet'; give another folder, or",
        ),
    ):
        checkpoints.restore(like())


def test_folders_without_checkpoints(tmp_path: Path) -> None:
    with (
        Checkpoints(tmp_path / "empty") as checkpoints,
        pytest.raises(CheckpointError, match=r"there is no checkpoint \(there: none\)"),
    ):
        checkpoints.restore(like())
    foreign = tmp_path / "foreign" / "7"
    foreign.mkdir(parents=True)
    (foreign / "notes.txt").write_text("mine")
    with (
        Checkpoints(tmp_path / "foreign") as checkpoints,
        pytest.raises(
            CheckpointError,
            match=r"checkpoint 7 cannot be read; others: none \(it has no digests\.json",
        ),
    ):
        checkpoints.restore(like())
    assert (foreign / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="file: cannot be used for checkpoints"):
        Checkpoints(tmp_path / "file")


DAMAGED = """
import sys, jax, optax
from pathlib import Path
from jaxcnn import models, train
from jaxcnn.train._checkpoint import CheckpointError, Checkpoints
state = train.create(models.mlp((8, 2)), optax.adam(0.01), jax.random.key(0), (6,))
with Checkpoints(sys.argv[1]) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, state)
for path in Path(sys.argv[1], "2", "state").rglob("d/*"):
    path.write_bytes(b"no longer")
with Checkpoints(sys.argv[1]) as checkpoints:
    try:
        checkpoints.restore(state)
    except CheckpointError as error:
        print(error)
    print(int(checkpoints.restore(state, 1).step))
"""


def test_a_damaged_checkpoint_says_so_and_the_earlier_one_is_whole(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    problem, step = found.stdout.splitlines()
    assert "checkpoint 2 cannot be read; others: 1 (" in problem
    assert step == "0"


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="Checkpoints: setting `every` must be an integer ≥ 1, got 0"
    ):
        Checkpoints(tmp_path, every=0)
    with pytest.raises(
        ValueError, match="Checkpoints: setting `keep` must be an integer ≥ 1, got True"
    ):
        Checkpoints(tmp_path, keep=True)
