"""The review page of a folder of labels, and corrections that come back."""

SIDE = 512  # pixels of the long side of a picture
INLINE = 200  # images up to which pictures go into the page by default: about 15 MB
