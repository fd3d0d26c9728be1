"""Plans of training steps: on 8 simulated devices, and where the TPU's compiler is installed
(``pip install -e '.[tpu]'``), on chips that are not there."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import optax
import pytest

from jaxcnn import models, ops
from jaxcnn.plan import Collective, Memory, Plan, plan
from jaxcnn.plan import _command as command
from jaxcnn.plan._chips import available, slice_of
from jaxcnn.plan._collectives import collectives
from jaxcnn.train import Layout, Policy, Recipe

BATCH, INPUTS, HIDDEN, CLASSES = 64, 256, 512, 16
DENSE = models.mlp((HIDDEN, CLASSES))
WEIGHTS, BIASES = INPUTS * HIDDEN + HIDDEN * CLASSES, HIDDEN + CLASSES


def layout(*, cut: bool = False) -> Layout:
    return Layout(jax.make_mesh((8,), ("data",)), cut="data" if cut else None)


def dense_plan(*, cut: bool = False, **settings: Any) -> Plan:
    recipe = Recipe(
        DENSE, ops.softmax_cross_entropy, optax.adam(1e-3), layout=layout(cut=cut), **settings
    )
    return plan(recipe, (16, 16, 1), BATCH)


@pytest.fixture(scope="module")
def copied() -> Plan:
    return dense_plan()


@pytest.fixture(scope="module")
def cut() -> Plan:
    return dense_plan(cut=True)


def test_copied_parameters_need_one_sum_of_all_gradients_and_the_loss(copied: Plan) -> None:
    assert copied.collectives == (Collective("all-reduce", 8, 1, 4 * (WEIGHTS + BIASES + 1)),)


def test_cut_parameters_are_gathered_and_their_gradients_scattered(cut: Plan) -> None:
    whole = 2, 4 * WEIGHTS
    assert cut.collectives == (
        Collective("all-gather", 8, *whole),
        Collective("all-reduce", 8, 1, 4 * (BIASES + 1)),
        Collective("reduce-scatter", 8, *whole),
    )


def test_cut_parameters_take_an_eighth_of_the_memory(copied: Plan, cut: Plan) -> None:
    assert copied.memory is not None
    assert cut.memory is not None
    saved = 3 * 4 * WEIGHTS * 7 / 8  # of parameters and Adam's two moments
    assert copied.memory.arguments - cut.memory.arguments == saved
    data = BATCH // 8 * (INPUTS + 1) * 4
    assert copied.memory.arguments == pytest.approx(3 * 4 * (WEIGHTS + BIASES) + data, abs=200)
    # the new state lies where the old one lay
    assert copied.memory.outputs - copied.memory.reused < 200


def test_flops_are_those_of_three_products_a_layer_but_the_first(copied: Plan) -> None:
    # nobody asks for δ at the input
    products = 2 * BATCH // 8 * (2 * INPUTS * HIDDEN + 3 * HIDDEN * CLASSES)
    updates = 15 * (WEIGHTS + BIASES)  # Adam
    assert copied.flops == pytest.approx(products + updates, rel=0.1)


def test_a_loop_over_microbatches_is_told_of(copied: Plan) -> None:
    looped = dense_plan(microbatch=4)
    assert looped.loops
    assert "counts once" in str(looped)
    assert not copied.loops
    assert "counts once" not in str(copied)


def test_a_dynamic_loss_scale_is_in_the_state(copied: Plan) -> None:
    scaled = dense_plan(policy=Policy("float16", loss_scale="dynamic"))
    assert scaled.memory is not None
    assert copied.memory is not None
    assert 8 <= scaled.memory.arguments - copied.memory.arguments < 100


def test_a_plan_says_whether_it_fits() -> None:
    about: dict[str, Any] = {
        "device": "TPU v5 lite",
        "mesh": {"data": 4},
        "batch": 64,
        "full": False,
        "seconds": 2.0,
        "hbm": 1000,
    }
    memory = Memory(arguments=400, outputs=300, reused=200, temporaries=450, program=50)
    small, large = (
        Plan(**about, memory=memory._replace(temporaries=size), flops=1.0, bytes_accessed=1.0)
        for size in (450, 451)
    )
    refused = Plan(**about, refused="Ran out of memory")
    assert [p.fits for p in (small, large, refused)] == [True, False, False]
    assert "(100.0%): fits" in str(small)
    assert "DOES NOT FIT" in str(large)
    assert "does not fit: Ran out" in str(refused)
    assert "--full" in str(small)
    assert "no collectives" in str(small)
    assert json.loads(large.to_json())["memory"]["peak"] == 1001
    assert json.loads(refused.to_json())["memory"] is None


HLO = {
    "listed": ("%a = f32[3,2]{1,0} all-reduce(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%f", ("all-reduce", 4, 1, 24)),
    "all": ("%a = f32[] all-reduce(%x), replica_groups={}, to_apply=%f", ("all-reduce", 8, 1, 4)),
    "iota": ("%a = f32[3]{0} all-gather(%x), replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}", ("all-gather", 2, 1, 12)),
    "mesh": ("%a = f32[3]{0} all-gather(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}", ("all-gather", 4, 1, 12)),
    "part of an axis": ("%a = f32[3]{0} all-gather(%x), replica_groups=mesh['a'=8] {'a':(1)2}, dimensions={0}", ("all-gather", 2, 1, 12)),
    "tuple, tiled": ("%a = (bf16[8]{0:T(8,128)S(1)}, pred[3]{0}, /*index=2*/s4[2]{0}) all-reduce(%x, %y, %z), replica_groups={{0,1}}", ("all-reduce", 2, 1, 20)),
    "started reduce": ("%a = f32[3]{0} all-reduce-start(%x), replica_groups={{0,1}}\n%b = f32[3]{0} all-reduce-done(%a)", ("all-reduce", 2, 1, 12)),
    "started gather": ("%a = (f32[3]{0}, f32[6]{0}) all-gather-start(%x), replica_groups={{0,1}}, dimensions={0}", ("all-gather", 2, 1, 24)),
    "started permute": ("%a = (f32[3]{0}, f32[3]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,2},{2,0}}", ("collective-permute", 3, 1, 12)),
    "exchange": ("%a = (f32[2]{0}, f32[2]{0}) all-to-all(%x, %y), replica_groups={{0,1}}", ("all-to-all", 2, 1, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", HLO)
def test_collectives_are_read_in_every_form(name: str) -> None:
    text, expected = HLO[name]
    assert collectives(text, 8) == [Collective(*expected)]


def test_what_only_names_a_collective_is_none() -> None:
    assert (
        collectives(
            "%a = f32[3]{0} get-tuple-element(%all-reduce.4), index=0\n%b = f32[] add(%x, %y),"
            ' metadata={op_name="all-reduce("}',
            8,
        )
        == []
    )


def status(line: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return command.run(parser.parse_args(shlex.split(line)))


def test_the_command_prints_and_writes_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(models.MODELS, "small", lambda classes: models.mlp((128, classes)))
    file = tmp_path / "plan.json"
    line = (
        "--model small --image 8x8x1 --classes 3 --topology cpu:4 --mesh host=2,chip=2 --cut"
        f" --batch 16 --precision bf16 --optimizer sgd --json {file}"
    )
    assert status(line) == 0
    printed, written = capsys.readouterr(), json.loads(file.read_text())
    assert printed.err == ""
    assert printed.out.startswith(
        "a step on each of 4 × cpu (host=2, chip=2): 4 of a batch of 16\n"
    )
    assert written["mesh"] == {"host": 2, "chip": 2}
    assert written["fits"] is None
    assert {c["chips"] for c in written["collectives"] if c["kind"] == "reduce-scatter"} == {2}


GOOD = {"model": "lenet", "topology": "cpu:8", "batch": "64"}
BAD = [
    ({"model": "lenett"}, "--model lenett: there is no such model; there is lenet, "),
    ({"topology": "v9:2x2"}, "setting `topology` must be v4:AxBxC"),
    ({"topology": "cpu:0"}, "setting `topology` must be"),
    ({"topology": "cpu:9"}, "setting `topology` must be at most cpu:8 here"),
    ({"batch": "65"}, "setting `batch` must be a multiple of the 8 devices, got 65"),
    ({"batch": "0"}, "setting `batch` must be an integer ≥ 1"),
    (
        {"microbatch": "3"},
        "setting `microbatch` must be a divisor of the 8 examples of each device, got 3",
    ),
    ({"microbatch": "0"}, "setting `microbatch` must be an integer ≥ 1"),
    ({"image": "32x32"}, "--image 32x32: expected HEIGHTxWIDTHxCHANNELS"),
    ({"image": "2x2x1"}, "max_pool: the window covers 2 cells"),
    ({"classes": "0"}, "--classes 0: expected 1 or more"),
    ({"mesh": "data"}, "--mesh data: expected AXIS=N"),
    ({"mesh": "data=4"}, "product is the 8 chips"),
    ({"mesh": "a=8,a=8"}, "axes of different names"),
    ({"cut": "model"}, "setting `cut` must be None or an axis of the mesh (data)"),
    ({"json": "no/such/folder.json"}, "its folder does not exist"),
    ({"json": "."}, "is a folder"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=lambda case: str(case))
def test_bad_options_are_one_line_and_status_2(
    change: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        status(shlex.join(f"--{name}={value}" for name, value in {**GOOD, **change}.items())) == 2
    )
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert "internal frames" not in printed.err


def test_without_the_compiler_for_tpus_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jaxcnn.plan._chips.available", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'jaxcnn\[tpu\]'"):
        slice_of("v5e:2x2")


PROGRAM = """
import sys, argparse
from jaxcnn.plan import _command as command
parser = argparse.ArgumentParser()
command.add_options(parser)
sys.exit(command.run(parser.parse_args()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not available(), reason="libtpu is not installed")
@pytest.mark.parametrize(
    ("topology", "batch", "expected"),
    [("v5e:2x4", 64, 0), ("v5e:2x4", 2**23, 1), ("v5e:3x3", 64, 2)],
)
def test_a_slice_of_tpus_that_is_not_there(
    topology: str, batch: int, expected: int, tmp_path: Path
) -> None:
    """In a process of its own, as the compiler for TPUs prints and registers what the suite does
    not expect."""
    line = f"--model lenet --topology {topology} --batch {batch} --json {tmp_path / 'plan.json'}"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *shlex.split(line)],
        capture_output=True,
        text=True,
        env={**os.environ, "XLA_FLAGS": ""},
    )
    assert run.returncode == expected, run.stderr
    if expected == 2:
        assert "a slice that the compiler for TPUs knows" in run.stderr
        assert run.stderr.count("\n") == 1
        return
    found = json.loads((tmp_path / "plan.json").read_text())
    assert (found["device"], found["hbm"], found["fits"]) == (
        "TPU v5 lite",
        15.75 * 2**30,
        expected == 0,
    )
    if found["fits"]:
        total = sum(c["bytes"] for c in found["collectives"] if c["kind"] == "all-reduce")
        assert total == pytest.approx(4 * 1_630_602, rel=0.01)  # the gradients of lenet
