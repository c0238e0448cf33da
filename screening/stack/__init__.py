"""The embedded stack: what `assay up` starts, watches and stops."""
