"""The review page of a folder of labels, and corrections that come back."""
