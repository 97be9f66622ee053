"""Fine-tune an encoder, or evaluate a checkpoint. See `python run_finetune.py --help`."""

from svfap.engine.runtime import stopping

if __name__ == "__main__":
    stopping.listen()
    from svfap.engine.command import run_command  # late, so that signals are heard before it

    run_command("finetuning")
