"""What the device says of its own body: temperature, clock, energy. Plain files, read when somebody asks."""
