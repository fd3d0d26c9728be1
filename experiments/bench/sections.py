"""The contests that ``--what`` names: who is timed at what, and against whom."""

from collections.abc import Callable
from functools import partial

from experiments.bench.cases import CASES, PEAK, PEAK_FLOPS, SMOKE
from experiments.bench.config import Config
from experiments.bench.contest import Contest, Draw, Entry
from experiments.bench.data import draw_network, draw_op
from experiments.bench.networks import NETWORKS, step_flops
from experiments.bench.peers import PEERS, Kind, Order

MANY = 8  # steps in an epoch's program, models in an ensemble
OP_TITLES: dict[Kind, str] = {"forward": "", "backward": ", with gradients"}


def contests(config: Config) -> list[Contest]:
    """All of them, in the order of ``--what``."""
    return [contest for what in config.what for contest in SECTIONS[what](config)]


def _able(config: Config, kind: Kind) -> list[str]:
    return [peer for peer in config.contestants if kind in PEERS[peer].kinds]


def _steps(config: Config) -> list[Contest]:
    """A whole training step: forward, backward, update."""
    found = []
    for name in config.model:
        network, gradient = NETWORKS[name], Order("gradient", name)
        racing = [
            Entry(peer, peer, Order("step", name), name, gradient) for peer in _able(config, "step")
        ]
        found.append(
            Contest(
                section="steps",
                title=f"{name}, batch {config.batch}",
                crew=name,
                entries=(*racing, *_peak(config)),
                draw=_drawn(config, name) | {PEAK.name: partial(draw_op, PEAK, 1, config.seed)},
                turn_seconds=config.turn_seconds[0],
                flops=step_flops(network, config.batch),
                images=config.batch,
                peak_flops=PEAK_FLOPS,
            )
        )
    return found


def _peak(config: Config) -> list[Entry]:
    """They take part in every round, as the machine is not the same all the time."""
    able = _able(config, "forward")
    by = [
        next((peer for peer in able if PEERS[peer].package == package), None)
        for package in ("jax", "torch")
    ]
    order = Order("forward", PEAK.name)
    return [Entry(p, f"{PEAK.name} by {p}", order, PEAK.name, order, peak=True) for p in by if p]


def _ops(config: Config) -> list[Contest]:
    """y of an op, and y with the cotangents of all inputs."""
    found = []
    for case in SMOKE if config.smoke else CASES:
        draw: Draw = {case.name: partial(draw_op, case, config.batch, config.seed)}
        for kind, title in OP_TITLES.items():
            order, backward = Order(kind, case.name), Order("backward", case.name)
            racing = tuple(
                Entry(peer, peer, order, case.name, backward) for peer in _able(config, kind)
            )
            found.append(
                Contest("ops", f"{case.name}{title}", "ops", racing, draw, config.turn_seconds[1])
            )
    return found


def _epochs(config: Config) -> list[Contest]:
    """Eight steps in one program, which shuffles its images itself, beside the single step."""
    found = []
    for name in config.model:
        step, epoch, gradient = Order("step", name), Order("epoch", name), Order("gradient", name)
        in_turn = Order("steps_in_turn", name)
        racing = []
        for peer in _able(config, "epoch"):
            single = Entry(peer, f"{peer}, single steps", step, name, gradient)
            scan = Entry(
                peer, f"{peer}, scan of {MANY}", epoch, name, in_turn, single.label, steps=MANY
            )
            racing += [single, scan]
        title, draw = (
            f"{name}, batch {config.batch}: {MANY} steps in one program",
            _drawn(config, name, batches=MANY),
        )
        found.append(
            Contest("epochs", title, f"{name} epochs", tuple(racing), draw, config.turn_seconds[0])
        )
    return found


def _ensembles(config: Config) -> list[Contest]:
    """``vmap`` over models, and over examples."""
    name = "lenet"
    step, gradient = Order("step", name), Order("gradient", name)
    together, in_turn = Order("ensemble", name), Order("models_in_turn", name)
    examples, norms = Order("examples", name), Order("norms", name)
    over_models, over_examples = [], []
    for peer in _able(config, "ensemble"):
        one = Entry(peer, f"{peer}, one model", step, name, gradient)
        over_models += [
            one,
            Entry(peer, f"{peer}, {MANY} models", together, name, in_turn, one.label, steps=MANY),
        ]
        whole = Entry(peer, f"{peer}, of the batch", gradient, name, gradient)
        over_examples += [
            whole,
            Entry(peer, f"{peer}, of each example", examples, name, gradient, whole.label),
            Entry(peer, f"{peer}, norms of each", norms, name, norms, whole.label),
        ]
    about, seconds, draw = (
        f"{name}, batch {config.batch}",
        config.turn_seconds[0],
        _drawn(config, name, models=MANY),
    )
    return [
        Contest(
            "ensembles", f"{about}: a step of a model", "models", tuple(over_models), draw, seconds
        ),
        Contest(
            "ensembles", f"{about}: gradients", "examples", tuple(over_examples), draw, seconds
        ),
    ]


def _drawn(config: Config, name: str, *, batches: int = 1, models: int = 1) -> Draw:
    return {
        name: partial(
            draw_network, NETWORKS[name], config.batch, config.seed, batches=batches, models=models
        )
    }


SECTIONS: dict[str, Callable[[Config], list[Contest]]] = {
    "steps": _steps,
    "ops": _ops,
    "epochs": _epochs,
    "ensembles": _ensembles,
}
