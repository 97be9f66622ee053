"""Processes of a gloo group on this machine."""

import os
import socket
import subprocess
import sys

from tests.conftest import ROOT


def free_port() -> str:
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def outputs_of_two(module: str) -> list[str]:
    """What the function `two_processes` of a test module prints in the processes 0 and 1."""
    code = f"from tests.{module} import two_processes; two_processes()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}  # fmt: skip
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, env=environment | {"RANK": str(rank)})
        for rank in (0, 1)
    ]  # fmt: skip
    return [process.communicate(timeout=600)[0] for process in processes]
