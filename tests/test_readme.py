"""What the README shows must be so."""

import re
from pathlib import Path

import pytest

from jaxcnn.__main__ import main
from jaxcnn.ops import OPS
from jaxcnn.ops import _table as table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CHAPTER = (ROOT / "docs" / "pseudo_gradients.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:keep_memory. JAX has its devices already")  # in this process
@pytest.mark.parametrize("source", BLOCKS, ids=range(len(BLOCKS)))
def test_examples_run(source, capsys):
    exec(compile(source, "README", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("source", re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL))
def test_the_chapter_on_gradients_that_are_no_derivatives_says_what_comes_out(source, capsys):
    exec(compile(source, "docs/pseudo_gradients.md", "exec"), {})
    said = re.search(r"print\(.*\)  # ([TrueFals ]+)$", source, re.MULTILINE)
    assert said is not None
    assert capsys.readouterr().out.strip() == said.group(1)


def test_the_first_example_proves_its_rule_and_rejects_a_wrong_one(capsys):
    exec(compile(BLOCKS[0], "README", "exec"), {})
    assert "all checks hold" in capsys.readouterr().out
    exec(compile(BLOCKS[0].replace("(1 - 2 *", "(1 - 3 *"), "README", "exec"), {})
    assert "FAILED" in capsys.readouterr().out


def test_the_table_of_ops_is_the_program_s():
    shown = README.split("--markdown` -->\n")[1].split("\n<!-- end of ops")[0]
    assert shown == table.markdown()


def test_the_command_lists_every_op(capsys):
    assert main(["ops"]) == 0
    out = capsys.readouterr().out
    assert all(op.name in out for op in OPS)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_ci_runs_the_readme_s_command():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert [c.rsplit(" ", 1)[1] for c in commands] == ["experiments.mnist", "pytest"]
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
