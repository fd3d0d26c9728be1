"""A small expression as a graph of nodes: each keeps what its forward computed, and its backward
hands on the chain rule (S3.5).

>>> from jaxcnn import ops
>>> graph = Graph()
>>> w, x = graph.input("w", 2.0), graph.input("x", -1.0)
>>> y = graph.apply(ops.sigmoid, graph.multiply(w, x))
>>> {name: f"{d:.3f}" for name, d in graph.backward(y).items()}
{'w': '-0.105', 'x': '0.210'}
>>> print(graph)
node     = rule(inputs)      value  gradient
w                            2      -0.105
x                            -1     0.21
multiply = w · x             -2     0.105
sigmoid  = sigmoid(multiply) 0.1192 1
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcnn._core.op import Op
from jaxcnn._io.columns import columns


def _sum_forward(*terms: jax.Array) -> tuple[jax.Array, int]:
    _check_alike("add", *terms)
    return sum(terms[1:], terms[0]), len(terms)


def _product_forward(a: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    _check_alike("multiply", a, b)
    return a * b, (a, b)


def _check_alike(op: str, *inputs: jax.Array) -> None:
    if len({x.shape for x in inputs}) != 1:
        shapes = ", ".join(str(x.shape) for x in inputs)
        raise ValueError(
            f"{op}: all inputs must have one shape, as nothing is broadcast here; got {shapes}"
        )


ADD = Op("add", _sum_forward, lambda count, dy: (dy,) * count, equation="y = Σ x", keeps="nothing")
MULTIPLY = Op(
    "multiply",
    _product_forward,
    lambda ab, dy: (dy * ab[1], dy * ab[0]),
    equation="y = a b",
    keeps="a, b",
)


@dataclasses.dataclass(eq=False)
class Node:
    """``gradient`` is that of the node that backward began at; None before, and where nothing leads
    there."""

    name: str
    value: jax.Array
    op: Op | None = None
    inputs: "tuple[Node, ...]" = ()
    saved: Any = None
    gradient: Any = None

    @property
    def rule(self) -> str:
        """``= op(inputs)``."""
        if self.op is None:
            return ""
        names, sign = (
            [node.name for node in self.inputs],
            {"add": " + ", "multiply": " · "}.get(self.op.name),
        )
        return "= " + (sign.join(names) if sign else f"{self.op.name}({', '.join(names)})")


class Graph:
    """Nodes in the order in which they were made, which is that of the forward."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def input(self, name: str, value: Any) -> Node:
        """A number or an array; an array of integers stays one (labels). ValueError if the name is
        taken."""
        if any(node.name == name for node in self.nodes):
            raise ValueError(f"graph: there is a node `{name}` already")
        integers = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.integer)
        return self._keep(
            Node(name, jnp.asarray(value, None if integers else jnp.result_type(float)))
        )

    def apply(self, op: Op, *inputs: Node, **settings: Any) -> Node:
        """A node for ``op`` of some nodes; its forward runs at once. ValueError for an op with
        several outputs (batch norm in training)."""
        value, saved = op.run(*(node.value for node in inputs), **settings)
        if not isinstance(value, jax.Array):
            raise ValueError(f"graph: {op.name} has several outputs; a node has one value")
        taken, name, number = {node.name for node in self.nodes}, op.name, 1
        while name in taken:
            number += 1
            name = f"{op.name}{number}"
        return self._keep(Node(name, value, op, inputs, saved))

    def add(self, *inputs: Node) -> Node:
        """Their sum; ValueError if they differ in shape."""
        return self.apply(ADD, *inputs)

    def multiply(self, a: Node, b: Node) -> Node:
        """Their product, element by element; ValueError if they differ in shape."""
        return self.apply(MULTIPLY, a, b)

    def backward(self, node: Node) -> dict[str, jax.Array]:
        """The gradient of the sum of ``node`` with respect to every input, by name: each node hands
        its gradient on to its inputs, where what arrives is added up."""
        for other in self.nodes:
            other.gradient = None
        node.gradient = jnp.ones_like(node.value)
        for at in reversed(self.nodes):
            if at.op is not None and at.gradient is not None:
                for source, d in zip(
                    at.inputs, at.op.pull(at.saved, at.gradient), strict=False
                ):  # inputs left out are last
                    if not jnp.issubdtype(source.value.dtype, jnp.floating):
                        continue  # a label has no gradient
                    source.gradient = d if source.gradient is None else source.gradient + d
        return {
            n.name: jnp.zeros_like(n.value) if n.gradient is None else n.gradient
            for n in self.nodes
            if n.op is None
        }

    def __str__(self) -> str:
        rows = [
            (node.name, node.rule, _short(node.value), _short(node.gradient)) for node in self.nodes
        ]
        return "\n".join(columns([("node", "= rule(inputs)", "value", "gradient"), *rows]))

    def _keep(self, node: Node) -> Node:
        self.nodes.append(node)
        return node


def _short(value: Any) -> str:
    if value is None:
        return ""
    if not np.ndim(value):
        return f"{float(value):.4g}"
    text = np.array2string(np.asarray(value), precision=4, suppress_small=True, threshold=8)
    return " ".join(text.split())  # a matrix in one line, too
