"""One file a model family, and the catalogue that names them."""
