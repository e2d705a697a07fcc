"""A small model, its corpus and its sample adapters, all made here: real input for every screen and test."""
