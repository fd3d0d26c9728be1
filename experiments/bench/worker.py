"""One peer's process: ``python -m experiments.bench.worker PEER THREADS [x64]``. Orders come in on
stdin, answers go out on stdout, one JSON object a line.

    at the start                                         → {"ready": {package: version}}
    {"do": "prepare", "id", "kind", "of", "data", "out"} → {"facts": {…}}, outputs in ``out``
    {"do": "turn", "id", "seconds"}                      → {"seconds": [of each call],
                                                            "loss": of the last,
                                                            "others": their share of the CPUs}
    {"do": "drop"}                                       → {}, everything prepared is forgotten

or ``{"error": why}``. While it waits for an order it does nothing, so that its threads are not in
the way of others. What anything prints goes to stderr."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import jaxcnn
from experiments.bench import data, machine, peers

REPORTED = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")
LEAST_CALLS = 3  # in a turn
SLOW = 3.0  # seconds; what takes longer is called once in a turn
LONGEST = 300  # letters of an error


def main() -> None:
    """Serve until there are no more orders."""
    orders, answers = _own_streams()
    peer, threads, *wide = sys.argv[1:]

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        prepare = _set_up(peer, int(threads), x64=bool(wide))
    except ImportError as problem:
        answer(
            {
                "error": (
                    f"not installed ({problem}); `pip install -e '.[bench]'` brings"
                    f" {peers.PEERS[peer].package}"
                )
            }
        )
        return
    answer({"ready": {name: metadata.version(name) for name in REPORTED if name in sys.modules}})
    serve(peer, prepare, orders, answer)


def serve(
    peer: str, prepare: peers.Prepare, orders: TextIO, answer: Callable[[dict[str, Any]], None]
) -> None:
    """An answer for each order."""
    calls: dict[str, Callable[[], Any]] = {}
    for line in orders:
        order = json.loads(line)
        try:
            match order["do"]:
                case "prepare":
                    arrays = data.load(Path(order["data"]))
                    task = prepare(peers.Order(order["kind"], order["of"]), arrays, peer)
                    data.save(Path(order["out"]), task.outputs)
                    calls[order["id"]] = task.call
                    answer({"facts": task.facts})
                case "turn":
                    answer(turn(calls[order["id"]], order["seconds"]))
                case _:
                    calls.clear()
                    gc.collect()
                    answer({})
        except Exception as problem:
            answer({"error": _in_a_line(problem)})


def turn(call: Callable[[], Any], at_least: float) -> dict[str, Any]:
    """One call to get caches and threads going, which does not count; then as many as take
    ``at_least`` seconds, each timed to its completion."""
    start = time.perf_counter()
    call()
    least = LEAST_CALLS if time.perf_counter() - start < SLOW else 1
    start, own, busy = time.perf_counter(), time.process_time(), machine.busy_seconds()
    seconds, loss, before = [], None, start
    while len(seconds) < least or before - start < at_least:
        before = time.perf_counter()
        loss = call()
        seconds.append(time.perf_counter() - before)
    whole, own, others = (
        (time.perf_counter() - start) * (os.cpu_count() or 1),
        time.process_time() - own,
        None,
    )
    if busy is not None:
        others = min(max(0.0, ((machine.busy_seconds() or busy) - busy - own) / whole), 1.0)
    return {
        "seconds": seconds,
        "loss": None if loss is None else float(loss.mean()),
        "others": others,
    }


def _set_up(peer: str, threads: int, *, x64: bool) -> peers.Prepare:
    """Everything that must happen before the peer's packages are loaded, or right after."""
    if hasattr(os, "sched_setaffinity"):  # what the thread pools of XLA and PyTorch go by
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if peers.PEERS[peer].package == "torch":
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(threads)
        torch.set_flush_denormal(
            True
        )  # numbers below 1e-38 are 0, as XLA has it; they would cost a hundred times as much
    else:
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", x64)
        if peer == "jaxcnn":
            jaxcnn.keep_memory()
    return peers.load(peer)


def _in_a_line(problem: Exception) -> str:
    said = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {said[:LONGEST]}{'…' if len(said) > LONGEST else ''}"


def _own_streams() -> tuple[TextIO, TextIO]:
    """stdin, and stdout under a number that nobody else knows."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return sys.stdin, answers


if __name__ == "__main__":
    main()
