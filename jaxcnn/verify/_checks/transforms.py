"""Does the rule keep its word under JAX's transformations? Each must give the plain answer."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import compare, error
from jaxcnn.verify._probe import Broken, Probe, Skip
from jaxcnn.verify._report import Failure, in_words
from jaxcnn.verify._subject import Arrays, Subject, like, quick, stack, variant, widest

SIZE = 3
# All choices of mapped inputs up to this many; beyond, each of the first alone, all but one, and
# all
EVERY = 3
HUGE = 1_000_000  # numbers, from which on the last input alone and all of them are mapped


def scan(probe: Probe) -> list[Failure]:
    """Inside ``lax.scan``, over two points."""
    points = (
        [stack([leaf, variant(leaf, 1)]) for leaf in probe.subject.arrays],
        [stack([c, like(widest(c) / 2, c)]) for c in probe.u],
    )
    looped = _run(
        probe,
        lambda xs: lax.scan(lambda _, x: (None, probe.subject.pull(probe.subject.f)(*x)), None, xs)[
            1
        ],
        points,
    )
    other = probe.f(probe.variants, [like(widest(c) / 2, c) for c in probe.u])
    failures = _same("scan", probe, jax.tree.map(lambda leaf: leaf[0], looped), probe.compiled)
    return failures or _same("scan", probe, jax.tree.map(lambda leaf: leaf[1], looped), other)


def checkpoint(probe: Probe) -> list[Failure]:
    """Recomputed by ``jax.checkpoint``."""
    subject = probe.subject
    again = jax.checkpoint(subject.primal(subject.f))

    def pull(arrays: Arrays, cotangents: Arrays) -> tuple[Arrays, Arrays]:
        leaves = [arrays[i] for i in subject.places]
        value, back = jax.vjp(lambda leaves: again(subject.put(leaves, arrays)), leaves)
        return value, back(cotangents)[0]

    try:
        recomputed = _run(probe, pull, subject.arrays, probe.u)
    except jax.errors.UnexpectedTracerError:
        # Captured arrays that depend on the inputs have been found by now: what is left are
        # constants made inside the function, where JAX refuses aloud
        raise Skip(
            "refused by JAX: the rule captures a constant that is made inside the function; make it"
            " outside, or hand it through the residuals"
        ) from None
    return _same("checkpoint", probe, recomputed, probe.compiled)


def vmap(probe: Probe, *, every: bool = False) -> list[Failure]:
    """``vmap`` of the gradient, and the gradient of ``vmap``, over every choice of mapped inputs,
    against a loop."""
    arrays, subject = probe.subject.arrays, probe.subject
    shared = [i for i, leaf in enumerate(arrays) if _key_for_all(leaf)]
    if shared:
        probe.notes["vmap"] = (
            f"not over {', '.join(subject.paths[i] for i in shared)}: JAX draws from the first of"
            " such keys for all"
        )
    many, size = _choices(len(arrays), every), SIZE
    if not every and sum(np.size(leaf) for leaf in arrays) > HUGE:
        many, size = [(len(arrays) - 1,), tuple(range(len(arrays)))], 2
    choices = [chosen for chosen in many if not set(shared) & set(chosen)]
    stacked = [stack([variant(leaf, k) for k in range(size)]) for leaf in arrays]
    cotangents = [stack([like(widest(c) * (1 + k), c) for k in range(size)]) for c in probe.u]
    plain = subject.pull(subject.f)

    def all_choices(stacked: Arrays, cotangents: Arrays) -> list[Any]:
        answers = []
        for chosen in choices:
            axes = [0 if i in chosen else None for i in range(len(arrays))]
            inputs = [
                s if i in chosen else a
                for i, (s, a) in enumerate(zip(stacked, arrays, strict=True))
            ]
            mapped = jax.vmap(plain, in_axes=(axes, 0))(inputs, cotangents)
            answers.append(
                (mapped, _pull_of_map(subject, axes, inputs, cotangents, _moving(probe, chosen)))
            )
        return answers

    try:
        answers = _run(probe, all_choices, stacked, cotangents)
    except (Skip, Broken):
        raise
    except Exception as problem:
        if not any(True for _ in trace.backwards(probe.program)):
            raise Skip(
                f"JAX's own derivative of it cannot be mapped: {in_words(problem)}"
            ) from None
        _skip_where_the_plain_cannot(probe, choices, stacked)
        raise

    def loop(chosen: tuple[int, ...], weights: list[bool]) -> tuple[Arrays, Arrays]:
        at = [
            [variant(a, k) if i in chosen else a for i, a in enumerate(arrays)] for k in range(size)
        ]
        points = [
            probe.f(
                at[k], [like(widest(c)[k] * m, c) for c, m in zip(cotangents, weights, strict=True)]
            )
            for k in range(size)
        ]
        return tuple(
            [np.stack([widest(p[side][i]) for p in points]) for i in range(len(points[0][side]))]
            for side in (0, 1)
        )  # type: ignore[return-value]

    for chosen, (mapped, of_map) in zip(choices, answers, strict=True):
        moving = _moving(probe, chosen)
        values, gradients = loop(chosen, [True] * len(moving))
        named = "vmap over " + ", ".join(subject.paths[i] for i in chosen)
        failures = _same("vmap", probe, mapped, (values, gradients), f"{named}, of the gradient: ")
        if not all(moving):
            _, gradients = loop(chosen, moving)
            probe.notes["vmap"] = (
                "gradient of the map: without outputs that depend on no mapped input, whose"
                " cotangents JAX hands to each example whole"
            )
        summed = [
            g if place in chosen else g.sum(0)
            for place, g in zip(subject.places, gradients, strict=True)
        ]
        failures = failures or _same(
            "vmap", probe, of_map, (values, summed), f"{named}, gradient of the map: "
        )
        if failures:
            return failures
    return []


def _skip_where_the_plain_cannot(
    probe: Probe, choices: list[tuple[int, ...]], stacked: Arrays
) -> None:
    """What the function cannot do without its rule either (arguments that are more than their
    arrays, such as sparse matrices) is no fault of the rule."""
    plain = probe.subject.primal(probe.subject.reference or probe.subject.f)
    for chosen in choices:
        axes = [0 if i in chosen else None for i in range(len(stacked))]
        arrays = [
            s if i in chosen else a
            for i, (s, a) in enumerate(zip(stacked, probe.subject.arrays, strict=True))
        ]
        try:
            quick(jax.vmap(plain, in_axes=(axes,)))(arrays)
        except Exception as problem:
            raise Skip(f"the plain function cannot be mapped either: {in_words(problem)}") from None


def _key_for_all(leaf: Any) -> bool:
    """Whether it is a random key of rbg or unsafe_rbg: under ``vmap`` over several of them, what is
    drawn is drawn from the first, in anybody's function."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) and "rbg" in str(
        jax.random.key_impl(leaf)
    )


