"""All five, one after the other; figures, a table and pictures."""

from typing import Any

import jax
import optax

from experiments.feedback import pictures
from experiments.feedback.config import Config
from experiments.feedback.ways import Way, angles, ways
from experiments.files import clear_folder
from experiments.images import Images, load
from experiments.progress import bar
from jaxcnn import ops, train, value_and_grad
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn._io.lines import Log
from jaxcnn.runs._components import check_takes

FILES = "result.json", "metrics.jsonl", "errors.png", "angles.png"
LOOK = 25  # steps from one look at the angle to the next
LOSS = ops.softmax_cross_entropy
MEASURES = {"error": lambda logits, labels: 1 - train.accuracy(logits, labels)}


def run(config: Config) -> str:
    batch, few = (16, (32, 100)) if config.smoke else (128, (None, None))
    data = load(config.data_dir, train=few[0], test=few[1], batch=batch)
    tried = ways(data.classes)
    check_takes(next(iter(tried.values())).model, data.shape, "--data-dir: the model")
    clear_folder(config.out, FILES)
    epochs, found = 1 if config.smoke else config.epochs, {}
    with (
        Log(config.out / "metrics.jsonl") as log,
        bar(len(tried) * epochs * (len(data.train[0]) // batch)) as advance,
    ):
        for name, way in tried.items():
            found[name] = learn(name, way, data, epochs, batch, config, log, advance)
    rows = {
        name: {
            "test_error": f["errors"][-1],
            "published": way.published,
            "angle_at_start": _all(f["angles"], 0),
            "angle_at_end": _all(f["angles"], -1),
        }
        for (name, way), f in zip(tried.items(), found.values(), strict=True)
    }
    write_json(
        config.out / "result.json",
        {
            "seed": config.seed,
            "epochs": epochs,
            "learning_rate": config.learning_rate,
            "ways": rows,
        },
    )
    save(pictures.errors(found), config.out / "errors.png")
    save(pictures.angles(found), config.out / "angles.png")
    lines = [f"{'':<25}test error   published (MNIST / Fashion-MNIST)   angle to the true gradient"]
    for name, row in rows.items():
        published = "{} / {} %".format(*row["published"]) if row["published"] else "–"
        angle = (
            "–"
            if row["angle_at_end"] is None
            else f"{row['angle_at_start']:.0f}° → {row['angle_at_end']:.0f}°"
        )
        lines.append(f"{name:<25}{row['test_error']:>8.2%}     {published:<36} {angle}")
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def learn(
    name: str,
    way: Way,
    data: Images,
    epochs: int,
    batch: int,
    config: Config,
    log: Log,
    advance: Any,
) -> dict[str, Any]:
    """Test error by epoch (the first before any training), and the angles on the way."""
    key, few = jax.random.key(config.seed), (data.train[0][:batch], data.train[1][:batch])
    optimizer = optax.adam(
        optax.cosine_onecycle_schedule(epochs * (len(data.train[0]) // batch), config.learning_rate)
    )
    seen: list[tuple[int, dict[str, float]]] = []

    @jax.jit
    def angle(params: Any, x: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
        own, true = (
            value_and_grad(model, LOSS)(params, {}, x, target)[1]
            for model in (way.model, way.true or way.model)
        )
        return angles(own, true)

    def look(step: int, params: Any) -> None:
        if way.true is not None:
            seen.append(
                (step, {layer: float(degrees) for layer, degrees in angle(params, *few).items()})
            )

    def report(at: train.Report, state: train.TrainState) -> None:
        look(at.step, state.params)
        advance(f"{name}: epoch {at.epoch:.1f} of {epochs}, loss {at.loss:.3f}", len(at.losses))
        if at.scores is not None:
            log.write(
                way=name, step=at.step, epoch=at.epoch, loss=at.loss, test_error=at.scores["error"]
            )

    recipe = train.Recipe(way.model, LOSS, optimizer, measures=MEASURES)
    start = train.create(recipe, key, data.shape)
    errors = [train.make_evaluate(recipe)(start.params, {}, *data.test)["error"]]
    look(0, start.params)
    _, reports = train.fit(
        recipe,
        data.train,
        test=data.test,
        key=key,
        batch_size=batch,
        epochs=epochs,
        report_every=LOOK,
        start=start,
        callbacks=[report],
    )
    return {
        "errors": errors + [r.scores["error"] for r in reports if r.scores is not None],
        "angles": seen,
    }


def _all(angles: list[tuple[int, dict[str, float]]], index: int) -> float | None:
    return angles[index][1]["all"] if angles else None
