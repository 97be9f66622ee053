"""Frames of video files, folders of frames, single images and packed stores, by one interface."""
