"""Benchmarks. Each module holds one click command, `command`, which `assay bench` finds by the module's name."""
