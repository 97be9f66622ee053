"""`python -m engine.probe CHECKPOINT`: see `engine.probe.command`."""

import sys

from engine.probe.command import main

if __name__ == "__main__":
    sys.exit(main())
