"""One file per library a user would otherwise search or cluster with."""
