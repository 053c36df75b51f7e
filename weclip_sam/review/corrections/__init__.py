"""Labels that people corrected elsewhere, read as the tools of annotation write them; classes are matched by name."""
