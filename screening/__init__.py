"""The kernel both sides agree on: settings, tables, the screening state machine, blobs, broker, policy, events."""
