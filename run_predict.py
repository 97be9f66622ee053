"""Answers of a fine-tuned model for any videos. See `python run_predict.py --help`."""

from svfap.__main__ import run

if __name__ == "__main__":
    run("predict")
