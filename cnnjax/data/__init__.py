"""Images on disk -> batches on devices."""
