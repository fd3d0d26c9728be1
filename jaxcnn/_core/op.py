"""The pair: a forward and its hand-written backward, wired to JAX once.

    forward (*inputs, **settings)            -> (y, residuals)
    backward(residuals, dy, **settings)      -> one cotangent for each input

with inputs positional and settings keyword-only and hashable. An :class:`Op` can be called under
every transformation of JAX, and its two halves can be called by hand: :meth:`Op.run` then
:meth:`Op.pull` differentiate without autodiff. Both ways pass through the same checks.

An input that carries no derivative (integers, keys, ``None``) gets the cotangent ``None``; the last
``aux`` inputs get none at all.

>>> import jax, jax.numpy as jnp
>>> square = Op("square", lambda x: (x * x, x), lambda x, dy: (2 * x * dy,))
>>> float(jax.grad(square)(3.0))
6.0
>>> y, saved = square.run(jnp.float32(3.0))
>>> [float(dx) for dx in square.pull(saved, jnp.float32(1.0))]
[6.0]
>>> square.replace(backward=lambda x, dy: (dy, dy)).pull(saved, jnp.float32(1.0))
Traceback (most recent call last):
TypeError: square: backward returned 2 cotangents for 1 inputs (x)
"""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core import cotangent
from jaxcnn._core.captures import refuse_captures
from jaxcnn._core.case import Bad, Case, Kink
from jaxcnn._core.space import Choose

P = ParamSpec("P")
Y = TypeVar("Y")
R = TypeVar("R")
Settings = tuple[tuple[str, Hashable], ...]
# What `run` hands to `pull`: residuals, what the cotangents must look like, settings
Saved = tuple[R, tuple[Any, Any], cotangent.Static[Settings]]


