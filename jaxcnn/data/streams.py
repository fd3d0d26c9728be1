"""Batches without an end from sets that need not fit in memory: read ahead by grain, in any number of processes. Needs the extra ``jaxcnn[train]``.

The batch of a step depends on the seed and the number of the step alone. Each epoch is a new order of all examples, without those that do not fill a last batch; of every batch
each process reads one part, and the parts in turn are the batch that a single process would read. So a run may be cut anywhere, and go on with another number of processes.

>>> x, labels = np.arange(6.0).reshape(6, 1), np.arange(6) % 2
>>> stream = Stream((x, labels), 2, seed=0)
>>> sorted(float(x) for _ in range(3) for x in next(stream)[0].ravel())
[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
>>> stream.step, stream.get_state()
(3, {'step': 3, 'seed': 0, 'batch_size': 2, 'examples': 6})
>>> stream.close()
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

from jaxcnn.errors import check_counts, check_integer, setting_error


@runtime_checkable
class Source(Protocol):
    """Examples by number: ``source[i]`` is (image, label), such as an :class:`jaxcnn.data.ImageFolder`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


State: TypeAlias = dict[str, int]


class Stream(Iterator[tuple[np.ndarray, np.ndarray]]):
    """An iterator of (x, target): x stacked from the images, target from the labels (int32, if they are integers), both with ``batch_size`` / ``process_count`` rows.

    Args:
        source: a :class:`Source`, or arrays (x, target) of all examples.
        batch_size: of all processes together.
        seed: of the order.
        start: the number of the first step, say that of the train state to go on from.
        process_index, process_count: which part to read; by default those of JAX.
        threads: so many batches are read ahead at a time, each by a thread; 0 reads when asked.
        workers: so many further Python processes that read, with ``threads`` threads each; 0 reads in this one. The main program then needs ``if __name__ == "__main__"``.

    Raises:
        ValueError: a setting is out of range, or the arrays differ in length.
        ImportError: grain is not installed.
    """

    def __init__(
        self, source: Source | tuple[Any, Any], batch_size: int, *, seed: int, start: int = 0, process_index: int | None = None, process_count: int | None = None,
        threads: int = 4, workers: int = 0,
    ) -> None:  # fmt: skip
        check_counts("Stream", batch_size=batch_size)
        for name, value in {"seed": seed, "start": start, "threads": threads, "workers": workers}.items():
            check_integer("Stream", name, value)
        if process_index is None and process_count is None:
            process_index, process_count = jax.process_index(), jax.process_count()
        if process_index is None or process_count is None:
            raise ValueError(f"Stream: give both `process_index` and `process_count`, or none; got {process_index} and {process_count}")  # fmt: skip
        check_counts("Stream", process_count=process_count)
        check_integer("Stream", "process_index", process_index, end=process_count)
        if batch_size % process_count:
            raise setting_error(
                "Stream", "batch_size", f"a multiple of the number of processes, {process_count}", batch_size
            )
        source = _Arrays(*source) if isinstance(source, tuple) else source
        if batch_size > len(source):
            raise setting_error("Stream", "batch_size", f"at most the number of examples, {len(source)}", batch_size)
        self.step, self.per_epoch = start, len(source) // batch_size
        self._about = {"seed": seed, "batch_size": batch_size, "examples": len(source)}
        self._threads, self._workers, self._ahead = threads, workers, None
        grain = _grain()
        # grain draws epoch e from seed + e, so that runs of seeds 0 and 1 would share their orders, if they were not spread first
        order = grain.MapDataset.source(source).shuffle(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]))
        parts = order[: self.per_epoch * batch_size].batch(batch_size // process_count, batch_fn=_stack)
        self._batches = parts[process_index::process_count].repeat()

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        try:
            if self._ahead is None:
                self._ahead = self._start()
            x, target = next(self._ahead)
        except BaseException:
            self.close()  # as what is read ahead may have lost a batch
            raise
        self.step += 1
        # what comes from another process lies in memory that grain shares with it, and frees
        return (np.array(x), np.array(target)) if self._workers else (x, target)

    def _start(self) -> Any:
        grain = _grain()
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=self._threads)
        batches = self._batches[self.step :].to_iter_dataset(options)
        if self._workers:
            from absl import flags

            # grain asks absl for a flag of its own, also in programs without absl's main
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        return iter(batches)

    def get_state(self) -> State:
        """What :meth:`set_state` needs to go on after the last batch that was handed out; JSON can hold it."""
        return {"step": self.step, **self._about}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where that stream was. ValueError where it had another seed, batch size or number of examples."""
        if not isinstance(state, Mapping) or state.keys() != self.get_state().keys():
            raise setting_error("Stream", "state", "what get_state() gives", state)
        for name, value in self._about.items():
            if state[name] != value:
                raise ValueError(f"Stream: the state is of a stream with {name} {state[name]}, this one has {value}; make the stream as it was")  # fmt: skip
        check_integer("Stream", "step", state["step"])
        self.close()
        self.step = state["step"]

    def close(self) -> None:
        """End the threads and processes that read ahead; the next batch starts them again."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = None


class _Arrays:
    def __init__(self, x: Any, target: Any) -> None:
        self._x, self._target = np.asarray(x), np.asarray(target)
        if len(self._x) != len(self._target):
            raise ValueError(f"Stream: x and target must be as many; got {len(self._x)} and {len(self._target)}")

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._x[index], self._target[index]


def _stack(examples: list[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    x, target = (np.stack([np.asarray(example[place]) for example in examples]) for place in range(2))
    return x, target.astype(np.int32) if target.dtype.kind in "iu" else target


def _grain() -> Any:
    try:
        import grain
    except ImportError as error:
        raise ImportError("batches are read ahead by grain: pip install 'jaxcnn[train]'") from error
    return grain
