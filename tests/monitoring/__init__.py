"""What operators' tools are given, made from the daemon's table of metrics."""
