"""What the figures hang on: the machine, how busy it was, versions, and settings in the
environment."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

ENVIRONMENT = (
    "XLA_FLAGS",
    "JAX_PLATFORMS",
    "NPROC",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "DNNL_MAX_CPU_ISA",
    "CXX",
)


def cpu_model() -> str:
    """As the operating system calls it, with what tells two of a name apart."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    model = found.get("model name") or found.get("Model") or platform.machine()
    widest = (
        "AVX-512"
        if "avx512f" in found.get("flags", "")
        else "AVX2"
        if "avx2" in found.get("flags", "")
        else ""
    )
    return f"{model} ({widest})" if widest else model


def describe() -> dict[str, Any]:
    """For ``bench.json``."""
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_before": load(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def load() -> float | None:
    """Processes that wanted to run in the last minute, on average."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def busy_seconds() -> float | None:
    """How long all CPUs together have worked since the start of the machine, for whomever; None
    where the system does not say."""
    try:
        first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    except OSError:
        return None
    user, nice, system, _, _, interrupts, soft, stolen, *_ = map(int, first.split()[1:])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
