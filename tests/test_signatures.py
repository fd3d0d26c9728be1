"""What an editor, ``help`` and ``inspect`` show of an op; types_surface.py is for the checker."""

import inspect
import pydoc

import jax
import jax.numpy as jnp
import pytest

from jaxcnn import Op, ops
from jaxcnn.ops import OPS

IDS = [op.name for op in OPS]


@pytest.mark.parametrize("op", OPS, ids=IDS)
def test_signature_doc_and_help_show_every_input_setting_and_default(op) -> None:
    parameters = inspect.signature(op.forward).parameters
    assert dict(inspect.signature(op).parameters) == dict(parameters)
    assert inspect.signature(op).return_annotation is not inspect.Signature.empty
    usage, blank, text, *_ = op.__doc__.splitlines()
    assert usage.startswith(f"{op.name}(")
    assert not blank
    assert text
    shown = inspect.signature(eval(f"lambda {usage[len(op.name) + 1 : -1]}: None"))
    assert list(shown.parameters) == list(parameters)
    for name, parameter in shown.parameters.items():
        assert parameter.kind is parameters[name].kind
        assert parameter.default == parameters[name].default
        assert parameter.kind is not parameter.POSITIONAL_ONLY  # each may be given by name
    assert usage in pydoc.plain(pydoc.render_doc(op))


def test_the_signature_of_conv_is_this() -> None:
    usage = (
        "conv(x, w, *, stride=1, padding='SAME', dilation=1, groups=1, flip=False,"
        " implementation=None)"
    )
    assert (ops.conv.__doc__ or "").splitlines()[0] == usage
    x = inspect.signature(ops.conv).parameters["x"]
    assert "n *space i" in str(x.annotation)


def test_bound_settings_are_shown_as_defaults() -> None:
    half = ops.dropout.using(rate=0.5)
    assert (half.__doc__ or "").splitlines()[0] == "dropout(x, key, *, rate=0.5)"
    assert half.using(rate=0.1).forward is ops.dropout.forward


def test_an_op_without_a_docstring_shows_its_signature() -> None:
    op = Op("twice", lambda x, /: (2 * x, ()), lambda residuals, dy: (2 * dy,))
    assert op.__doc__ == "twice(x, /)"
    assert str(inspect.signature(op)) == "(x, /)"
    assert "forward" in inspect.signature(Op).parameters


def test_profiles_and_programs_name_the_op_forward_and_backward() -> None:
    def step(x: jax.Array, w: jax.Array) -> jax.Array:
        return ops.tanh(ops.conv(x, w)).sum()

    x, w = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1))
    lowered = jax.jit(jax.grad(step, 1)).lower(x, w)
    named = lowered.as_text(debug_info=True)
    for name in ("conv", "tanh"):
        assert f"/jvp({name})/" in named
        assert f"/transpose(jvp({name}/backward))/" in named
    assert "conv/backward" not in lowered.as_text()
    assert "tanh/backward" in str(lowered.compile().as_text())

    def by_hand(x: jax.Array, w: jax.Array) -> tuple[jax.Array, ...]:
        y, saved = ops.conv.run(x, w)
        return ops.conv.pull(saved, y)

    assert "/conv/backward/" in jax.jit(by_hand).lower(x, w).as_text(debug_info=True)
