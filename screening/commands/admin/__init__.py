"""`assay admin`: what the operator does to platforms, keys, endpoints, reviewers and evidence.

One module a noun; each adds its commands to `admin`, and COMMANDS names the modules, so that a new one is one line.
"""

from importlib import import_module

from screening.commands.admin.group import admin

COMMANDS = ("migrate", "platforms", "keys", "endpoints", "retention", "reviewers", "evidence")

for _name in COMMANDS:
    import_module(f"{__name__}.{_name}")

__all__ = ["admin"]
