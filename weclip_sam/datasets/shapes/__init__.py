"""The embedded data set: scenes drawn by a procedure, never stored."""
