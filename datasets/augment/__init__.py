"""What happens to a clip between reading and the model: cropping, colours, mixing, masking."""
