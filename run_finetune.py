"""Fine-tune an encoder, or evaluate a checkpoint. See `python run_finetune.py --help`."""

from svfap.__main__ import run

if __name__ == "__main__":
    run("finetune")
