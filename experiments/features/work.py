"""Train, look, and test what was seen."""

from typing import Any

import jax
import numpy as np
import optax

from experiments.features import pictures
from experiments.features.config import Config
from experiments.features.looking import maps, network, randomised, rank_correlation
from experiments.files import clear_folder
from experiments.images import Split, load
from experiments.progress import bar
from jaxcnn import activations, ops, train
from jaxcnn._io.command import InputError
from jaxcnn._io.drawing import save
from jaxcnn._io.files import write_json
from jaxcnn.explain import maximise, top_patches
from jaxcnn.layers import Serial
from jaxcnn.runs._components import check_takes

FILES = (
    "result.json",
    "filters.png",
    "maps.png",
    "patches.png",
    "made.png",
    "evidence.png",
    "sanity.png",
)
BATCH = 128
CHANNELS = {"conv1": 6, "conv2": 6}  # how many of each are looked at
SANITY = 32  # images


def run(config: Config) -> str:
    batch, few = (16, (32, 100)) if config.smoke else (BATCH, (None, None))
    training, (x, labels), classes = data = load(
        config.data_dir, train=few[0], test=few[1], batch=batch
    )
    if config.image >= len(x):
        raise InputError(f"--image must be less than the {len(x)} test images, got {config.image}")
    model, epochs = network(classes), 1 if config.smoke else config.epochs
    check_takes(model, data.shape, "--data-dir: the model")
    clear_folder(config.out, FILES)
    params = learn(model, training, epochs, batch, config.seed)
    accuracy = train.make_evaluate(train.Recipe(model))(params, {}, x, labels)["accuracy"]
    with bar(5) as advance:
        draw(model, params, x, labels, config, advance)
        few_images = 2 if config.smoke else SANITY
        table = sanity(model, params, x[:few_images], labels[:few_images], config.seed)
        advance("sanity check", 1)
    save(pictures.sanity(table), config.out / "sanity.png")
    write_json(
        config.out / "result.json",
        {
            "seed": config.seed,
            "epochs": epochs,
            "test_accuracy": accuracy,
            "rank_correlation_with_randomised": table,
        },
    )
    stages = list(next(iter(table.values())))
    lines = [
        f"{accuracy:.2%} of the {len(x):,} test images are right. Rank correlation of each map with"
        " that of a network randomised down to …"
    ]
    lines += [f"{'':<15}" + "".join(f"{stage:>9}" for stage in stages)]
    lines += [
        f"{name:<15}" + "".join(f"{row[stage]:>9.2f}" for stage in stages)
        for name, row in table.items()
    ]
    return "\n".join(
        [
            *lines,
            f"Results and pictures are in {config.out}: {', '.join(FILES)}",
            "Next: python -m experiments.feedback",
        ]
    )


def learn(model: Serial, training: Split, epochs: int, batch: int, seed: int) -> Any:
    """Parameters after some epochs of Adam."""
    steps = epochs * (len(training[0]) // batch)
    optimizer = optax.adam(optax.cosine_onecycle_schedule(steps, 2e-3))
    with bar(steps) as advance:
        state, _ = train.fit(
            train.Recipe(model, ops.softmax_cross_entropy, optimizer),
            training,
            key=jax.random.key(seed),
            batch_size=batch,
            steps=steps,
            report_every=25,
            callbacks=[
                lambda report, _: advance(f"training: loss {report.loss:.3f}", len(report.losses))
            ],
        )
    return state.params


def draw(
    model: Serial, params: Any, x: jax.Array, labels: jax.Array, config: Config, advance: Any
) -> None:
    """All pictures but that of the sanity check."""
    save(pictures.filters(np.asarray(params["conv1"]["kernel"])), config.out / "filters.png")
    shown = activations(model, params, {}, x[config.image : config.image + 1])
    save(
        pictures.maps(
            {
                n: np.asarray(y[0])
                for n, y in {"image": x[config.image :], **shown}.items()
                if y.ndim == 4
            }
        ),
        config.out / "maps.png",
    )
    advance("feature maps", 1)
    found = {}
    for layer, count in CHANNELS.items():
        for channel in range(count):
            best = top_patches(model, params, {}, x, layer, channel)
            found[layer, channel] = [
                np.asarray(x[index][place][..., 0]) for index, place, _ in best
            ]
    save(pictures.patches(found), config.out / "patches.png")
    advance("what excites a unit", 1)
    noise = 0.1 * jax.random.normal(jax.random.key(config.seed), (1, *x.shape[1:]))
    climb = jax.jit(
        lambda layer, channel: maximise(model, params, {}, noise, layer, channel, steps=100)[
            0, ..., 0
        ],
        static_argnums=0,
    )
    made = {layer: [np.asarray(climb(layer, c)) for c in range(8)] for layer in ("relu1", "relu2")}
    made["dense2"] = [np.asarray(climb("dense2", c)) for c in range(params["dense2"]["bias"].size)]
    save(pictures.made(made), config.out / "made.png")
    advance("images made to excite", 1)
    few, chosen = x[:6], labels[:6]
    evidence = {
        name: np.asarray(jax.jit(way)(params, few, chosen)) for name, way in maps(model).items()
    }
    save(
        pictures.evidence(np.asarray(few[..., 0]), evidence, np.asarray(chosen)),
        config.out / "evidence.png",
    )
    advance("where decisions come from", 1)


def sanity(
    model: Serial, params: Any, x: jax.Array, classes: jax.Array, seed: int
) -> dict[str, dict[str, float]]:
    """For each way of mapping, the rank correlation of its maps with those of the network
    randomised from the scores down to each layer."""
    names = [name for name in reversed(model.layers) if name in params]
    fresh, _ = model.init(jax.random.fold_in(jax.random.key(seed), 1), x.shape[1:])
    table = {}
    for name, way in maps(model).items():
        look = jax.jit(way)
        before = look(params, x, classes)
        table[name] = {
            lowest: rank_correlation(before, look(p, x, classes))
            for lowest, p in zip(names, randomised(params, names, fresh), strict=True)
        }
    return table
