"""What is called from a command line; ``tools/*.py`` are doors to it."""
