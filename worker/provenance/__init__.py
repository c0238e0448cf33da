"""What does a file say about where it comes from, beside its pixels? Read apart from the detector, and judged by none.

`worker.provenance.report` is the face. Nothing is imported here: the process that parses manifests should start fast.
"""
