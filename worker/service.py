"""Which release of this service is it? Part of every finding."""

from importlib.metadata import version

VERSION = version("assay-screening")
