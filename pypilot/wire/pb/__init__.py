"""Messages generated from `protos/` (`make protos`); nothing is written here by hand."""
