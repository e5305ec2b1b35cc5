"""Methods that mix stored or generated examples of earlier tasks into training."""
