"""Pre-train a masked autoencoder on face video. See `python run_pretrain.py --help`."""

from svfap.__main__ import run

if __name__ == "__main__":
    run("pretrain")
