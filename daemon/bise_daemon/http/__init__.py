"""The OpenAI-compatible door: JSON over HTTP becomes protos and back; what answers is the same. Extra `http`."""
