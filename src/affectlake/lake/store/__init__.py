"""A lake in DVC and Git: versions, tags, the cache, stages, remotes."""
