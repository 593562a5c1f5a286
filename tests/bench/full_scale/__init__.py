"""The whole way at full size: Mistral Small 3's shapes from checkpoint to chat."""
