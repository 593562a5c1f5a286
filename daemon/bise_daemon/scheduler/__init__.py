"""What runs next: pure decisions over slots and requests. Time is an argument; nothing here waits, logs or computes."""
