"""The caller's side: clusters, futures, and the threads between them."""
