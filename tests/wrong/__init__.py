"""What each wrong request gets, as data: the tests send it, docs/errors.md shows it."""
