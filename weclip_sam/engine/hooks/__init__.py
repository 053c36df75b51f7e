"""The package's hooks: importing this room registers them."""
