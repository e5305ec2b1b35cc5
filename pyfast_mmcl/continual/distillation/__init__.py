"""Methods in which an earlier or frozen model teaches the current one."""
