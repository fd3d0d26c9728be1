"""The rules of the house, read off the syntax trees."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import jaxcnn

ROOT = Path(jaxcnn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
AUTODIFF = {
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "linearize",
    "linear_transpose",
    "jacobian",
    "jacfwd",
    "jacrev",
    "hessian",
}
LEVELS = [
    {"_io.memory"},
    {"_io.outside"},
    {
        "_core.compiler",
        "_core.contracts",
        "_core.errors",
        "_core.lazy",
        "_core.residuals",
        "_core.upcast",
    },
    {"_io.columns", "_io.files", "_io.thin"},
    {"_core.window", "_core.case", "_core.keys", "_core.norms", "precision"},
    {"_io.html", "_io.lines", "_io.drawing", "_io.terminal", "_io.sealed"},
    {"data"},
    {"_io.command"},
    {"_core.cotangent", "_core.captures", "_core.space"},
    {"_core.op"},
    {"verify"},
    {"kernels"},
    {"ops"},
    {"rules"},
    {"layers"},
    {"models", "_gradient"},
    {"explain", "train"},
    {"weights", "plan"},
    {"runs"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}


def room_of(dotted: str) -> str:
    """Of a module inside of the package: its room, or itself in a room of plumbing."""
    first, *rest = dotted.split(".")
    return f"{first}.{rest[0]}" if first in ("_core", "_io") and rest else first


def names_from(tree: ast.AST, module_prefix: str) -> set[str]:
    """Every name that the file takes from JAX under any alias: attributes of imported modules, and
    names imported from them."""
    aliases, found = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {
                (a.asname or a.name).split(".")[0]
                for a in node.names
                if a.name.split(".")[0] == module_prefix
            }
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module_prefix:
            found |= {a.name for a in node.names}
            aliases |= {a.asname or a.name for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in aliases:
                found.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "getattr"
        ):
            found |= {
                a.value
                for a in node.args
                if isinstance(a, ast.Constant) and isinstance(a.value, str)
            }
    return found


def trees(*, outside: str):
    for path in FILES:
        if outside not in path.relative_to(ROOT).parts:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_no_autodiff_outside_verify():
    used = {str(path): names_from(tree, "jax") & AUTODIFF for path, tree in trees(outside="verify")}
    assert not {path: names for path, names in used.items() if names}


def test_only_op_py_names_custom_vjp():
    def named(*names):
        found = (
            (path, names_from(tree, "jax") & set(names)) for path, tree in trees(outside="verify")
        )
        return {path.relative_to(ROOT).as_posix() for path, used in found if used}

    assert named("custom_vjp", "custom_gradient") == {"_core/op.py"}
    assert named("custom_jvp") == {"kernels/_choice.py"}  # a product is its own derivative


def test_the_search_sees_every_way_of_importing():
    for source in (
        "import jax; jax.grad(f)",
        "import jax as j; j.vjp",
        "from jax import grad as g",
        "import jax; getattr(jax, 'jvp')",
        "from jax.experimental import jet as j; import jax.api as a; a.hessian",
        "import jax; d = jax.value_and_grad",
    ):
        assert names_from(ast.parse(source), "jax") & (AUTODIFF | {"jet"}), source
    assert not names_from(ast.parse("model.grad(1); grad = 2"), "jax") & AUTODIFF


def test_imports_run_one_way():
    for path in FILES:
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if own.split(".")[-1] in ("__init__", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("jaxcnn"):
                continue
            module = (node.module or "").removeprefix("jaxcnn").removeprefix(".")
            for name in node.names:
                target = room_of(f"{module}.{name.name}" if module else name.name)
                if target != own and target.split(".")[0].islower():
                    assert LEVEL[target] < LEVEL[own], f"{path.relative_to(ROOT)} imports {target}"


def test_the_core_needs_jax_numpy_and_optax_alone():
    allowed = {"jax", "jaxlib", "numpy", "optax", "jaxcnn"} | set(sys.stdlib_module_names)
    extras = {
        "contracts.py": {"jaxtyping"},
        "_plugin.py": {"pytest"},
        "_checkpoint.py": {"orbax"},
        "_sets.py": {"pooch"},
        "_pictures.py": {"PIL"},
        "verify/_fuzz/examples.py": {"hypothesis"},
        "_streams.py": {"grain", "absl"},
        "drawing.py": {"matplotlib"},
        "_draw.py": {"matplotlib"},
        "_tensorboard.py": {"tensorboardX"},
        "_progress.py": {"rich"},
        "runs/_watchers.py": {"rich"},
        "runs/_results.py": {"rich"},
        "runs/_command.py": {"tyro"},
        "runs/_flags.py": {"tyro"},
        "runs/_yaml.py": {"yaml"},
    }
    for path, tree in trees(outside="nothing"):
        lazily = {
            node for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)
        }
        for node in ast.walk(tree):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            outside = (
                {m.split(".")[0] for m in modules}
                - allowed
                - extras.get(path.name, extras.get(path.relative_to(ROOT).as_posix(), set()))
            )
            assert outside <= ({"rich"} if node in lazily else set()), f"{path} imports {outside}"


def test_importing_the_package_loads_nothing_of_the_extras():
    code = """
import sys, jaxcnn
[getattr(jaxcnn, name) for name in jaxcnn.__all__]
jaxcnn.verify.check
import jaxcnn.verify._commands.verify
extras = '''jaxtyping beartype matplotlib rich tyro flax equinox hypothesis PIL grain orbax
tensorboardX yaml safetensors'''.split()
print([m for m in extras if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_are_short_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a file begins by saying what it is for"
    assert lines_of_code(text) <= 290


def lines_of_code(text: str) -> int:
    """Without blank lines, comments, docstrings, and tables (constants of more than a line)."""
    idle = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {
        line
        for token in tokens
        if token.type not in idle
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr) or node.end_lineno is None:
            continue
        name = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        table = isinstance(name, ast.Name) and (name.id.isupper() or name.id == "__all__")
        words = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if (words and isinstance(node, ast.Expr)) or (table and node.end_lineno > node.lineno):
            code -= set(range(node.lineno, node.end_lineno + 1))
    return len(code)
