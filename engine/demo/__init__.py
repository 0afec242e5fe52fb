"""The demonstration (`mini demo`) and the image made from the host's own files."""
