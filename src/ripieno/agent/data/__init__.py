"""Data on its way to and from workers: inputs, the cache, the spool, uploads, the disk they lie on."""
