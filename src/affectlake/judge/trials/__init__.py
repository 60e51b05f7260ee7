"""Questions: their order, captions and keys, and which of them are still to be asked."""
