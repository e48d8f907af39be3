"""The version of the package, the single place that states it."""

VERSION = "0.1.0"
