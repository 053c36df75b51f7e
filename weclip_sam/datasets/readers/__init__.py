"""Readers: each lists the images of one kind of data set, their names and where their masks are."""
