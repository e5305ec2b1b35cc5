"""Libraries, restated loops and plain torch that choose rows."""
