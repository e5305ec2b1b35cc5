"""Operations on tensors: one folder per family; the only room that knows compiled kernels and Triton."""
