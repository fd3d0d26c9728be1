"""Watching a run: norms are those of autodiff, a log goes on where its run does, curves are read
back, a bar says how fast it goes."""

import copy
import io
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c

from jaxcnn import activations, layers, models, ops, train
from jaxcnn._io.lines import Log, read_lines
from jaxcnn.train import Recipe
from jaxcnn.train._draw import heat_map, history, learning_curves
from jaxcnn.train._logs import JsonLines
from jaxcnn.train._progress import Progress
from jaxcnn.train._speed import flops, measure_peak
from jaxcnn.train._tensorboard import TensorBoard
from jaxcnn.train._watch import Norms, Table, make_norms

# whose numbers stay what they are; others are folded into such a key
KEY = jax.random.key(3, impl="threefry2x32")
X = np.random.default_rng(0).normal(size=(12, 6))
LABELS: Any = (X[:, 0] > 0).astype(np.int32)
LOSS = ops.softmax_cross_entropy
MLP = models.mlp((4, 2), "tanh")


def block() -> layers.Layer:
    return layers.serial(dense=layers.dense(5), tanh=layers.activation("tanh"))


def branched() -> layers.Serial:
    """Its names in alphabetical order are not in the order of its layers."""
    return layers.serial(
        z=layers.dense(5),
        many=layers.repeat(block(), 2),
        a=layers.residual(block()),
        drop=layers.dropout(0.3),
        norm=layers.batch_norm(),
        last=layers.dense(2),
    )


def report(
    step: int, losses: list[float], scores: dict[str, float] | None = None, steps: int = 9
) -> train.Report:
    return train.Report(step, steps, step / 4, np.array(losses, np.float32), scores)


NORMS = Norms(Recipe(MLP, LOSS), X.astype(np.float32), LABELS, every=4)
MEASURE = make_norms(Recipe(MLP, LOSS))


@pytest.fixture(scope="module")
def run() -> list[tuple[train.Report, train.TrainState]]:
    """What the callbacks of a run of 12 steps are given."""
    found: list[tuple[train.Report, train.TrainState]] = []
    data = X.astype(np.float32), LABELS
    train.fit(
        train.Recipe(MLP, LOSS, optax.sgd(0.1)),
        data,
        test=data,
        key=KEY,
        batch_size=3,
        report_every=2,
        steps=12,
        callbacks=[lambda report, state: found.append((report, jax.tree.map(jnp.copy, state)))],
    )
    return found


def norms_of(lines: list[dict[str, Any]]) -> Norms:
    """As compiled once for all tests, with what was measured before."""
    norms = copy.copy(NORMS)
    norms.rows = {}
    norms.restore(lines)
    return norms


@pytest.mark.usefixtures("x64")
def test_norms_are_those_of_autodiff() -> None:
    model, x = branched(), jnp.asarray(X)
    params, state = jax.jit(model.init, static_argnums=1)(KEY, (6,))
    norms = make_norms(Recipe(model, LOSS))(params, state, x, LABELS, KEY)

    @jax.jit
    @jax.grad
    def gradient(params: Any) -> Any:
        return LOSS(model.apply(params, state, x, KEY, train=True)[0], jnp.asarray(LABELS)).mean()

    for kind, tree in (("gradient", gradient(params)), ("weight", params)):
        wanted = {
            jax.tree_util.keystr(p, simple=True, separator="/"): float(jnp.linalg.norm(a.ravel()))
            for p, a in jax.tree.leaves_with_path(tree)
        }
        assert {name: float(norm) for name, norm in norms[kind].items()} == pytest.approx(
            wanted, rel=1e-12, abs=1e-15
        )

    @jax.jit
    @jax.grad
    def above(y: Any) -> Any:
        """δ at the output of `many`, from what stands above it."""
        for index, name in list(enumerate(model.layers))[2:]:
            part = params.get(name, {}), state.get(name, {})
            y, _ = model.layers[name].apply(*part, y, jax.random.fold_in(KEY, index), train=True)
        return LOSS(y, jnp.asarray(LABELS)).mean()

    delta = float(jnp.linalg.norm(above(activations(model, params, state, x)["many"])))
    for name in ("many", "many/1", "many/1/tanh"):
        assert norms["delta"][name] == pytest.approx(delta, rel=1e-12)


