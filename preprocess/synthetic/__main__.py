"""`python -m svfap.preprocess.synthetic`: videos of drawn faces with expressions."""

from svfap.preprocess.synthetic.command import get_parser, main
from svfap.terminal import as_program

__all__ = ["get_parser"]

if __name__ == "__main__":
    as_program()
    main()
