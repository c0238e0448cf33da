"""How are images decoded so that a crash, a hang or a bomb costs that image alone? In subprocesses under limits.

`worker.decoding.pool` is the face. Nothing is imported here: the subprocesses run `child` and should start fast.
"""
