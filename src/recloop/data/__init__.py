"""Sources, the canonical tables, preparation, splits and batches."""
