"""The version, by itself: modules that stamp it on results need not import the package's front."""

__version__ = "0.1.0"
