"""`python -m svfap.engine.publish RUN owner/repo`: see `engine.publish.command`."""

import sys

from svfap.engine.publish.command import main

if __name__ == "__main__":
    sys.exit(main())
