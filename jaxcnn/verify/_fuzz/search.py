"""One call that searches for an input, a shape or a setting at which a gradient is wrong."""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn.verify._check import check
from jaxcnn.verify._fuzz.examples import Example, hypothesis, of_space, of_user
from jaxcnn.verify._fuzz.program import program
from jaxcnn.verify._fuzz.screen import screen
from jaxcnn.verify._judge import known_names
from jaxcnn.verify._report import Report, broken, in_words
from jaxcnn.verify._subject import differentiable, widest

WITH_REFERENCE = ("value", "gradient")
WITHOUT = ("structure", "linear in dy", "finite differences")
DRAWING = 0.8  # of the time; the rest is for making what was found simpler


@dataclasses.dataclass(frozen=True)
class Fuzzed:
    """What a search found.

    Attributes:
        name: the function.
        calls: how many were tried, shrinking included.
        seconds: how long it took.
        report: the report on the smallest call that fails; None where none was found.
        args, settings: that call.
        program: the call as a program that can be pasted; empty where none was found.
    """

    name: str
    calls: int
    seconds: float
    report: Report | None = None
    args: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    program: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return self.report is None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        tried = f"{self.calls} calls, {self.seconds:.0f} s"
        if self.report is None:
            return f"{self.name}: no fault found ({tried})"
        return f"{self.name}: FAILED ({tried})\n\n{self.report.failures[0]}\n\n{self.program}"


def fuzz(
    f: Callable[..., Any],
    strategy: Any = None,
    *,
    reference: Callable[..., Any] | None = None,
    seconds: float = 60.0,
    seed: int = 0,
    only: str | Collection[str] = (),
) -> Fuzzed:
    """Search for a call at which the gradient of ``f`` is wrong, and shrink it.

    Draws calls (of an op: shapes, settings, dtypes, special values, and which inputs are
    differentiated); makes the cheap checks of :func:`jaxcnn.verify.check`; makes a failing call as
    small as it can; and writes it as a program that can be pasted. Needs ``hypothesis``
    (``pip install 'jaxcnn[fuzz]'``).

    Args:
        f: an op of this library, or any function.
        strategy: a strategy of ``hypothesis`` that draws tuples of arguments, or
            ``(arguments, settings)`` with a dictionary of keywords. An op of this library brings
            its own. A call that raises is a failure: draw calls that ``f`` takes.
        reference: the same function written plainly; an op brings its own. With one, value and
            gradient are compared with its; without one, finite differences decide.
        seconds: for how long to search and to shrink.
        seed: another seed draws other calls.
        only: the checks to make instead of these.

    Returns:
        A :class:`Fuzzed`: true where nothing was found; ``print`` shows the failure and the
        program.

    Raises:
        ImportError: where ``hypothesis`` is not installed.
        TypeError: where there is no strategy, or it draws something else.
        ValueError: if ``seconds`` is not positive, or there is no such check.

    >>> import jax.numpy as jnp
    >>> from hypothesis import strategies as st
    >>> from jaxcnn import Op, verify
    >>> mean = Op("mean", lambda x: (x.mean(-1), x), lambda x, dy: (jnp.full_like(x, dy / 2),),
    ...           lambda x: x.sum(-1) / x.shape[-1])      # right for two numbers alone
    >>> rows = st.integers(2, 5).map(lambda n: (jnp.arange(1.0, n + 1),))
    >>> found = verify.fuzz(mean, rows)
    >>> found.ok, found.args
    (False, (Array([1., 2., 3.], dtype=float32),))
    """
    if strategy is None and getattr(f, "space", None) is None:
        raise TypeError(
            "fuzz: a function needs a strategy of hypothesis for its arguments, such as"
            " st.tuples(hypothesis.extra.numpy.arrays(…)); only ops bring their own"
        )
    if not seconds > 0:
        raise ValueError(f"fuzz: `seconds` must be positive, got {seconds!r}")
    reference = reference or getattr(f, "reference", None)
    drawn = (
        of_space(f.space, kinked=bool(getattr(f, "kinks", ())))  # type: ignore[attr-defined]
        if strategy is None
        else of_user(strategy)
    )
    return _Search(f, reference, known_names(only, ()), seconds).run(drawn, seed)


class _Over(BaseException):
    """The time is up: no fault of what is searched, so that hypothesis must not catch it."""


class _Found(Exception):  # noqa: N818 (what hypothesis shrinks)
    pass


