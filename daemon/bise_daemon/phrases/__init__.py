"""An answer in phrases: what a voice can say in one breath."""
