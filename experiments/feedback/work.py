"""All five, one after the other; figures, a table and pictures."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.drawing import save
from experiments.feedback import pictures
from experiments.feedback.config import Config
from experiments.feedback.ways import Way, angles, ways
from experiments.files import Log, clear_folder, open_log, write_json
from experiments.images import Split, load
from experiments.progress import bar
from jaxcnn import ops, train, value_and_grad

FILES = "result.json", "metrics.jsonl", "errors.png", "angles.png"
LOOK = 25  # steps from one look at the angle to the next
LOSS = ops.softmax_cross_entropy


def run(config: Config) -> str:
    clear_folder(config.out, FILES)
    batch, few = (16, (32, 100)) if config.smoke else (128, (None, None))
    training, test = load(config.data_dir, train=few[0], test=few[1])
    epochs, found = 1 if config.smoke else config.epochs, {}
    with (
        open_log(config.out / "metrics.jsonl") as log,
        bar(len(ways()) * epochs * (len(training[0]) // batch)) as advance,
    ):
        for name, way in ways().items():
            found[name] = learn(name, way, training, test, epochs, batch, config, log, advance)
    rows = {name: {"test_error": f["errors"][-1], "published": way.published, "angle_at_start": _all(f["angles"], 0), "angle_at_end": _all(f["angles"], -1)} for (name, way), f in zip(ways().items(), found.values(), strict=True)}  # fmt: skip
    write_json(
        config.out / "result.json",
        {"seed": config.seed, "epochs": epochs, "learning_rate": config.learning_rate, "ways": rows},
    )
    save(pictures.errors(found, ways()), config.out / "errors.png")
    save(pictures.angles(found), config.out / "angles.png")
    lines = [f"{'':<25}test error   published (MNIST / Fashion-MNIST)   angle to the true gradient"]
    for name, row in rows.items():
        published = "{} / {} %".format(*row["published"]) if row["published"] else "–"
        angle = "–" if row["angle_at_end"] is None else f"{row['angle_at_start']:.0f}° → {row['angle_at_end']:.0f}°"
        lines.append(f"{name:<25}{row['test_error']:>8.2%}     {published:<36} {angle}")
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.features",
        ]
    )


def learn(
    name: str, way: Way, training: Split, test: Split, epochs: int, batch: int, config: Config, log: Log, advance: Any
) -> dict[str, Any]:
    """Test error by epoch (the first before any training), and the angles on the way."""
    (images, labels), (test_images, test_labels) = training, test
    per_epoch = len(images) // batch
    first, orders, inside = jax.random.split(jax.random.key(config.seed), 3)
    schedule = optax.cosine_onecycle_schedule(epochs * per_epoch, config.learning_rate)
    state = train.create(way.model, optimizer := optax.adam(schedule), first, images.shape[1:])
    steps = train.make_steps(train.make_step(way.model, LOSS, optimizer))
    predict = train.make_predict(way.model)

    @jax.jit
    def angle(params: Any, x: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
        own, true = (
            value_and_grad(model, LOSS)(params, {}, x, target)[1] for model in (way.model, way.true or way.model)
        )
        return angles(own, true)

    def error(params: Any) -> float:
        parts = [predict(params, {}, test_images[at : at + 1000]).argmax(-1) for at in range(0, len(test_images), 1000)]
        return float((jnp.concatenate(parts) != test_labels).mean())

    errors, seen, loss = [error(state.params)], [], 0.0
    for epoch in range(epochs):
        rows = train.shuffled(jax.random.fold_in(orders, epoch), len(images), batch)
        for start in range(0, per_epoch, LOOK):
            if way.true is not None:
                found = angle(state.params, images[:batch], labels[:batch])
                seen.append((int(state.step), {layer: float(degrees) for layer, degrees in found.items()}))
            state, metrics = steps(state, images, labels, rows[start : start + LOOK], inside)
            loss = float(metrics["loss"].mean())
            advance(f"{name}: epoch {epoch + 1}/{epochs}, loss {loss:.3f}", len(metrics["loss"]))
        errors.append(error(state.params))
        log.write(way=name, epoch=epoch + 1, test_error=errors[-1], loss=loss)
    return {"errors": errors, "angles": seen}


def _all(angles: list[tuple[int, dict[str, float]]], index: int) -> float | None:
    return angles[index][1]["all"] if angles else None
