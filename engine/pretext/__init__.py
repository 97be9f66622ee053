"""Pretext tasks: masked autoencoding and contrastive learning, their losses and pictures."""
