"""Face video data: annotation files, readers, frame sampling, augmentation, masking, loaders."""