@dataclasses.dataclass(frozen=True, eq=False)
class Op(Generic[P, Y, R]):
    """A named pair of pure functions, with what proves them.

    ``Op[P, Y, R]`` is generic in the parameters of its forward, the output and the residuals, so
    that editors and type checkers know an op's inputs, settings and defaults. Inputs have the type
    ``jax.Array``, which is what forward gets; NumPy arrays and Python's numbers are converted at
    run time, but a type checker asks for ``jnp.asarray``.

    Attributes:
        name: as messages and tables show it.
        forward: ``(*inputs, **settings) -> (y, residuals)``; settings keyword-only.
        backward: ``(residuals, dy, **settings) -> cotangents`` in the order of the inputs.
        reference: the plainest independent form of ``y``; its ``jax.vjp`` is the oracle.
        cases, kinks, bad: what the op is proven on (see :mod:`jaxcnn._core.case`).
        space: makes a case of choices, where ``verify.fuzz`` searches for faults (see
            :mod:`jaxcnn._core.space`).
        norms: ``(residuals, dy, **settings) -> `` for each input ‖its cotangent‖ example by
            example, (n,), or None for one that has no parameters' part; None where examples have no
            gradients of their own.
        aux: how many trailing inputs are never differentiated (keys, state).
        equation, keeps: the row of ``python -m jaxcnn ops``.
        fixed: settings bound by :meth:`using`.

    Raises:
        TypeError: for unknown, missing or unhashable arguments; for a backward that returns the
            wrong number, shape or dtype of cotangents, ``None`` for an input that has a derivative,
            or that reads a traced array other than its residuals.
    """

    name: str
    forward: Callable[P, tuple[Y, R]]
    backward: Callable[..., tuple[Any, ...]]
    reference: Callable[..., Any] | None = None
    cases: tuple[Case, ...] = ()
    kinks: tuple[Kink, ...] = ()
    bad: tuple[Bad, ...] = ()
    norms: Callable[..., tuple[Any, ...]] | None = None
    aux: int = 0
    equation: str = ""
    keeps: str = ""
    doc: str | None = None
    space: Callable[[Choose], Case] | None = None
    fixed: Mapping[str, Hashable] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        signature = self._signature()
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        usage = f"{self.name}{inspect.Signature(bare)}"  # `help` shows nothing but the docstring
        doc = self.doc or inspect.getdoc(self.forward)
        object.__setattr__(self, "__signature__", signature)
        object.__setattr__(self, "__doc__", f"{usage}\n\n{doc}" if doc else usage)
        object.__setattr__(self, "__name__", self.name)

    def _signature(self) -> inspect.Signature:
        """That of a call: forward's, its bound settings as defaults, without the residuals."""
        forward = inspect.signature(self.forward)
        parameters = [
            p.replace(default=self.fixed.get(p.name, p.default))
            for p in forward.parameters.values()
        ]
        output, *_ = get_args(forward.return_annotation) or (forward.empty,)
        return forward.replace(parameters=parameters, return_annotation=output)

    def __repr__(self) -> str:
        return f"<Op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled by its fields alone: what was wired for JAX is wired anew."""
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def replace(self, **changes: Any) -> "Op[P, Y, R]":
        """The same op with some fields changed: ``relu.replace(backward=…)`` is another learning
        rule."""
        return dataclasses.replace(self, **changes)

    def using(self, **settings: Hashable) -> "Op[..., Y, R]":
        """The same op with some settings bound: ``squared_error.using(scale=0.5)``."""
        self._refuse_unknown(settings)
        bound = {name: _hashable(self.name, name, value) for name, value in settings.items()}
        return dataclasses.replace(self, fixed={**self.fixed, **bound})

    def __call__(self, *inputs: P.args, **settings: P.kwargs) -> Y:
        """``y``, differentiable by JAX through the hand-written backward."""
        arrays, static = self._bind(inputs, settings)
        wired = self._wirings.get(_key(static))
        if wired is None:
            wired = self._wirings[_key(static)] = self._wire(dict(static))
        return wired(*arrays)

    def plain(self, *inputs: P.args, **settings: P.kwargs) -> Y:
        """``y`` from the bare forward, which autodiff may take apart: open to forward mode
        (``jax.jvp``)."""
        arrays, static = self._bind(inputs, settings)
        return self._forward(arrays, dict(static))[0]

    def run(self, *inputs: P.args, **settings: P.kwargs) -> tuple[Y, Saved[R]]:
        """The forward half: ``(y, saved)``, where ``saved`` holds the residuals, the settings, and
        what the cotangents must look like."""
        arrays, static = self._bind(inputs, settings)
        return self._run(*arrays, **dict(static))

    def pull(self, saved: Saved[R], dy: Any, **settings: Any) -> tuple[Any, ...]:
        """The backward half: the cotangent of each input, checked against that input.

        The settings are those of :meth:`run`; they may be repeated, but not changed.
        """
        ran = dict(saved[2].value)
        for name, value in settings.items():
            if name not in ran or _hashable(self.name, name, value) != ran[name]:
                raise TypeError(
                    f"{self.name}: pull got {name}={value!r}, but run had {name}={ran.get(name)!r};"
                    " leave it out"
                )
        residuals, (wanted_inputs, wanted_dy), _ = saved
        static = self._for_backward(ran)
        cotangent.check_incoming(self.name, wanted_dy, dy)

        def checked(residuals: Any, dy: Any) -> tuple[Any, ...]:
            return cotangent.project(
                self.name, self._names[0], wanted_inputs, self.backward(residuals, dy, **static)
            )

        placed = cotangent.place(checked, wanted_inputs)
        with jax.named_scope(f"{self.name}/backward"):
            refuse_captures(self.name, self.backward, placed, residuals, dy)
            return placed(residuals, dy)

    def example_norms(self, saved: Saved[R], dy: Any) -> tuple[Any, ...]:
        """‖gradient‖ of each parameter for each example alone, from what :meth:`run` saved: (n,) an
        input, None where it is not a parameter."""
        if self.norms is None:
            raise TypeError(f"{self.name}: has no rule for the gradients of single examples")
        residuals, (_, wanted_dy), settings = saved
        cotangent.check_incoming(self.name, wanted_dy, dy)
        return self.norms(residuals, dy, **dict(settings.value))

    def _forward(self, arrays: tuple[Any, ...], static: dict[str, Any]) -> tuple[Y, R]:
        """Forward, under the op's name in profiles and in the compiled program's metadata."""
        with jax.named_scope(self.name):
            return self.forward(*arrays, **static)

    def _run(self, *arrays: Any, **static: Any) -> tuple[Y, Saved[R]]:
        arrays = jax.tree.map(_as_array, arrays)  # jax.grad hands on Python's numbers as they are
        y, residuals = self._forward(arrays, static)
        wanted = cotangent.wanted(arrays[: len(arrays) - self.aux]), cotangent.wanted(y)
        return y, (residuals, wanted, cotangent.Static(tuple(static.items())))

    def _wire(self, static: dict[str, Hashable]) -> Callable[..., Any]:
        def primal(*arrays: Any) -> Any:
            return self._forward(jax.tree.map(_as_array, arrays), static)[0]

        def backward(saved: Any, dy: Any) -> tuple[Any, ...]:
            return (*self.pull(saved, dy), *(None,) * self.aux)

        named = inspect.unwrap(primal)  # a run-time type checker may have wrapped it
        named.__name__ = named.__qualname__ = primal.__name__ = primal.__qualname__ = self.name
        wired = jax.custom_vjp(primal)
        wired.defvjp(functools.partial(self._run, **static), backward)
        return wired

    @functools.cached_property
    def _wirings(self) -> dict[Settings, Callable[..., Any]]:
        return {}

    @functools.cached_property
    def _names(self) -> tuple[tuple[str, ...], dict[str, Any], bool]:
        """Input names, defaults by name, and whether ``forward`` takes any number of inputs."""
        parameters = inspect.signature(self.forward).parameters.values()
        inputs = tuple(
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        )
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        return inputs, defaults, any(p.kind is p.VAR_POSITIONAL for p in parameters)

    @functools.cached_property
    def _setting_names(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.forward).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def _bind(
        self, inputs: tuple[Any, ...], settings: dict[str, Any]
    ) -> tuple[tuple[Any, ...], Settings]:
        """Positional inputs with their defaults filled in, as arrays; settings with theirs,
        hashable and in one order."""
        names, defaults, variadic = self._names
        if any(name in settings for name in names):  # op(x, w, b=b)
            named = {name: settings[name] for name in names[len(inputs) :] if name in settings}
            settings = {name: value for name, value in settings.items() if name not in named}
            inputs = (
                *inputs,
                *(named.get(name, defaults.get(name, _MISSING)) for name in names[len(inputs) :]),
            )
        if len(inputs) > len(names) and not variadic:
            raise TypeError(
                f"{self.name}: takes {len(names)} inputs ({', '.join(names)}), got {len(inputs)}"
            )
        inputs = (*inputs, *(defaults.get(name, _MISSING) for name in names[len(inputs) :]))
        missing = [name for name, value in zip(names, inputs, strict=False) if value is _MISSING]
        if missing:
            raise TypeError(
                f"{self.name}: missing input `{missing[0]}` (inputs: {', '.join(names)})"
            )
        return jax.tree.map(_as_array, inputs), self._settings(settings)

    def _for_backward(self, static: dict[str, Any]) -> dict[str, Any]:
        """The settings that ``backward`` takes: a replaced rule need not know those that stand at
        their defaults."""
        parameters = inspect.signature(self.backward).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return static
        _, defaults, _ = self._names
        for name, value in static.items():
            if name not in parameters and (name not in defaults or value != defaults[name]):
                raise TypeError(
                    f"{self.name}: backward takes no setting `{name}`, which is {value!r} here; add"
                    " it to its keywords"
                )
        return {name: value for name, value in static.items() if name in parameters}

    def _refuse_unknown(self, settings: Mapping[str, Any]) -> None:
        for name in settings:
            if name not in self._setting_names:
                near = difflib.get_close_matches(name, self._setting_names, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else ""
                known = ", ".join(self._setting_names) or "none"
                raise TypeError(f"{self.name}: unknown setting `{name}` (settings: {known}){hint}")

    def _settings(self, settings: Mapping[str, Any]) -> Settings:
        _, defaults, _ = self._names
        merged = {**self.fixed, **settings}
        self._refuse_unknown(merged)
        for name in self._setting_names:
            if name not in merged and name not in defaults:
                raise TypeError(f"{self.name}: missing setting `{name}`")
        return tuple(
            (n, _hashable(self.name, n, merged.get(n, defaults.get(n))))
            for n in self._setting_names
        )


AnyOp: TypeAlias = Op[..., Any, Any]
_MISSING = object()


def _as_array(leaf: Any) -> Any:
    return (
        jnp.asarray(leaf)
        if isinstance(leaf, np.ndarray | np.generic | int | float | complex)
        else leaf
    )


def _hashable(op: str, name: str, value: Any) -> Hashable:
    """Lists become tuples and NumPy scalars Python numbers; an array is refused, since a setting is
    part of the program."""
    if isinstance(value, list | tuple):
        return tuple(_hashable(op, name, v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, jax.Array | np.ndarray):
        raise TypeError(
            f"{op}: setting `{name}` must be a static Python value, got the array {value}; pass an"
            " int or tuple"
        )
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{op}: setting `{name}` must be hashable, got {type(value).__name__}"
        ) from None
    return value


def _key(static: Settings) -> tuple[Any, ...]:
    """``1``, ``1.0`` and ``True`` are equal and hash alike, yet make different programs: tell them
    apart by type."""
    return static, jax.tree.map(type, static)
