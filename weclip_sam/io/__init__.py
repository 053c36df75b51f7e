"""Bytes in and out: files whole or not at all, images, masks, checkpoints; nothing of a stranger's is run."""
