"""`python -m svfap.preprocess.doctor FOLDER`: what is wrong with data, and how to mend it."""

import sys

from svfap.preprocess.doctor.command import build_parser, run

__all__ = ["build_parser"]

if __name__ == "__main__":
    sys.exit(run())
