"""Batches read ahead: the same in any number of processes and threads, the same after a cut, every
example once an epoch."""

import collections
import contextlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from jaxcnn import models, ops, train
from jaxcnn.data import DataError, ImageFolder, Stream

X = np.random.default_rng(0).normal(size=(22, 2, 3, 1)).astype(np.float32)
LABELS = np.arange(22)  # each example is known by its own
Batches = list[tuple[np.ndarray, np.ndarray]]


def take(count: int, batch_size: int = 4, stream: Stream | None = None, **settings: Any) -> Batches:
    stream = stream or Stream((X, LABELS), batch_size, **({"seed": 0} | settings))
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def same(ones: Batches, others: Batches) -> bool:
    return len(ones) == len(others) and all(
        np.array_equal(a, b)
        for one, other in zip(ones, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_every_example_comes_once_an_epoch_with_its_label_in_an_order_of_its_own() -> None:
    labels = np.concatenate([target for _, target in take(22, 2)])
    first, second = labels[:22], labels[22:]
    assert sorted(first) == sorted(second) == list(range(22))
    assert first.tolist() != second.tolist()
    for x, target in take(11):
        np.testing.assert_array_equal(x, X[target])
        assert (x.dtype, target.dtype, x.shape) == (np.float32, np.int32, (4, 2, 3, 1))


def test_those_that_do_not_fill_a_batch_are_others_every_time() -> None:
    epochs = [
        np.concatenate([target for _, target in take(5 * (epoch + 1))[-5:]]) for epoch in range(6)
    ]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({frozenset(range(22)) - frozenset(epoch) for epoch in epochs}) > 2


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_all_processes_in_turn_are_the_batch_of_one(count: int) -> None:
    parts = [take(9, 8, process_index=index, process_count=count) for index in range(count)]
    assert parts[0][0][0].shape[0] == 8 // count
    joined = [
        tuple(np.concatenate(arrays) for arrays in zip(*step, strict=True))
        for step in zip(*parts, strict=True)
    ]
    assert same(joined, take(9, 8))  # type: ignore[arg-type]


@pytest.mark.parametrize("cut", [0, 3, 5, 12])
def test_a_stream_that_goes_on_gives_what_would_have_come(cut: int) -> None:
    whole, stream = take(17), Stream((X, LABELS), 4, seed=0)
    begun = list(itertools.islice(stream, cut))
    state = json.loads(json.dumps(stream.get_state()))
    stream.close()
    other = Stream((X, LABELS), 4, seed=0)
    next(other)
    other.set_state(state)
    assert same(begun + take(17 - cut, stream=other), whole)
    assert same(take(17 - cut, start=cut), whole[cut:])
    assert other.step == 17


def test_a_run_goes_on_at_the_step_of_its_train_state() -> None:
    def fit(steps: int, start: Any = None) -> Any:
        with contextlib.closing(
            Stream((X, LABELS % 2), 4, seed=0, start=int(start.step) if start else 0)
        ) as data:
            settings: dict[str, Any] = {
                "key": jax.random.key(0),
                "steps": steps,
                "start": start,
                "report_every": 4,
            }
            return train.fit(
                train.Recipe(
                    models.mlp((2,)),
                    ops.softmax_cross_entropy,
                    optax.sgd(0.1),
                    prepare=lambda x: x.reshape(len(x), 6),
                ),
                data,
                **settings,
            )

    (whole, _), (begun, _) = fit(9), fit(4)
    jax.tree.map(np.testing.assert_array_equal, fit(9, begun)[0], whole)


def test_it_goes_on_in_another_number_of_processes() -> None:
    streams = [
        Stream((X, LABELS), 4, seed=0, process_index=index, process_count=2) for index in range(2)
    ]
    alone, whole = (
        Stream((X, LABELS), 4, seed=0, process_index=0, process_count=1) for _ in range(2)
    )
    for stream in (*streams, *streams, whole, whole):
        next(stream)
    state = Stream.joined([stream.get_state() for stream in streams])
    assert state == whole.get_state()
    with pytest.raises(
        ValueError,
        match=r"the state is of part \[1, 2\], this is part \[0, 1\]; join the states of all parts",
    ):
        alone.set_state(streams[1].get_state())
    alone.set_state(state)
    assert same(take(3, stream=alone), take(5)[2:])
    for stream in streams:
        stream.set_state(json.loads(json.dumps(state)))
        next(stream)
    next(whole)
    assert Stream.joined([stream.get_state() for stream in streams]) == whole.get_state()
    for stream in (*streams, alone, whole):
        stream.close()


def test_it_does_not_go_on_with_what_it_would_have_read_otherwise() -> None:
    """Other arrays are known by their contents; of other sources the last batch is read again."""
    stream = Stream((X, LABELS), 4, seed=0)
    batches = [next(stream) for _ in range(3)]
    state = stream.get_state()
    stream.close()
    with pytest.raises(ValueError, match="the state is of a stream with source"):
        Stream((X, LABELS[::-1]), 4, seed=0).set_state(state)

    class Source:
        changed = -1

        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, index: Any) -> tuple[Any, int]:
            return X[index] + (index == self.changed), int(LABELS[index])

    source = Source()
    state |= {"source": ""}
    again = Stream(source, 4, seed=0)
    again.set_state(state)
    assert same([next(again)], take(4)[3:])
    again.close()
    source.changed = int(batches[2][1][0])
    with pytest.raises(ValueError, match="the batch of step 2 is no longer what was read then"):
        Stream(source, 4, seed=0).set_state(state)


def test_how_it_is_read_ahead_changes_nothing() -> None:
    assert same(take(12, threads=0), take(12, threads=3))


def test_seeds_give_orders_of_their_own() -> None:
    orders = [
        tuple(np.concatenate([target for _, target in take(33, 2, seed=seed)])) for seed in range(3)
    ]
    epochs = collections.Counter(order[at : at + 22] for order in orders for at in (0, 22, 44))
    assert len(epochs) == 9  # no epoch of one is an epoch of another


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    assert same(take(12, workers=2, threads=1), take(12))


def write_images(root: Path) -> Path:
    for number in range(8):
        folder = root / f"class{number % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((3, 4), number, np.uint8)).save(folder / f"{number}.png")
    return root


PARENT = """
import sys, time
from jaxcnn.data import Stream
import numpy as np

if __name__ == "__main__":
    arrays = np.zeros((64, 2)), np.zeros(64, int)
    stream = Stream(arrays, 8, seed=0, process_index=0, process_count=1, workers=2)
    next(stream)
    print("reads", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_readers_die_with_their_parent(tmp_path: Path) -> None:
    """Killed, it cannot end them; they would read ahead until the memory that they share is full,
    and then wait for good."""
    program = tmp_path / "parent.py"
    program.write_text(PARENT, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"reads\n"
        assert len(session(parent.pid)) > 2
        parent.kill()
        parent.wait()
    end = time.monotonic() + 60
    while session(parent.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert session(parent.pid) == []


def session(number: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            state, *_, own = (
                (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            )
            found += [int(folder.name)] * (int(own) == number and state != "Z")
    return found


def test_images_are_decoded_as_they_are_needed_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    folder = ImageFolder(write_images(tmp_path), grey=True)
    seen = [(x[0, 0, 0], int(target[0])) for x, target in take(8, stream=Stream(folder, 1, seed=0))]
    assert sorted(number for number, _ in seen) == list(range(8))
    assert all(number % 2 == label for number, label in seen)
    folder.paths[3].write_bytes(b"no")
    for threads in (0, 2):
        stream = Stream(folder, 1, seed=0, threads=threads)
        with pytest.raises(DataError, match=f"{folder.paths[3].name}: damaged"):
            collections.deque(stream)
        assert stream.step == [number for number, _ in seen].index(6)
        with pytest.raises(DataError, match="damaged"):  # a second try is of the same batch
            next(stream)
        stream.close()


def test_targets_may_be_rows_of_numbers() -> None:
    rows = np.eye(22, dtype=np.float32)
    x, target = next(Stream((X, rows), 3, seed=0, threads=0))
    np.testing.assert_array_equal(x, X[target.argmax(-1)])
    assert target.dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "Stream: setting `batch_size` must be an integer ≥ 1, got 0"),
        ({"batch_size": 23}, "`batch_size` must be at most the number of examples, 22, got 23"),
        ({"batch_size": 5, "process_index": 0, "process_count": 2}, "`batch_size` must be a multiple of the number of processes, 2, got 5"),
        ({"seed": -1}, "setting `seed` must be an integer ≥ 0, got -1"),
        ({"start": -1}, "setting `start` must be an integer ≥ 0, got -1"),
        ({"threads": -1}, "setting `threads` must be an integer ≥ 0"),
        ({"workers": True}, "setting `workers` must be an integer ≥ 0, got True"),
        ({"process_index": 2, "process_count": 2}, r"`process_index` must be an integer in \[0, 2\), got 2"),
        ({"process_index": 1}, "give both `process_index` and `process_count`, or none; got 1 and None"),
        ({"source": (X, LABELS[:3])}, "x and target must be as many; got 22 and 3"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"source": (X, LABELS), "batch_size": 4, "seed": 0} | settings
    with pytest.raises(ValueError, match=words):
        Stream(**given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"seed": 1},
            "the state is of a stream with seed 1, this one has 0; make the stream as it was",
        ),
        ({"batch_size": 8}, "with batch_size 8, this one has 4"),
        ({"examples": 21}, "with examples 21, this one has 22"),
        ({"step": -1}, "setting `step` must be an integer ≥ 0, got -1"),
        ({"other": 1}, r"setting `state` must be what get_state\(\) gives"),
    ],
)
def test_states_of_other_streams_are_refused(change: dict[str, Any], words: str) -> None:
    stream = Stream((X, LABELS), 4, seed=0)
    with pytest.raises(ValueError, match=words):
        stream.set_state(stream.get_state() | change)
