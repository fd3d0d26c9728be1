"""From settings to what a run is made of.

>>> from jaxcnn.runs._config import Config
>>> sorted(network(Config(model="mlp"), 3).layers)
['dense1', 'dense2', 'flatten', 'relu1']
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcnn import layers, models, ops, train
from jaxcnn._io.command import InputError
from jaxcnn.data import augment
from jaxcnn.runs._config import Config

AUGMENTS = {
    "crop": augment.crop,
    "flip": augment.flip,
    "cutout": augment.cutout,
    "warp": augment.warp,
}
POLICIES = {"bf16": train.Policy("bfloat16"), "f16": train.Policy("float16", loss_scale="dynamic")}


def network(config: Config, classes: int) -> layers.Serial:
    """The one that ``--model`` names."""
    if config.model == "mlp":
        return models.mlp((128, classes))
    if config.model == "lenet":
        return models.lenet(classes, dropout=config.dropout)
    return models.MODELS[config.model](classes)


def recipe(
    config: Config, model: layers.Layer, classes: int, scale: Any, layout: Any, steps: int
) -> train.Recipe:
    """All that a run of ``steps`` steps learns by; ``scale`` prepares its images."""
    return train.Recipe(
        model,
        ops.softmax_cross_entropy,
        optimizer(config, steps),
        prepare=scale,
        prepare_target=targets(config, classes),
        augment=augmentation(config),
        microbatch=config.microbatch,
        average=config.average,
        policy=policy(config),
        layout=layout,
    )


def check_takes(model: layers.Layer, shape: tuple[int, ...], name: str) -> None:
    """InputError, that ``name`` does not take such images, unless ``model`` does."""
    try:
        jax.eval_shape(lambda: model.init(jax.random.key(0), shape))
    except (ValueError, TypeError) as error:
        # JAX adds notes of its own, about tracebacks
        where = "; ".join(
            note for note in getattr(error, "__notes__", ()) if note.startswith("in layer")
        )
        size = "×".join(map(str, shape[:2]))
        raise InputError(
            f"{name} does not take images of {size} pixels: {error} ({where})"
        ) from None


def optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """That of ``--optimizer``, with its schedule over that many steps."""
    rate: Any = config.learning_rate
    if config.schedule == "onecycle":
        rate = optax.cosine_onecycle_schedule(steps, rate, pct_start=config.warmup)
    elif config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, steps)
    parts = [] if config.clip is None else [optax.clip_by_global_norm(config.clip)]
    if config.optimizer == "adam":
        parts.append(optax.scale_by_adam(config.momentum, config.beta2))
    else:
        parts.append(optax.trace(config.momentum, nesterov=True))
    if config.weight_decay:
        parts.append(
            optax.add_decayed_weights(
                config.weight_decay,
                mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
            )
        )
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def targets(config: Config, classes: int) -> Any:
    """Labels (n,) to rows (n, classes), ``--label-smoothing`` of each spread over all classes, so
    that no score need grow without end."""
    return lambda labels: optax.smooth_labels(
        jax.nn.one_hot(labels, classes), config.label_smoothing
    )


def augmentation(config: Config) -> Any:
    """What ``--augment`` names, in turn."""
    return augment.in_turn(*(AUGMENTS[name] for name in config.augment)) if config.augment else None


def layout(config: Config) -> train.Layout | None:
    """The devices of ``--devices``. InputError where there are fewer, or they cannot share a batch
    evenly."""
    if config.devices is None and jax.process_count() == 1:
        return None
    there, count = jax.devices(), config.devices or len(jax.devices())
    if count > len(there):
        raise InputError(
            f"--devices {count}: there {'is' if len(there) == 1 else 'are'} {len(there)}"
            f" ({there[0].platform}); give at most that"
        )
    if len({device.process_index for device in there[:count]}) < jax.process_count():
        raise InputError(
            f"--devices {count}: leaves some of the {jax.process_count()} processes without one;"
            f" give 0 for all {len(there)}"
        )
    if config.batch_size % count:
        raise InputError(f"--batch-size {config.batch_size} is no multiple of the {count} devices")
    own = config.batch_size // count
    if config.microbatch and own > config.microbatch and own % config.microbatch:
        raise InputError(
            f"--microbatch {config.microbatch} does not divide the {own} images that each of the"
            f" {count} devices has of a batch"
        )
    mesh = jax.make_mesh((count,), ("data",), devices=there[:count])
    return train.Layout(mesh, cut="data" if config.cut else None)


def keys(config: Config) -> jax.Array:
    """One key, or one for each of ``--seeds``."""
    if config.seeds == 1:
        return jax.random.key(config.seed)
    return jax.vmap(jax.random.key)(
        jnp.arange(config.seed, config.seed + config.seeds, dtype=np.uint32)
    )


def policy(config: Config) -> train.Policy | None:
    """That of ``--precision``; None for float32."""
    return POLICIES.get(config.precision)
