"""The store as a whole: what is checked, mended, counted, pruned and told of everything that mini keeps."""
