"""The corpus put to the gradient checkers there are:
``python tests/corpus/peers.py [--json FILE] [--only TEXT]``.

Every peer differentiates the floating leaves of the arguments and sees the floating leaves of the
output; the rest is closed over. An exception of any kind counts as a rejection. Tolerances and
steps are each peer's defaults.

- ``check_grads``, ``chex``: reverse mode only. Their default modes include forward mode, which
  every ``custom_vjp`` refuses with a TypeError, so that by default they reject every rule, right or wrong.
- ``gradcheck``: of torch, around a Function whose forward calls the (jitted) JAX function and whose
  backward calls ``jax.vjp``. It asks for float64, so it is not run in float32. Above 2 000 elements it runs in its fast mode.
"""

import argparse
import importlib
import json
import pathlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np

from corpus import RIGHT, WRONG
from corpus.rule import Rule


class MissingPeerError(Exception):
    """This checker is not installed, or not ready."""


def differentiable(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def widened(args: Any) -> Any:
    """The floating arrays in float64, the complex ones in complex128."""

    def widen(leaf: Any) -> Any:
        if not differentiable(leaf):
            return leaf
        return jnp.asarray(leaf, jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64)

    return jax.tree.map(widen, args)


def flat(f: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], list[Any]]:
    """``f`` from its floating leaves to a tuple of its floating outputs (a bare array if there is
    one), and the leaves."""
    leaves, tree = jax.tree.flatten(args)
    places = [i for i, leaf in enumerate(leaves) if differentiable(leaf)]

    def call(*floating: Any) -> Any:
        everything = list(leaves)
        for i, leaf in zip(places, floating, strict=True):
            # finite differences hand over NumPy arrays, which have no .at
            everything[i] = jnp.asarray(leaf)
        outputs = tuple(
            y for y in jax.tree.leaves(f(*tree.unflatten(everything))) if differentiable(y)
        )
        return outputs[0] if len(outputs) == 1 else outputs

    return call, [leaves[i] for i in places]


def by_check_grads(rule: Rule, args: tuple[Any, ...]) -> None:
    from jax.test_util import check_grads

    f, leaves = flat(rule.f, args)
    check_grads(f, tuple(leaves), order=1, modes=("rev",))


def by_chex(rule: Rule, args: tuple[Any, ...]) -> None:
    try:
        chex = importlib.import_module("chex")
    except ImportError as error:
        raise MissingPeerError("chex is not installed") from error
    f, leaves = flat(rule.f, args)
    chex.assert_numerical_grads(f, tuple(leaves), order=1, modes=("rev",))


def by_gradcheck(rule: Rule, args: tuple[Any, ...]) -> None:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise MissingPeerError("torch is not installed") from error
    f, leaves = flat(rule.f, args)
    compiled = jax.jit(f)

    def to_torch(y: Any) -> Any:
        return torch.tensor(np.asarray(y))

    class Bridge(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            ctx.save_for_backward(*inputs)
            y = compiled(*(jnp.asarray(x.detach().numpy()) for x in inputs))
            return tuple(map(to_torch, y)) if isinstance(y, tuple) else to_torch(y)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *cotangents: Any) -> Any:
            # torch conjugates where JAX does not.
            y, pull = jax.vjp(f, *(jnp.asarray(x.detach().numpy()) for x in ctx.saved_tensors))
            given = tuple(jnp.conj(jnp.asarray(c.resolve_conj().numpy())) for c in cotangents)
            return tuple(
                to_torch(jnp.conj(g)) for g in pull(given if isinstance(y, tuple) else given[0])
            )

    tensors = [to_torch(leaf).requires_grad_() for leaf in leaves]
    many = sum(t.numel() for t in tensors) > 2000
    assert torch.autograd.gradcheck(Bridge.apply, tensors, check_batched_grad=False, fast_mode=many)


