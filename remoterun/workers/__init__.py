"""The processes that run jobs: a fork server, its children, and the pool that hands them work."""