def _moving(probe: Probe, chosen: tuple[int, ...]) -> list[bool]:
    """Whether each output depends on the mapped inputs.

    Of one that does not, ``vmap`` of a ``custom_vjp`` gives each example the *sum* of the
    cotangents, and sums again over the examples; from JAX 0.12 on it refuses."""
    reached = trace.marks(probe.program, chosen)
    return [id(v) in reached for v in probe.program.jaxpr.outvars]


def _pull_of_map(
    subject: Subject, axes: list[int | None], inputs: Arrays, cotangents: Arrays, moving: list[bool]
) -> tuple[Arrays, Arrays]:
    """The pull of the mapped function, by way of the outputs that are ``moving``: inputs that are
    not mapped get the sum of all cotangents."""
    primal = jax.vmap(subject.primal(subject.f), in_axes=(axes,))

    def through(leaves: Arrays) -> tuple[Arrays, Arrays]:
        value = primal(subject.put(leaves, inputs))
        return list(itertools.compress(value, moving)), value

    _, pull, value = jax.vjp(through, [inputs[i] for i in subject.places], has_aux=True)
    return value, pull(list(itertools.compress(cotangents, moving)))[0]


def _choices(count: int, every: bool) -> list[tuple[int, ...]]:
    if count <= EVERY or every:
        return [c for r in range(1, count + 1) for c in itertools.combinations(range(count), r)]
    single = [(i,) for i in range(min(count, 4))]
    return [*single, tuple(range(1, count)), tuple(range(count))]


def _run(probe: Probe, function: Callable[..., Any], *args: Any) -> Any:
    """Compiled; a refusal by JAX of what the plain forward refuses too is no fault of the rule."""
    if not probe.traceable:
        raise Skip("the function cannot be traced")
    if probe.failed & {"structure", "captured tracers"}:
        raise Broken
    try:
        return quick(function)(*args)
    except NotImplementedError as problem:
        raise Skip(f"refused with {in_words(problem)}") from None


def _same(check: str, probe: Probe, got: Any, want: Any, prefix: str = "") -> list[Failure]:
    """Value and gradient agree. The tolerance is the plain one, with the point's measured noise as
    a share of the largest element."""
    cause = {
        "vmap": (
            "right on its own, wrong under vmap: a batching rule, a callback's vmap_method, or code"
            " that depends on shapes or on the kind of tracer"
        ),
        "scan": "right on its own, wrong inside a loop",
        "checkpoint": "right on its own, wrong when the forward is run again",
    }.get(check, "")
    failures = []
    for names, side in (
        ([f"output[{i}]" for i in range(len(got[0]))], 0),
        (probe.subject.names, 1),
    ):
        for g, w in zip(got[side], want[side], strict=True):
            probe.record(check, error(g, w), probe.tolerance.rtol)
        failures += compare(
            check,
            [prefix + n for n in names],
            got[side],
            want[side],
            probe.tolerance,
            [
                lambda i, side=side, measured=measured: _share(
                    measured()[side][i], probe.compiled[side][i], want[side][i]
                )
                for measured in (lambda: probe.noise, lambda: probe.shaken)
            ],
            cause=cause,
        )
    return failures


def _share(noise: np.ndarray, here: Any, there: Any) -> float:
    """The largest noise at the point, grown as the numbers elsewhere are larger."""
    largest = float(noise.max(initial=0.0))
    sizes = [
        np.abs(np.nan_to_num(widest(a), posinf=0, neginf=0)).max(initial=0.0) for a in (here, there)
    ]
    return largest * max(1.0, float(sizes[1] / sizes[0])) if sizes[0] > 0 else largest
