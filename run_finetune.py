"""Fine-tune an encoder, or evaluate a checkpoint. See `python run_finetune.py --help`."""

from engine.command import run_command

if __name__ == "__main__":
    run_command("finetuning")
