"""What lies on a disk: files, locks, checkpoints, shards, provenance."""