def by_jaxcnn(with_reference: bool) -> Callable[[Rule, tuple[Any, ...]], None]:
    def check(rule: Rule, args: tuple[Any, ...]) -> None:
        try:
            from jaxcnn.verify import check
        except ImportError as error:
            raise MissingPeerError(f"jaxcnn.verify is not ready: {error}") from error
        report = check(rule.f, *args, reference=rule.reference if with_reference else None)
        assert report.ok, report.reason

    return check


# name, checker, whether in float64, whether it is told the reference
PEERS = [
    ("jax.test_util.check_grads", by_check_grads, False, False),
    ("jax.test_util.check_grads", by_check_grads, True, False),
    ("chex.assert_numerical_grads", by_chex, False, False),
    ("chex.assert_numerical_grads", by_chex, True, False),
    ("torch.autograd.gradcheck", by_gradcheck, True, False),
    ("jaxcnn.verify.check", by_jaxcnn(False), False, False),
    ("jaxcnn.verify.check, with the reference", by_jaxcnn(True), False, True),
]


def verdict(checker: Callable[..., None], rule: Rule, wide: bool) -> str:
    """Empty if the checker accepts the rule, else why it does not."""
    try:
        with jax.enable_x64(wide), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checker(rule, widened(rule.args) if wide else rule.args)
    except MissingPeerError:
        raise
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return f"{type(error).__name__}: {first[:200]}"
    return ""


def survey(peers: list[Any], rules: list[tuple[bool, Rule]]) -> list[dict[str, Any]]:
    """One row a peer: how many of the wrong were rejected, how many of the right accepted, and its
    mistakes."""
    rows = []
    for name, checker, wide, told in peers:
        label = f"{name} ({'float64' if wide else 'float32'})"
        row = {
            "peer": label,
            "reference": told,
            "wrong": 0,
            "rejected": 0,
            "right": 0,
            "accepted": 0,
            "mistakes": {},
        }
        start = time.perf_counter()
        for number, (right, rule) in enumerate(rules):
            if rule.needs == "reference" and not told:
                continue
            if sys.stderr.isatty() or number % 50 == 0:
                print(
                    f"\r{label}: {number + 1} of {len(rules)} {rule.name[:60]:<60}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            try:
                why = verdict(checker, rule, wide)
            except MissingPeerError as missing:
                row["note"] = str(missing)
                break
            row["right" if right else "wrong"] += 1
            if right == (not why):
                row["accepted" if right else "rejected"] += 1
            else:
                row["mistakes"][rule.name] = why or "accepted"
        row["seconds"] = round(time.perf_counter() - start, 1)
        print(f"\r{label}: {row['seconds']} s{'':<80}", file=sys.stderr)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| checker | wrong rules rejected | right rules accepted | seconds |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        if "note" in row:
            lines.append(f"| {row['peer']} | skipped: {row['note']} | | |")
        else:
            counts = f"{row['rejected']} of {row['wrong']} | {row['accepted']} of {row['right']}"
            lines.append(f"| {row['peer']} | {counts} | {row['seconds']:.0f} |")
    needing = (
        sum(rule.needs == "reference" for rule in WRONG),
        sum(rule.needs == "reference" for rule in RIGHT),
    )
    lines.append(
        f"\n{needing[0]} wrong and {needing[1]} right rules can only be judged against their"
        " reference; they count only for a checker that is told it. check_grads and chex run in"
        " reverse mode only: with their default modes both reject every custom_vjp, right or"
        " wrong."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="write all verdicts here")
    parser.add_argument("--only", default="", help="only rules whose name contains this")
    parser.add_argument("--peer", default="", help="only checkers whose name contains this")
    given = parser.parse_args()
    rules = [
        (right, rule)
        for right, group in ((False, WRONG), (True, RIGHT))
        for rule in group
        if given.only in rule.name
    ]
    rows = survey([peer for peer in PEERS if given.peer in peer[0]], rules)
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
