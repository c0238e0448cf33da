"""Commands that need no more than the kernel."""
