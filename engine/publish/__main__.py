"""`python -m svfap.engine.publish RUN owner/repo`: a run for others, with a model card."""

import sys

from svfap.engine.publish.command import main

if __name__ == "__main__":
    sys.exit(main())
