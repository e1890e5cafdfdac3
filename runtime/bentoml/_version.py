"""The version of this distribution, also where it runs without its metadata, as in an image."""

__version__ = "0.1.0"
