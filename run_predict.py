"""Answers of a fine-tuned model for any videos. See `python run_predict.py --help`."""

import sys

from svfap.engine.predict.command import main

if __name__ == "__main__":
    sys.exit(main())
