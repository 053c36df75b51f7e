"""What a model and its labels are handed on as: forms of other tools, and the model itself (``deploy``)."""
