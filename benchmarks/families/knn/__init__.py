"""kNN: exact search, nearest centres, Lloyd steps."""