def test_the_first_layer_comes_first() -> None:
    model = branched()
    params, state = jax.eval_shape(lambda: model.init(KEY, (6,)))
    norms = jax.eval_shape(
        make_norms(Recipe(model, LOSS, prepare=lambda x: x.astype(jnp.float32) / 255)),
        params,
        state,
        np.ones((3, 6), np.uint8),
        LABELS[:3],
        KEY,
    )
    parents = list(dict.fromkeys(name.rpartition("/")[0] for name in norms["weight"]))
    assert parents == ["z", "many/dense", "a/body/dense", "norm", "last"]
    assert list(norms["gradient"]) == list(norms["weight"])
    assert list(norms["delta"]) == [
        "z",
        "many/0/dense",
        "many/0/tanh",
        "many/0",
        "many/1/dense",
        "many/1/tanh",
        "many/1",
        "many",
        "a/body/dense",
        "a/body/tanh",
        "a/body",
        "a",
        "drop",
        "norm",
        "last",
    ]


@pytest.mark.parametrize("size", [1e-25, 1e25, 0.0, np.inf, np.nan])
def test_norms_whose_squares_are_no_floats(size: float) -> None:
    params, state = MLP.init(KEY, (6,))
    params["dense1"]["kernel"] = jnp.full((6, 4), size, jnp.bfloat16)
    norms = MEASURE(params, state, X.astype(np.float32), LABELS)
    assert float(norms["weight"]["dense1/kernel"]) == pytest.approx(
        size * math.sqrt(24), rel=1e-2, nan_ok=True
    )
    assert norms["weight"]["dense1/kernel"].dtype == jnp.float32


def test_norms_of_a_run_go_on_from_its_log(run: Any, tmp_path: Path) -> None:
    whole = norms_of([])
    with JsonLines(tmp_path / "log", norms=whole) as log:
        for at in run:
            whole(*at)
            log(*at)
    assert list(whole.rows) == [2, 4, 8, 12]
    with JsonLines(tmp_path / "log", resume_at=8) as log:
        again = norms_of(log.kept)
    assert list(again.rows) == [2, 4, 8]
    for at in run[4:]:
        again(*at)
    for kind in ("gradient", "weight", "delta"):
        assert again.table(kind).names == whole.table(kind).names
        np.testing.assert_array_equal(again.table(kind).steps, whole.table(kind).steps)
        np.testing.assert_allclose(again.table(kind).values, whole.table(kind).values, rtol=1e-7)


def test_a_log_has_every_report(run: Any, tmp_path: Path) -> None:
    with JsonLines(tmp_path / "log", batch_size=3) as log:
        log.write(model="mlp")
        for at in run:
            log(*at)
    about, *lines = read_lines(tmp_path / "log")
    assert about == {"model": "mlp"}
    reports = [report for report, _ in run]
    assert [(line["step"], line["steps"], line["epoch"]) for line in lines] == [
        (r.step, r.steps, r.epoch) for r in reports
    ]
    assert [line.get("scores") for line in lines] == [r.scores for r in reports]
    assert all(line["images_per_second"] > 0 for line in lines)
    losses, scores = history([about, *lines])
    np.testing.assert_array_equal(
        losses.astype(np.float32), np.concatenate([r.losses for r in reports])
    )
    assert list(scores) == [4, 8, 12]


