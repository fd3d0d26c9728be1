"""A worker process of ``python -m jaxcnn verify``: orders come in on stdin, reports go out on
stdout, one JSON object a line.

The first line that comes in is the setup: on which platform, with how many simulated devices, and
where the ops are (``jaxcnn.ops:OPS``). It is answered by ``{"ready": true}`` and each order by
``{"report": …}``, or by ``{"usage": …}`` where it cannot be carried out. What anything prints goes
to stderr."""

import ast
import dataclasses
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

from jaxcnn.verify._commands import arguments, report_json
from jaxcnn.verify._report import Report, Verdict, broken

SHOWN = 12  # lines of a traceback


def main() -> None:
    """Serve until there are no more orders."""
    orders, answers = _own_streams()
    ops = _prepare(json.loads(next(orders)))
    for answer in serve(ops, orders):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def serve(ops: Any, orders: TextIO | Iterator[str]) -> Iterator[dict[str, Any]]:
    """The answers, beginning with that to the setup."""
    yield {"ready": True}
    for line in orders:
        order = json.loads(line)
        try:
            yield {"report": report_json.pack(perform(order, ops))}
            _forget()
        except arguments.UsageError as problem:
            yield {"usage": str(problem)}
        except Exception as problem:
            said = "".join(traceback.format_exception(problem)).strip().splitlines()[-SHOWN:]
            name = order.get("op") or order.get("function", "")
            yield {
                "report": report_json.pack(
                    broken(name, "\n".join(["the check itself raised", *said]), "")
                )
            }


def _forget() -> None:
    """Compiled programs of a case are of no use to the next, and hundreds of them fill the
    memory."""
    import jax

    jax.clear_caches()


def perform(order: dict[str, Any], ops: Any) -> Report:
    """Carry out one order."""
    if order["do"] == "function":
        return _function(order)
    if order["do"] == "fuzz":
        return _fuzz(order, ops)
    from jaxcnn.verify import _prove as proof

    if order["do"] == "compiler":
        return _compiler(order, ops)
    op = next(op for op in ops if op.name == order["op"])
    if order["do"] == "kinks":
        return proof.prove_kinks(op, seed=order["seed"])
    case = op.cases[order["case"]]
    return proof.prove_case(
        op, case, seed=order["seed"], dtypes=tuple(order["dtypes"]), only=tuple(order["only"])
    )


def _compiler(order: dict[str, Any], ops: Any) -> Report:
    """A small program, or an op's first case, compiled against itself op by op."""
    from jaxcnn.verify._commands import compiler

    start, rows = time.perf_counter(), order["rows"]
    if "program" in order:
        found = [(order["program"], compiler.programs()[order["program"]](rows))]
    else:
        op = next(op for op in ops if op.name == order["op"])
        found = list(compiler.of_op(op, op.cases[0], rows))
    small = [(name, made) for name, made in found if compiler.numbers(made) <= compiler.LARGEST]
    failures = [
        failure
        for name, made in small
        for failure in compiler.against_steps(f"{name}, {rows}", made, guard=order["guard"])
    ]
    status = "FAILED" if failures else "holds" if small else "skipped"
    verdict = Verdict(
        f"{rows} rows",
        "compiled is what op by op is, and equal calls give equal bits",
        status,
        tuple(failures),
        "" if small else f"more than {compiler.LARGEST} numbers",
        seconds=time.perf_counter() - start,
    )
    return Report(order.get("op", "programs"), {}, "float32", (verdict,))


def _fuzz(order: dict[str, Any], ops: Any) -> Report:
    """A search for a call at which an op, or a function of one's own, is wrong."""
    from jaxcnn.verify._fuzz.search import fuzz

    if "function" in order:
        f, strategy = find(order["function"]), order["strategy"] and find(order["strategy"])
        if strategy is None and getattr(f, "space", None) is None:
            raise arguments.UsageError(
                f"--module {order['function']} with --fuzz needs --strategy: what hypothesis draws"
                " its arguments from; only ops bring their own"
            )
        reference = order["reference"] and find(order["reference"])
    else:
        f, strategy, reference = next(op for op in ops if op.name == order["op"]), None, None
    found = fuzz(f, strategy, reference=reference, seconds=order["seconds"], seed=order["seed"])
    failures = () if found.report is None else found.report.failures[:1]
    verdict = Verdict(
        "search",
        "no drawn call has a wrong value or gradient",
        "FAILED" if failures else "holds",
        tuple(dataclasses.replace(failure, code="\n" + found.program) for failure in failures),
        f"{found.calls} calls",
        seconds=found.seconds,
    )
    inputs = {} if found.report is None else found.report.inputs
    return Report(order.get("function") or order["op"], inputs, "", (verdict,), order["seed"])


def find(name: str) -> Any:
    """What ``package.module:attribute`` names."""
    module, _, attributes = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attributes.split("."))):
        raise arguments.UsageError(f"{name!r}: expected package.module:function")
    try:
        found = importlib.import_module(module)
    except ImportError as problem:
        raise arguments.UsageError(f"{name}: {module} cannot be imported: {problem}") from None
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise arguments.UsageError(
                f"{name}: {getattr(found, '__name__', found)} has no {attribute!r}"
            )
        found = getattr(found, attribute)
    return found


def _function(order: dict[str, Any]) -> Report:
    from jaxcnn.verify._check import check

    f, reference = find(order["function"]), order["reference"] and find(order["reference"])
    args = arguments.draw(arguments.parse(order["shapes"]), seed=order["seed"], high=order["high"])
    settings = {name: ast.literal_eval(value) for name, value in order["settings"].items()}
    report = check(
        f, *args, reference=reference, seed=order["seed"], dtypes=tuple(order["dtypes"]), **settings
    )
    return dataclasses.replace(report, name=order["function"])


def _own_streams() -> tuple[TextIO, TextIO]:
    """stdin and stdout under numbers that nobody else knows; what others read is empty, what they
    print goes to stderr."""
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return orders, answers


def _prepare(setup: dict[str, Any]) -> Any:
    """Set JAX up before anything touches a backend, then load the ops, where there are any."""
    if setup["platform"] == "cpu" and setup["hurried"]:  # much is compiled here and little is run
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
        )
    import jax

    from jaxcnn._io import memory

    if setup["platform"] != "default":
        jax.config.update("jax_platforms", setup["platform"])
    jax.config.update("jax_num_cpu_devices", setup["devices"])
    memory.keep_in_time()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return find(setup["ops"]) if setup["ops"] else ()


if __name__ == "__main__":
    main()
