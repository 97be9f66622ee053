"""Face video data: annotation files, readers, frame sampling, augmentation, masking, loaders."""

from svfap import short_name

short_name(__name__)
