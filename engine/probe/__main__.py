"""`python -m engine.probe CHECKPOINT`: see `engine.probe.command`."""

import sys

from svfap.engine.probe.command import main

if __name__ == "__main__":
    sys.exit(main())
