"""Batches without an end from sets that need not fit in memory: read ahead by grain, in any number
of processes. Needs the extra ``jaxcnn[train]``.

The batch of a step depends on the seed and the number of the step alone. Each epoch is a new order
of all examples, without those that do not fill a last batch; of every batch each process reads one
part, and the parts in turn are the batch that a single process would read. So a run may be cut
anywhere, and go on with another number of processes.

>>> x, labels = np.arange(6.0).reshape(6, 1), np.arange(6) % 2
>>> stream = Stream((x, labels), 2, seed=0)
>>> sorted(float(x) for _ in range(3) for x in next(stream)[0].ravel())
[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
>>> stream.step, sorted(stream.get_state())
(3, ['batch_size', 'examples', 'last', 'part', 'read', 'seed', 'source', 'step'])
>>> stream.close()
"""

import functools
import multiprocessing
import os
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

from jaxcnn._core.errors import check_counts, check_integer, setting_error
from jaxcnn.data._checksum import checksum
from jaxcnn.data._dataset import DataError


@runtime_checkable
class Source(Protocol):
    """Examples by number: ``source[i]`` is (image, label), such as an
    :class:`jaxcnn.data.ImageFolder`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


State: TypeAlias = dict[str, Any]
WORD = 2**63


class Stream(Iterator[tuple[np.ndarray, np.ndarray]]):
    """An iterator of (x, target): x stacked from the images, target from the labels (int32, if they
    are integers), both with ``batch_size`` / ``process_count`` rows.

    What was read is summed, example by example, so that a stream that goes on elsewhere or later
    notices when it would not have read the same: see :meth:`set_state`.

    Args:
        source: a :class:`Source`, or arrays (x, target) of all examples.
        batch_size: of all processes together.
        seed: of the order.
        start: the number of the first step, say that of the train state to go on from.
        process_index, process_count: which part to read; by default those of JAX.
        threads: how many batches are read ahead at a time, each by a thread; 0 reads when asked.
        workers: how many further Python processes read, with ``threads`` threads each; 0 reads
            in this one. The main program then needs ``if __name__ == "__main__"``.

    Raises:
        ValueError: a setting is out of range, or the arrays differ in length.
        ImportError: grain is not installed.
    """

    def __init__(
        self,
        source: Source | tuple[Any, Any],
        batch_size: int,
        *,
        seed: int,
        start: int = 0,
        process_index: int | None = None,
        process_count: int | None = None,
        threads: int = 4,
        workers: int = 0,
    ) -> None:
        check_counts("Stream", batch_size=batch_size)
        for name, value in {
            "seed": seed,
            "start": start,
            "threads": threads,
            "workers": workers,
        }.items():
            check_integer("Stream", name, value)
        if process_index is None and process_count is None:
            process_index, process_count = jax.process_index(), jax.process_count()
        if process_index is None or process_count is None:
            raise ValueError(
                "Stream: give both `process_index` and `process_count`, or none; got"
                f" {process_index} and {process_count}"
            )
        check_counts("Stream", process_count=process_count)
        check_integer("Stream", "process_index", process_index, end=process_count)
        if batch_size % process_count:
            raise setting_error(
                "Stream",
                "batch_size",
                f"a multiple of the number of processes, {process_count}",
                batch_size,
            )
        source = _Arrays(*source) if isinstance(source, tuple) else source
        if batch_size > len(source):
            raise setting_error(
                "Stream", "batch_size", f"at most the number of examples, {len(source)}", batch_size
            )
        self.step, self.per_epoch = start, len(source) // batch_size
        self._source, self._part = source, [process_index, process_count]
        self._about = {"seed": seed, "batch_size": batch_size, "examples": len(source)}
        self._read = self._last = 0
        self._threads, self._workers, self._ahead = threads, workers, None
        # grain draws epoch e from seed + e, so that runs of seeds 0 and 1 would share their orders,
        # if they were not spread first
        order = (
            _grain()
            .MapDataset.source(_Reader(source))
            .shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
        )
        self._order = order[: self.per_epoch * batch_size]

    def _batches(self, index: int, count: int) -> Any:
        size = self._about["batch_size"] // count
        return self._order.batch(size, batch_fn=_stack)[index::count].repeat()

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        try:
            if self._ahead is None:
                self._ahead = self._start()
            x, target, self._last = next(self._ahead)
        except BaseException:
            self.close()  # as what is read ahead may have lost a batch
            raise
        self.step += 1
        self._read = (self._read + self.step * self._last) % WORD
        # what comes from another process is in memory that grain shares with it, and frees
        return (np.array(x), np.array(target)) if self._workers else (x, target)

    def _start(self) -> Any:
        grain = _grain()
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads)
        batches = self._batches(*self._part)[self.step :].to_iter_dataset(options)
        if self._workers:
            from absl import flags

            # grain asks absl for a flag of its own, also in programs without absl's main
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        return iter(batches)

    def get_state(self) -> State:
        """What :meth:`set_state` needs to go on after the last batch that was handed out; JSON can
        hold it.

        "source" is a checksum of what is read from: of arrays their contents; of other sources
        their attribute ``listing``, if they have one, as an :class:`jaxcnn.data.ImageFolder` does.
        "read" is one of all examples that this part of the stream has read, "last" of those of the
        last batch; both are sums over them, so that those of all parts add up."""
        return {
            "step": self.step,
            "part": self._part,
            **self._about,
            "source": self._source_mark,
            "read": self._read,
            "last": self._last,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where that stream was: this part of it, or, as :meth:`joined` gives it, all of it.
        The last batch that it had is read again, and compared.

        Raises DataError, a ValueError, where it had another seed, batch size, number of examples or
        source, or where its last batch was another."""
        if not isinstance(state, Mapping) or state.keys() != self.get_state().keys():
            raise setting_error("Stream", "state", "what get_state() gives", state)
        for name, value in {**self._about, "source": self._source_mark}.items():
            if state[name] != value:
                raise DataError(
                    f"Stream: the state is of a stream with {name} {state[name]}, this one has"
                    f" {value}; make the stream as it was"
                )
        for name in ("step", "read", "last"):
            check_integer("Stream", name, state[name])
        part = list(state["part"]) if isinstance(state["part"], Sequence) else state["part"]
        if part not in ([0, 1], self._part):
            raise DataError(
                f"Stream: the state is of part {part}, this is part {self._part}; join the states"
                " of all parts"
            )
        self.close()
        if state["step"] and self._batches(*part)[state["step"] - 1][2] != state["last"]:
            raise DataError(
                f"Stream: the batch of step {state['step'] - 1} is no longer what was read then;"
                " the data has changed, or the order in which this version of grain reads it"
            )
        self.step, self._read, self._last = state["step"], state["read"], state["last"]
        if part != self._part and self._part[0]:  # the first part takes what all have read
            self._read = self._last = 0

    @staticmethod
    def joined(states: Sequence[State]) -> State:
        """The state of the whole stream, from those of its parts in the order of their numbers, all
        at the same step."""
        read, last = (sum(state[name] for state in states) % WORD for name in ("read", "last"))
        return {**states[0], "part": [0, 1], "read": read, "last": last}

    @functools.cached_property
    def _source_mark(self) -> str:
        return (
            self._source.mark()
            if isinstance(self._source, _Arrays)
            else str(getattr(self._source, "listing", ""))
        )

    def close(self) -> None:
        """End the threads and processes that read ahead; the next batch starts them again."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None


class _Arrays:
    def __init__(self, x: Any, target: Any) -> None:
        self._x, self._target = np.asarray(x), np.asarray(target)
        if len(self._x) != len(self._target):
            raise ValueError(
                f"Stream: x and target must be as many; got {len(self._x)} and {len(self._target)}"
            )

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._x[index], self._target[index]

    def mark(self) -> str:
        return checksum(self._x, self._target)


class _Reader:
    """The source in whichever process reads it. One that grain has started ends when its parent is
    gone, which it would wait for without an end."""

    def __init__(self, source: Source) -> None:
        self._source, self._home = source, os.getpid()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        return self._source[index]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if (parent := multiprocessing.parent_process()) and os.getpid() != self._home:
            threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _stack(examples: list[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray, int]:
    x, target = (
        np.stack([np.asarray(example[place]) for example in examples]) for place in range(2)
    )
    target = target.astype(np.int32) if target.dtype.kind in "iu" else target
    return (
        x,
        target,
        sum(zlib.crc32(y.tobytes(), zlib.crc32(image)) for image, y in zip(x, target, strict=True)),
    )


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise ImportError("batches are read ahead by grain: pip install 'jaxcnn[train]'") from error
    return grain
