"""One network, five ways back. All but the steps' network have the same forward, and so the same
true gradient beside them."""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcnn import layers, ops
from jaxcnn._core.op import Op
from jaxcnn.layers import Serial
from jaxcnn.rules import feedback_alignment, sign_symmetric, straight_through


class Way(NamedTuple):
    """``model`` learns; ``true`` is the same forward with the true backward, None where that is
    zero everywhere. ``published``: test error in % on MNIST and Fashion-MNIST."""

    model: Serial
    true: Serial | None
    published: tuple[float, float] | None


def network(classes: int, activation: Op = ops.relu) -> Serial:
    """Two convolutions, each halving the image, and two dense layers."""
    return layers.serial(
        conv1=layers.conv(16, kernel_size=5, stride=2),
        act1=layers.activation(activation),
        conv2=layers.conv(32, kernel_size=5, stride=2),
        act2=layers.activation(activation),
        flatten=layers.flatten(),
        dense1=layers.dense(128),
        act3=layers.activation(activation),
        dense2=layers.dense(classes),
    )


def with_weights(rule: Any) -> Any:
    """For ``map_ops``: the rule for every op that has weights."""
    return lambda path, op: rule(path, op) if op.name in ("conv", "dense") else op


def aligned(path: tuple[str, ...], op: Op) -> Op:
    """Fixed feedback weights, others in every layer."""
    return feedback_alignment(op, seed=zlib.crc32("/".join(path).encode()))


def ways(classes: int) -> dict[str, Way]:
    """By name. Published: BioTorch's table for LeNet."""
    plain = network(classes)
    return {
        "true gradient": Way(plain, plain, (0.91, 9.2)),
        "feedback alignment": Way(plain.map_ops(with_weights(aligned)), plain, (1.7, 13.06)),
        "direct feedback": Way(
            layers.direct(plain, ["act1", "act2", "act3"]), plain, (1.61, 12.81)
        ),
        "sign-symmetric": Way(
            plain.map_ops(with_weights(lambda path, op: sign_symmetric(op))), plain, (0.94, 9.69)
        ),
        "steps, straight through": Way(
            network(classes, straight_through(ops.step, within=1.0)), None, None
        ),
    }


def angles(found: Any, true: Any) -> dict[str, jax.Array]:
    """The angle between two gradients, in degrees: of each kernel, and of the whole."""
    pairs = {name: (found[name]["kernel"].ravel(), true[name]["kernel"].ravel()) for name in found}
    mine, theirs = (jnp.concatenate(side) for side in zip(*pairs.values(), strict=True))
    cosines = {
        n: a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b) + 1e-30)
        for n, (a, b) in {**pairs, "all": (mine, theirs)}.items()
    }
    return {name: jnp.degrees(jnp.arccos(jnp.clip(c, -1, 1))) for name, c in cosines.items()}
