"""Looking over a pool and changing it by hand: importers and exporters, frames, diffs."""