@pytest.mark.parametrize(
    "end",
    ["", "\n", '\n{"step": 5, "lo', '\n{"step": 5, "loss": 1}', "\n\0\0\0", '\n{"name": "\xc3'],
)
def test_a_log_goes_on_where_its_run_does(tmp_path: Path, end: str) -> None:
    path, start = (
        tmp_path / "log",
        '{"model": "mlp"}\n{"step": 2, "seconds": 7.5}\n{"step": 4, "seconds": 9.0}',
    )
    path.write_bytes((start + end).encode("latin-1"))
    with JsonLines(path, resume_at=2) as log:
        log(report(3, [0.1, math.nan]))
    about, second, third = read_lines(path)
    assert (about, second) == ({"model": "mlp"}, {"step": 2, "seconds": 7.5})
    assert (third["step"], third["losses"], third["loss"]) == (3, [0.1, None], 0.1)
    assert 7.5 <= third["seconds"] < 60
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_log_that_does_not_go_on_begins_anew(tmp_path: Path) -> None:
    for resume_at in (None, 0, 3):
        (tmp_path / f"{resume_at}").write_text('{"step": 1}\n')
        Log(tmp_path / f"{resume_at}", resume_at=resume_at).close()
    assert [read_lines(tmp_path / name) for name in ("None", "0", "3")] == [[], [], [{"step": 1}]]
    Log(tmp_path / "new", resume_at=3).close()
    assert read_lines(tmp_path / "new") == []


