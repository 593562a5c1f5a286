"""Messages and text to tokens, and tokens to text: tokenizers, chat templates, chat formats."""
