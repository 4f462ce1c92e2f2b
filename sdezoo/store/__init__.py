"""Storage on disk: files, locks, checkpoints, shards, provenance."""
