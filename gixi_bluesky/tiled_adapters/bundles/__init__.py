"""Bundles: a derived run with all that made it, as an RO-Crate to check and to publish."""
