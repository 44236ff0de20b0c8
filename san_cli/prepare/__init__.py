"""From the archives of a benchmark to label maps of train ids, one family of datasets per file."""
