"""`python -m preprocess.synthetic`: see `preprocess.synthetic.command`."""

from svfap.preprocess.synthetic.command import get_parser, main

__all__ = ["get_parser"]

if __name__ == "__main__":
    main()