class _Search:
    """The calls that were tried, and the failing ones among them. The first to fail is judged by
    ``check``; those after it, as it shrinks, must look wrong in the same way."""

    def __init__(
        self,
        f: Callable[..., Any],
        reference: Callable[..., Any] | None,
        only: tuple[str, ...],
        seconds: float,
    ) -> None:
        self.f, self.reference = f, reference
        self.only, self.screened = only or (WITH_REFERENCE if reference else WITHOUT), not only
        self.start = time.perf_counter()
        self.last = self.start + seconds
        self.end = self.start + DRAWING * seconds
        self.tried: dict[Any, bool] = {}
        self.kind = ""
        self.failing: list[Example] = []  # the smallest is the last

    def run(self, drawn: Any, seed: int) -> Fuzzed:
        """Draw until something fails, then shrink, until the time is up."""
        hyp = hypothesis()

        @hyp.seed(seed)
        @hyp.settings(
            max_examples=10**6,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            phases=(hyp.Phase.generate, hyp.Phase.shrink),
            suppress_health_check=list(hyp.HealthCheck),
        )
        @hyp.given(drawn)
        def search(example: Example) -> None:
            if self.fails(example):
                raise _Found

        try:
            search()
        except (_Over, _Found):
            self.simplify()
        name = str(getattr(self.f, "name", None) or getattr(self.f, "__name__", self.f))
        for example in reversed(self.failing):  # of which the first was judged, and the others not
            report = self.judge(example)
            if not report.ok:
                failing = report.failures[0].check
                text = program(self.f, example, reference=self.reference, failing=failing)
                found = report, example.args, example.settings, text
                return Fuzzed(name, len(self.tried), time.perf_counter() - self.start, *found)
        return Fuzzed(name, len(self.tried), time.perf_counter() - self.start)

    def fails(self, example: Example) -> bool:
        """Whether this call fails, and in the way that the first one did."""
        key = example.key
        if key in self.tried:
            return self.tried[key]
        if time.perf_counter() > self.end:
            raise _Over
        self.tried[key] = self._fails(example)
        smaller = not self.failing or example.size <= self.failing[-1].size
        if self.tried[key] and smaller:
            self.failing.append(example)
        return self.tried[key]

    def _fails(self, example: Example) -> bool:
        kind = self.kind_of(example)
        if self.kind or not kind:
            return bool(kind) and kind == self.kind
        if self.screened and self.judge(example).ok:
            return False
        self.kind = kind
        return True

    def kind_of(self, example: Example) -> str:
        """What is wrong with this call, in words that are the same for the same fault; empty if
        nothing is."""
        if self.screened:
            return screen(*self.bound(example), example)
        failures = self.judge(example).failures
        return f"{failures[0].check} of {failures[0].where}" if failures else ""

    def judge(self, example: Example) -> Report:
        """The report of the checks on this call."""
        f, reference = self.bound(example)
        narrow = example.dtype != "float64"
        only = (*self.only, *([f"in {example.dtype}"] if narrow and self.screened else []))
        try:
            return check(
                f,
                *example.args,
                reference=reference,
                only=only,
                dtypes=(example.dtype,) if narrow else (),
                argnums=example.argnums,
                strict_kinks=False,
            )
        except Exception as problem:
            return broken("f", f"raised {in_words(problem, 400)}", "")

    def bound(self, example: Example) -> tuple[Any, Any]:
        """The function and its reference, with the settings."""
        f, reference = self.f, self.reference
        if example.settings:
            f = functools.partial(f, **example.settings)
            reference = reference and functools.partial(reference, **example.settings)
        return f, reference

    def simplify(self) -> None:
        """Leave out the settings that do not matter, and make the numbers readable."""
        self.end = self.last
        if not self.failing:
            return
        try:
            while any(map(self.fails, _simpler(self.failing[-1]))):
                pass
        except _Over:
            return


def _simpler(example: Example) -> Iterator[Example]:
    for name in example.settings:
        settings = {key: value for key, value in example.settings.items() if key != name}
        yield dataclasses.replace(example, settings=settings)
    leaves, tree = jax.tree.flatten(example.args)
    for number, leaf in enumerate(leaves):
        if not differentiable(leaf) or jnp.iscomplexobj(leaf) or _is_readable(leaf):
            continue
        for make in (np.ones_like, _ranks, lambda a: np.round(a, 1)):
            with jax.enable_x64(True):
                moved = jnp.asarray(make(widest(leaf)), leaf.dtype)
            args = tree.unflatten([*leaves[:number], moved, *leaves[number + 1 :]])
            yield dataclasses.replace(example, args=args)


def _is_readable(leaf: Any) -> bool:
    return bool((widest(leaf) == np.round(widest(leaf))).all())


def _ranks(a: np.ndarray) -> np.ndarray:
    """Integers in the order of the numbers."""
    return np.argsort(np.argsort(a, axis=None)).reshape(a.shape) - a.size // 2
