"""Runs commands of jaxcnn, each in a process of its own that has the imports behind it:
``python fuzz_server.py``, an order a line on stdin, a status a line on stdout.

An order is
``{"argv": [module, argument, …], "cwd": folder, "said": [file for stdout, file for stderr],
"seconds": limit}``; its answer a status, or null where it was ended.
"""

import importlib
import json
import os
import runpy
import signal
import sys
import time
from typing import Any, NoReturn

READY = "jax", "jaxcnn.ops", "jaxcnn.models", "jaxcnn.train", "jaxcnn.weights", "jaxcnn.data", "jaxcnn.explain", "jaxcnn.runs._train", "jaxcnn.runs._inference", "jaxcnn.verify._commands.verify", "matplotlib.figure"  # fmt: skip


def child(order: dict[str, Any]) -> NoReturn:
    """The command, with the end that a process of its own has."""
    os.setsid()
    os.chdir(order["cwd"])
    for number, name in zip((0, 1, 2), (os.devnull, *order["said"]), strict=True):
        file = os.open(name, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY, 0o600)
        os.dup2(file, number)
        os.close(file)
    module, *arguments = order["argv"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


def wait(process: int, seconds: float) -> int | None:
    """Its exit status, negative for a signal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def main() -> None:
    """Serve until there are no more orders."""
    for name in READY:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        process = os.fork()
        if not process:
            child(order)
        print(json.dumps(wait(process, order["seconds"])), flush=True)


if __name__ == "__main__":
    main()
