"""From a command line to a Runner, or from a checkpoint to a model."""
