"""`python -m preprocess.doctor FOLDER`: see `preprocess.doctor.command`."""

import sys

from svfap.preprocess.doctor.command import build_parser, run

__all__ = ["build_parser"]

if __name__ == "__main__":
    sys.exit(run())
