"""What DVC and Git know of a lake: versions, tags, the cache, stages, remotes."""
