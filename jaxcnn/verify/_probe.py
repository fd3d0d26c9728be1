"""One function at one point, with the answers that several checks need: each computed once, when
first asked for."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify import _trace as trace
from jaxcnn.verify._numerics.comparison import NARROW, Tolerance, error
from jaxcnn.verify._numerics.shaken import shaken
from jaxcnn.verify._report import in_words
from jaxcnn.verify._subject import (
    Arrays,
    Pull,
    Subject,
    is_complex,
    like,
    quick,
    random_like,
    variant,
    widest,
)

FIRST_ORDER = {
    "captured tracers",
    "structure",
    "determinism",
    "NaN and infinity",
    "value",
    "jit",
    "linear in dy",
    "gradient",
    "finite differences",
    "kinks",
}
SMALL = 2.0**-10  # cotangents at which nobody clips
DRAWS = 4  # of the signs of rounding
# How JAX, or a function itself, says that it does not do this: in forward mode, in this dtype
REFUSALS = TypeError, ValueError, NotImplementedError


class Skip(Exception):  # noqa: N818 (a verdict, not an error)
    """The check does not apply here; the message says why."""


class Broken(Exception):  # noqa: N818
    """The plain answer itself could not be had: another check says why."""


class Undecided(Exception):  # noqa: N818
    """Rounding hides the answer."""


@dataclasses.dataclass
class Probe:
    """A subject in the dtype that decides, and what is known of it.

    Attributes:
        subject: the function at its point, in ``dtype``.
        given: the same in the dtypes that the user gave.
        seed: for cotangents and directions.
        bits: the relative difference that two equal calls may show (0: none).
        x64: whether the user's process has x64 on, where ``given`` is run.
        small: whether the backward is judged at small cotangents.
        rtol, atol: what the user allows beyond rounding, of the largest element and absolute.
        expected: the rules that must run.
        limits: what the gradient may cost at most; None: not asked.
        ran: the hand-written rules that ran, with how often forward and backward.
        costs: what it was found to cost.
        ulps: what each component may be off by, in its own last place; 0: not asked.
        notes: what a reader should know, by check.
        worst: (largest relative error, the one allowed), by check.
        surrogate: whether the reference's gradient turned out not to be the derivative of its value
            (straight-through, reversal), on purpose.
        backward_eps: the precision that the backward computes in, which may be less than the
            forward's (known once ``tolerance`` is).
    """

    subject: Subject
    given: Subject
    seed: int = 0
    bits: float = 0.0
    strict_kinks: bool = True
    x64: bool = True
    rtol: float = 0.0
    atol: float = 0.0
    small: bool = False
    expected: tuple[str, ...] = ()
    limits: Mapping[str, float] | None = None
    ulps: float = 0.0
    ran: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reversed_twice: Any = None
    twice: Any = None
    backward_eps: float = 0.0
    surrogate: bool = False
    disputed: list[Any] = dataclasses.field(default_factory=list)
    kinked: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    settled: dict[tuple[int, int], Any] = dataclasses.field(default_factory=dict)
    failed: set[str] = dataclasses.field(default_factory=set)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    worst: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def u(self) -> Arrays:
        """The cotangents of most checks: random, but 0 where the output is not finite, since no
        derivative is to be had there."""
        outputs = self.primal(self.subject.arrays)
        drawn = random_like(outputs, self.seed, 1)
        return [
            like(np.where(np.isfinite(widest(y)), self.unit * widest(c), 0), c)
            for y, c in zip(outputs, drawn, strict=True)
        ]

    @property
    def unit(self) -> float:
        """The size of cotangents."""
        return SMALL if self.small else 1.0

    @functools.cached_property
    def untraceable(self) -> str:
        """Why the function cannot be traced; empty if it can."""
        try:
            _ = self.program
        except (
            jax.errors.ConcretizationTypeError,
            jax.errors.TracerArrayConversionError,
        ) as problem:
            return in_words(problem)
        return ""

    @property
    def traceable(self) -> bool:
        """Whether the function can be traced, and so compiled."""
        return not self.untraceable

    @functools.cached_property
    def f(self) -> Pull:
        """(arrays, cotangents) ↦ (value, gradient) of the function, compiled if it can be."""
        plain = self.subject.pull(self.subject.f)
        return quick(plain) if self.traceable else plain

    @property
    def faults(self) -> list[str]:
        """What this version of XLA may compute wrongly in the function's program."""
        met = getattr(getattr(self.f, "careful", None), "met", {})
        return list(dict.fromkeys(fault.name for faults in met.values() for fault in faults))

    @functools.cached_property
    def reference(self) -> Pull:
        """The same of the reference."""
        if self.subject.reference is None:
            raise Skip("no reference was given")
        return quick(self.subject.pull(self.subject.reference))

    @functools.cached_property
    def primal(self) -> Callable[[Arrays], Arrays]:
        """The function outside differentiation, compiled if it can be."""
        plain = self.subject.primal(self.subject.f)
        return quick(plain) if self.traceable else plain

    @functools.cached_property
    def eager(self) -> tuple[Arrays, Arrays]:
        """Value and gradient, not compiled."""
        self.need_structure()
        return self.subject.pull(self.subject.f)(self.subject.arrays, self.u)

    @functools.cached_property
    def compiled(self) -> tuple[Arrays, Arrays]:
        """Value and gradient, compiled: the plain answer of most checks."""
        self.need_structure()
        return self.f(self.subject.arrays, self.u)

    @functools.cached_property
    def oracle(self) -> tuple[Arrays, Arrays]:
        """Value and gradient of the reference."""
        return self.reference(self.subject.arrays, self.u)

    @functools.cached_property
    def program(self) -> Any:
        """The traced function."""
        return jax.make_jaxpr(self.subject.primal(self.subject.f))(self.subject.arrays)

    @functools.cached_property
    def dependent(self) -> trace.Marked:
        """What depends on the inputs."""
        return trace.marks(self.program, range(len(self.program.jaxpr.invars)))

    @functools.cached_property
    def smooth(self) -> trace.Marked:
        """What depends on the differentiable inputs by way of floating-point numbers."""
        return trace.marks(self.program, self.subject.places, trace.carries_derivative)

    @functools.cached_property
    def tolerance(self) -> Tolerance:
        """From the narrowest dtype that the function (or its reference) computes in, and its
        longest sum.

        What only the *backward* computes in less counts as long as it is no less than the user's
        own dtype."""
        own_eps = float(jnp.finfo(self.subject.leaves[0].dtype).eps)
        if not self.traceable:
            return self.allowing(Tolerance.of(own_eps))
        programs = [(self.program, self.smooth)]
        pulls = []
        for f, into in ((self.subject.reference, programs), (self.subject.f, pulls)):
            if f is not None and not self.failed & {"captured tracers", "structure"}:
                program = jax.make_jaxpr(self.subject.pull(f))(self.subject.arrays, self.u)
                everything = trace.marks(
                    program, range(len(program.jaxpr.invars)), trace.carries_derivative
                )
                into.append((program, everything))
        eps = max(own_eps, *(trace.narrowest(*p) for p in programs))
        own = max(float(jnp.finfo(leaf.dtype).eps) for leaf in self.given.leaves)
        for program in pulls:
            self.backward_eps = max(eps, trace.narrowest(*program))
            if self.backward_eps <= own:
                eps = self.backward_eps
        terms = max(trace.longest_sum(p.jaxpr) for p, _ in (*programs, *pulls))
        return self.allowing(Tolerance.of(eps, terms))

    def allowing(self, tolerance: Tolerance) -> Tolerance:
        """The tolerance, and what the user allows besides."""
        return dataclasses.replace(
            tolerance,
            rtol=max(tolerance.rtol, self.rtol),
            floor=max(tolerance.floor, self.rtol),
            tiny=max(tolerance.tiny, self.atol),
        )

    @functools.cached_property
    def noise(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What a change in the last place of inputs and cotangents does to each value and gradient,
        elementwise."""
        answers = [self.compiled, *([self.oracle] if self.subject.reference is not None else [])]
        functions = [self.f, *([self.reference] if self.subject.reference is not None else [])]
        eps = self.tolerance.eps
        values, gradients = ([np.zeros(np.shape(a)) for a in part] for part in answers[0])
        nudge = 2 * eps if eps < NARROW else eps / 2
        signs = random_like(self.u, self.seed, 7)
        nudged = [
            like(widest(c) * (1 + nudge * np.sign(np.real(widest(s)))), c)
            for c, s in zip(self.u, signs, strict=True)
        ]
        moves = [(1 + nudge, self.u), (1 - nudge, self.u), (1.0, nudged)]
        for f, (value, gradient) in zip(functions, answers, strict=True):
            for factor, cotangents in moves:
                leaves = [like(widest(leaf) * factor, leaf) for leaf in self.subject.leaves]
                moved_value, moved = f(self.subject.put(leaves), cotangents)
                for into, was, now in ((values, value, moved_value), (gradients, gradient, moved)):
                    for i, (a, b) in enumerate(zip(was, now, strict=True)):
                        if np.shape(a) == np.shape(b) == np.shape(into[i]):
                            into[i] = np.asarray(
                                np.maximum(
                                    into[i],
                                    _smooth_change(widest(a), widest(b), eps, jump=factor != 1.0),
                                )
                            )
        return values, gradients

    @functools.cached_property
    def shaken(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What the rounding of every step does to each value and gradient, elementwise: of the
        function, and of its reference."""
        found = [[np.zeros(np.shape(a)) for a in part] for part in self.compiled]
        answers = [(self.subject.f, self.compiled)]
        if self.subject.reference is not None:
            answers.append((self.subject.reference, self.oracle))
        if not self.traceable:
            return found[0], found[1]
        # where all terms cancel, jumps are told by the size of what goes in
        size = max(_largest_of(part) for part in (self.u, self.subject.leaves, *self.compiled))
        for f, answer in answers:
            moved = shaken_answers(
                self.subject.pull(f), self.subject.arrays, self.u, eps=self.tolerance.eps / 2
            )
            for draw in moved:
                for into, was, now in zip(found, answer, draw, strict=True):
                    for i, (a, b) in enumerate(zip(was, now, strict=True)):
                        if np.shape(a) == np.shape(into[i]):
                            change = _smooth_change(
                                widest(a), widest(b), self.tolerance.eps, jump=True, least=size
                            )
                            into[i] = np.asarray(np.maximum(into[i], change))
        return found[0], found[1]

    def within(self, gap: float, allowed: float, along: Mapping[int, np.ndarray]) -> bool:
        """Whether a gap between two slopes along a direction (in some of the leaves) is what is
        allowed, and what rounding does to the gradient along it."""
        return not gap > allowed or any(  # nan decides nothing
            not gap
            > allowed
            + self.tolerance.caution
            * sum(float((noise(i) * np.abs(v)).sum()) for i, v in along.items())
            for noise in self.noises_of_gradient
        )

    @functools.cached_property
    def variants(self) -> Arrays:
        """Another point: inputs of the same shapes."""
        return [variant(leaf, 1) for leaf in self.subject.arrays]

    def moved(self, directions: Mapping[int, Any]) -> Callable[[float], Arrays]:
        """t ↦ the outputs at x + t·direction, with a direction for each of some leaves."""

        def at(t: float) -> Arrays:
            leaves = [*self.subject.leaves]
            for number, direction in directions.items():
                leaves[number] = like(widest(leaves[number]) + t * direction, leaves[number])
            return self.primal(self.subject.put(leaves))

        return at

    def scale(self, number: int) -> float:
        """The size of the numbers in a leaf, which steps are measured by."""
        sizes = np.abs(widest(self.subject.leaves[number]))
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        return float(np.sqrt(np.mean(sizes**2))) if sizes.size else 1.0

    def record(self, check: str, error: float, allowed: float) -> None:
        """Keep the largest error that a check saw."""
        before = self.worst.get(check, (-1.0, 0.0))
        if not error <= before[0]:
            self.worst[check] = (error, allowed)

    def downcast(self, got: Any, want: Any) -> str:
        """The cause, where a backward that computes in a narrower dtype than the forward is off by
        no more than that explains."""
        narrow = {2.0**-7: "bfloat16", 2.0**-10: "float16", 2.0**-23: "float32"}.get(
            self.backward_eps, ""
        )
        explained = (
            self.backward_eps > self.tolerance.eps and error(got, want) <= 32 * self.backward_eps
        )
        return (
            f"backward computes in {narrow}, the forward does not: a downcast"
            if narrow and explained
            else ""
        )

    def need_structure(self) -> None:
        """Raise :class:`Broken` where the backward cannot even be run."""
        if self.failed & {"captured tracers", "structure"}:
            raise Broken

    def need_first_order(self) -> None:
        """Raise :class:`Broken` where the first derivative is wrong already, since what follows
        from that is no news."""
        if self.failed & FIRST_ORDER:
            raise Broken

    def noise_of_value(self, i: int) -> np.ndarray:
        """The measured rounding of an output."""
        return self.noise[0][i]

    def noise_of_gradient(self, i: int) -> np.ndarray:
        """The measured rounding of a gradient."""
        return self.noise[1][i]

    @property
    def noises_of_value(self) -> tuple[Callable[[int], np.ndarray], ...]:
        """Of an output: by moving the inputs, and by moving every step."""
        return self.noise_of_value, lambda i: self.shaken[0][i]

    @property
    def noises_of_gradient(self) -> tuple[Callable[[int], np.ndarray], ...]:
        """Of a gradient: by moving inputs and cotangents, and by moving every step."""
        return self.noise_of_gradient, lambda i: self.shaken[1][i]

    @property
    def complex(self) -> bool:
        """Whether any input is complex."""
        return any(is_complex(leaf) for leaf in self.subject.leaves)


def _largest_of(arrays: Arrays) -> float:
    sizes = (np.abs(widest(a)) for a in arrays)
    return max((float(s[np.isfinite(s)].max(initial=0.0)) for s in sizes), default=0.0)


def _smooth_change(
    a: np.ndarray, b: np.ndarray, eps: float, *, jump: bool, least: float = 0.0
) -> np.ndarray:
    """|a − b|; where x was moved, a change far above rounding is a kink that was left, and no
    noise."""
    change = np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b), 0.0)
    largest = max(_largest_of([a]), least)
    return np.where(change > max(1e-6, 1e4 * eps) * largest, 0.0, change) if jump else change


def shaken_answers(
    pull: Pull, arrays: Arrays, u: Arrays, *, eps: float
) -> list[tuple[Arrays, Arrays]]:
    """Value and gradient with every step moved by its rounding, several times; none where the
    program cannot be run step by step."""
    try:
        noisy = shaken(pull, arrays, u, eps=eps)
        return [noisy(draw, arrays, u) for draw in range(DRAWS)]
    except Exception:
        return []


def finite(arrays: Arrays) -> bool:
    """Whether every element is."""
    return all(bool(np.isfinite(widest(a)).all()) for a in arrays)


def ratio(error: float, allowed: float) -> float:
    """error / allowed, 0/0 being 0."""
    return 0.0 if error == 0 else math.inf if allowed == 0 else error / allowed
