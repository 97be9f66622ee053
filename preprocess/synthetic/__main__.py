"""`python -m svfap.preprocess.synthetic`: videos of drawn faces with expressions."""

from svfap.preprocess.shared.common import run_command
from svfap.preprocess.synthetic.command import get_parser, main

__all__ = ["get_parser"]

if __name__ == "__main__":
    run_command(main)
