"""What a run begins with: all that can be found wrong before anything is written."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxcnn import train
from jaxcnn._io.command import InputError, RunError, expect
from jaxcnn.runs import _components as build
from jaxcnn.runs._agreement import difference
from jaxcnn.runs._config import CONFIG, FREE, Config, settings_of
from jaxcnn.runs._dataset_of_run import RunData, load
from jaxcnn.runs._folder import RunFolder
from jaxcnn.runs._results import CURVES, LEFT_OUT, METRICS, NORMS, RESULT, model_names
from jaxcnn.train._agree import each_says
from jaxcnn.train._checkpoint import remove_checkpoints

STATES, DEAD, CURVES_ELSEWHERE = "checkpoints", "post_mortem", "tensorboard"
MOST = 2**31 - 1  # steps, whose number is an int32


class Prepared(NamedTuple):
    """A run that can begin: ``steps`` of ``recipe`` on ``data``, of images of ``shape``."""

    folder: RunFolder
    data: RunData
    recipe: train.Recipe
    key: jax.Array
    shape: tuple[int, ...]
    steps: int

    def about(self, config: Config) -> dict[str, Any]:
        """What a checkpoint says of its run, which must be the same where that goes on."""
        return {
            "model": config.model,
            "checksum of the data": self.data.mark,
            "classes": self.data.classes,
            "seeds": config.seeds,
            "steps": self.steps,
            **fixed(config),
        }

    def fresh(self) -> train.TrainState:
        """A train state of the shape that this run's have."""

        def new(key: jax.Array) -> train.TrainState:
            return train.create(self.recipe, key, self.shape)

        return jax.vmap(new)(self.key) if self.key.ndim else new(self.key)


def names(config: Config) -> list[str]:
    """What this run writes."""
    return [
        CONFIG,
        METRICS,
        RESULT,
        CURVES,
        LEFT_OUT,
        STATES,
        DEAD,
        *model_names(config),
        *(NORMS if config.watch_every else ()),
        *([CURVES_ELSEWHERE] if config.tensorboard else ()),
    ]


def fixed(config: Config) -> dict[str, Any]:
    """The settings that a run keeps when it goes on."""
    return {name: value for name, value in json.loads(config.text()).items() if name not in FREE}


def prepare(config: Config, *, resume: bool, overwrite: bool) -> Prepared:
    """All that can be found wrong before anything is written."""
    folder = RunFolder(config.out, {STATES: remove_checkpoints, DEAD: remove_checkpoints})
    _check_folder(folder, config, resume=resume, overwrite=overwrite)
    data, layout = load(config), build.layout(config)
    shape = jax.eval_shape(data.scale, data.test[0][:1]).shape[1:]
    model, steps = build.network(config, data.classes), config.epochs * data.per_epoch
    build.check_takes(model, shape, f"--model {config.model}")
    expect(
        steps <= MOST,
        "--epochs",
        f"at most {MOST // data.per_epoch} of {data.per_epoch} steps",
        config.epochs,
    )
    recipe = build.recipe(config, model, data.classes, data.scale, layout, steps)
    return Prepared(folder, data, recipe, build.keys(config), shape, steps)


def in_all(
    prepare: Callable[[], Prepared], told: Mapping[str, str], at: Callable[[str], None]
) -> Prepared:
    """What ``prepare`` returns, where it could be done in all processes, and all have the same
    before them."""
    problem, found, mark = None, None, ""
    try:
        found = prepare()
        mark = found.data.mark
    except InputError as error:
        problem = error
    at("is ready")
    said = [
        json.loads(text)
        for text in each_says(
            json.dumps({"problem": str(problem or ""), "told": {**told, "the data": mark}})
        )
    ]
    if problem:
        raise problem
    for number, other in enumerate(said):
        if other["problem"]:
            raise RunError(f"process {number} could not begin ({other['problem']})")
        if unlike := difference(0, said[0]["told"], number, other["told"]):
            raise InputError(unlike)
    assert found is not None
    return found


def _check_folder(folder: RunFolder, config: Config, *, resume: bool, overwrite: bool) -> None:
    """InputError where ``--out`` holds a run that this one would destroy, something else, or not
    the run that is to go on."""
    kept = config.out / CONFIG
    folder.check_free(*names(config))
    if not resume:
        if not overwrite and set(folder.there()) - {CONFIG}:
            raise InputError(
                f"--out {config.out} holds a run; --resume goes on with it, --overwrite begins"
                " anew, another --out leaves it alone"
            )
        return
    if not kept.exists():
        raise InputError(
            f"--resume: there is no run in {config.out}; leave --resume out to begin one"
        )
    before = settings_of(kept)
    for name, value in fixed(config).items():
        if before.get(name) != value:
            raise InputError(
                f"--resume: {name} is {before.get(name)!r} in {kept}, now {value!r}; leave it out,"
                " or begin another run in another --out"
            )
