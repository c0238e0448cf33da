"""What must go: bytes past their retention, bytes of erased screenings, bytes that belong to nobody."""
