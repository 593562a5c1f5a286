"""How long a step takes on this device: measured at load, kept beside the model, corrected while serving."""
