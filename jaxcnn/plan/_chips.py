"""Devices to compile for: a slice of TPUs that need not be there, or simulated CPU devices.

>>> gibibytes("TPU v5 lite"), gibibytes("cpu")
(15.75, None)
>>> slice_of("v5e")
Traceback (most recent call last):
ValueError: plan: setting `topology` must be v4:AxBxC, v5e:AxB, v5p:AxBxC, v6e:AxB or cpu:N, …
"""

import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from jaxcnn._core.errors import setting_error

# GiB of a chip that programs may use, as libtpu 0.0.42 says when a program is too large; of 32, 16,
# 95 and 32 in the Cloud TPU documentation
HBM = {"TPU v4": 30.75, "TPU v5 lite": 15.75, "TPU v5": 95.74, "TPU v6 lite": 31.25}
FORMS = r"(v4|v5p):\d+x\d+x\d+|(v5e|v6e):\d+x\d+|cpu:[1-9]\d{0,3}"
# Read when libtpu is loaded, which otherwise looks for TPUs in this machine, complains that there
# are none, and lets one process at a time in. Only its compiler is needed here
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def available() -> bool:
    """Whether the compiler for TPUs is installed."""
    return importlib.util.find_spec("libtpu") is not None


def gibibytes(kind: str) -> float | None:
    """Of high-bandwidth memory that a program may use on a device of that kind; None where that is
    not known."""
    return HBM.get(kind)


def slice_of(topology: str) -> list[Any]:
    """The devices of ``"v5e:16x16"``, a chip each, or of ``"cpu:8"``.

    Raises:
        ValueError: there is no such slice, or this process has fewer CPU devices.
        ImportError: the compiler for TPUs is not installed.
    """
    if not re.fullmatch(FORMS, topology):
        raise setting_error(
            "plan",
            "topology",
            "v4:AxBxC, v5e:AxB, v5p:AxBxC, v6e:AxB or cpu:N, such as v5e:16x16",
            topology,
        )
    name, _, size = topology.partition(":")
    return _cpus(int(size)) if name == "cpu" else _tpus(topology)


def _cpus(count: int) -> list[Any]:
    here = jax.devices("cpu")
    if len(here) < count:
        raise setting_error(
            "plan",
            "topology",
            f"at most cpu:{len(here)} here (jax_num_cpu_devices can be set only before JAX first"
            " computes)",
            f"cpu:{count}",
        )
    return here[:count]


def _tpus(topology: str) -> list[Any]:
    if not available():
        raise ImportError(
            "the compiler for TPUs is not installed: pip install 'jaxcnn[tpu]'; or plan for"
            " simulated devices, such as cpu:8"
        )
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # else the two cores of a v4 are a device each
    more: dict[str, Any] = {"chip_config_name": "megacore"} if topology.startswith("v4") else {}
    try:
        return topologies.get_topology_desc(topology, "tpu", **more).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
        raise setting_error(
            "plan",
            "topology",
            f"a slice that the compiler for TPUs knows ({reason:.150})",
            topology,
        ) from None