def events(folder: Path) -> list[Event]:
    """All in the files of ``folder``, the oldest file first; every checksum holds."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda p: (p.stat().st_mtime_ns, p.name)):
        content, at = path.read_bytes(), 0
        while at < len(content):
            size, check = struct.unpack_from("<QI", content, at)
            data = content[at + 12 : at + 12 + size]
            assert check == masked_crc32c(content[at : at + 8])
            assert struct.unpack_from("<I", content, at + 12 + size)[0] == masked_crc32c(data)
            found.append(Event.FromString(data))
            at += 16 + size
    return found


def test_curves_are_read_back_from_event_files(run: Any, tmp_path: Path) -> None:
    norms, reports = norms_of([]), [report for report, _ in run]
    with TensorBoard(tmp_path, norms=norms) as board:
        for at in run[:2]:
            norms(*at)
            board(*at)
    with TensorBoard(tmp_path, resume_at=4) as board:
        for at in run[2:]:
            board(*at)
    assert len(list(tmp_path.iterdir())) == 2
    found = events(tmp_path)
    assert [event.step for event in found if event.HasField("session_log")] == [0, 5]
    curves: dict[str, dict[int, float]] = {}
    for event in found:
        for value in event.summary.value:
            curves.setdefault(value.tag, {})[event.step] = value.simple_value
    losses = np.concatenate([r.losses for r in reports])
    assert curves["train/loss"] == dict(enumerate(losses.tolist(), start=1))
    assert curves["test/accuracy"] == pytest.approx(
        {r.step: r.scores["accuracy"] for r in reports if r.scores}
    )
    assert curves["delta/tanh1"] == pytest.approx(
        {step: row["delta"]["tanh1"] for step, row in norms.rows.items()}
    )
    assert set(curves["gradient/dense1/kernel"]) == {2, 4}


def test_a_bar_moves_on_a_terminal() -> None:
    seconds = iter(range(100))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200)
    with Progress(
        9, 100, flops_per_step=50.0, peak=400.0, console=console, clock=lambda: next(seconds, 99)
    ) as bar:
        bar(report(2, [1.0, 0.5]))
        bar(report(4, [0.5, 0.25], {"accuracy": 0.75}))
        bar(report(6, [0.5, 0.25]))
    text = screen.getvalue()
    for words in (
        "compiling …",
        "6/9",
        "loss 0.3750  accuracy 0.7500",
        "images/s",
        "% of peak",
        "left",
    ):
        assert words in text


def test_elsewhere_a_line_is_a_look_at_the_test_set() -> None:
    now, screen = [0.0], io.StringIO()
    with Progress(9, 100, 50.0, 400.0, console=Console(file=screen), clock=lambda: now[0]) as bar:
        for step, scores in (
            (2, {"accuracy": 0.5}),
            (4, None),
            (6, {"accuracy": 0.75, "[loss]": 1.0}),
        ):
            now[0] += 0.5 if scores is None else 30
            bar(report(step, [1.0, 0.5], scores))
    assert screen.getvalue().splitlines() == [
        "step 2/9  epoch 0.5  loss 0.7500  accuracy 0.5000",
        (
            "step 6/9  epoch 1.5  loss 0.7500  accuracy 0.7500  [loss] 1.0000  400 images/s  50.0%"
            " of peak"
        ),
    ]


def test_a_step_is_counted_and_the_peak_measured() -> None:
    state, step = (
        train.create(train.Recipe(MLP, optimizer=optax.sgd(0.1)), KEY, (6,)),
        train.make_step(train.Recipe(MLP, LOSS, optax.sgd(0.1))),
    )
    counted = flops(
        step,
        state,
        jax.ShapeDtypeStruct((50, 6), jnp.float32),
        jax.ShapeDtypeStruct((50,), jnp.int32),
        KEY,
    )
    # 6·4 and 4·2 products an example: forward, δ, and the weights' gradient (JAX drops nothing that
    # nobody reads before it compiles)
    assert counted == 2 * 50 * 3 * (24 + 8)
    assert 1e6 < measure_peak(size=64, seconds=0.01) < 1e15


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda p: Norms(Recipe(MLP, LOSS), X, LABELS, every=0),
            "Norms: setting `every` must be an integer ≥ 1, got 0",
        ),
        (
            lambda p: Norms(Recipe(MLP, LOSS), X, LABELS[:3]),
            "as many, and at least one; got 12 and 3",
        ),
        (lambda p: Norms(Recipe(MLP, LOSS), X[:0], LABELS[:0]), "at least one; got 0 and 0"),
        (
            lambda p: Norms(Recipe(MLP, LOSS), X, LABELS).table("delta"),
            "nothing was measured so far",
        ),
        (lambda p: Log(p / "log", resume_at=-1), "`resume_at` must be an integer ≥ 0, got -1"),
        (
            lambda p: Log(p / "broken", resume_at=3),
            r"broken: line 2: Expecting value.*expected a JSON object; give another file",
        ),
        (
            lambda p: JsonLines(p / "log", batch_size=0),
            "JsonLines: setting `batch_size` must be an integer ≥ 1, got 0",
        ),
        (
            lambda p: TensorBoard(p / "board", resume_at=True),
            "`resume_at` must be an integer ≥ 0, got True",
        ),
        (lambda p: Progress(0, 1), "Progress: setting `steps` must be an integer ≥ 1, got 0"),
        (
            lambda p: Progress(1, 1, 5.0),
            "give both `flops_per_step` and `peak`, or neither; got 5.0 and None",
        ),
        (lambda p: Progress(1, 1, 5.0, math.nan), "`peak` must be None or a number > 0, got nan"),
        (lambda p: measure_peak(size=0), "setting `size` must be an integer ≥ 1"),
        (lambda p: measure_peak(seconds=0), "`seconds` must be a number > 0, got 0"),
        (
            lambda p: heat_map(Table(np.array([]), [], np.zeros((0, 0))), ""),
            "needs at least one step and one name",
        ),
        (
            lambda p: learning_curves([math.nan], {}),
            "`losses` needs at least one number; got 1, none of them finite",
        ),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, call: Callable[[Path], Any], words: str) -> None:
    (tmp_path / "broken").write_text('{"step": 1}\nno\n{"step": 2}\n')
    with pytest.raises(ValueError, match=words):
        call(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]
    assert (tmp_path / "broken").read_text() == '{"step": 1}\nno\n{"step": 2}\n'
