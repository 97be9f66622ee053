"""`python -m svfap.engine.probe CHECKPOINT`: how good are frozen features?"""

import sys

from svfap.engine.probe.command import main

if __name__ == "__main__":
    sys.exit(main())
