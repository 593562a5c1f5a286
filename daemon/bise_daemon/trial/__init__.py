"""A new configuration on trial: it becomes the good one when it serves, or the good one comes back."""
