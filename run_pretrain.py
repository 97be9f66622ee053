"""Pre-train a masked autoencoder on face video. See `python run_pretrain.py --help`."""

from engine.command import run_command

if __name__ == "__main__":
    run_command("pretraining")
