"""HTTP load from wrk."""
