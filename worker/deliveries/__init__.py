"""Sending webhooks: signing, and the loop that claims, sends and records."""
