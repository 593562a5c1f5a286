"""The daemon's configuration: strict models, and files read with every problem reported at once."""
