"""The update audit: whether the change applied to the adapter's tensors is the one asked for."""
