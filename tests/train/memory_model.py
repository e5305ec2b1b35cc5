"""The naive memory: a dictionary, and for every policy the plainest rule that says who leaves."""

from __future__ import annotations

import numpy as np
import torch

from pyfast_mmcl.ops.sampling import reservoir_keys, weighted_keys


class Model:
    """Holds {id: {"key", "group", "row", "extras"}} in the order in which they came in."""

    def __init__(self, policy: str, capacity: int, seed: int) -> None:
        self.policy, self.capacity, self.seed = policy, capacity, seed
        self.held: dict[int, dict] = {}

    def add(self, batch, priority):
        """Offer the rows: first of every id that is not held. In a ring an id may come back within one batch."""
        known = set(self.held)
        for i, index in enumerate(batch.index.tolist()):
            if index in (self.held if self.policy == "ring" else known):
                continue
            known.add(index)
            row = {
                "present": {m: bool(p[i]) for m, p in batch.present.items()},
                "target": int(batch.target[i]),
                "task": int(batch.task[i]),
                "priority": float(priority[i]),
            }
            self.held[index] = {**row, "key": self.key(index, row["priority"]), "group": self.group(row)}
            while len(self.held) > self.capacity:
                del self.held[self.next_to_leave()]

    def key(self, index, priority):
        one = torch.tensor([index])
        if self.policy == "weighted":
            return float(weighted_keys(self.seed, one, torch.tensor([priority], dtype=torch.float64)))
        hashed = int(reservoir_keys(self.seed, one))
        return (np.float32(priority), (hashed >> 32) & 0xFFFFFFFF) if self.policy == "priority" else hashed

    def group(self, row):
        return {"class_balanced": row["target"], "task_balanced": row["task"]}.get(self.policy, 0)

    def next_to_leave(self):
        """The worst row of the largest group (of equally large ones that with the larger number)."""
        if self.policy == "ring":
            return next(iter(self.held))
        sizes = {}
        for row in self.held.values():
            sizes[row["group"]] = sizes.get(row["group"], 0) + 1
        group = max(sizes, key=lambda g: (sizes[g], g))
        return min((i for i, row in self.held.items() if row["group"] == group), key=self.goodness)

    def goodness(self, index):
        return (self.held[index]["key"], -index)

    def order(self):
        """Ids in the order of the memory."""
        if self.policy == "ring":
            return list(self.held)[::-1]
        if self.policy == "priority":
            return sorted(self.held)
        rank = {}
        for index in sorted(self.held, key=self.goodness, reverse=True):
            group = self.held[index]["group"]
            rank[index] = (sum(1 for other in rank if self.held[other]["group"] == group), group)
        return sorted(self.held, key=rank.__getitem__)

    def update(self, ids, values):
        for index, value in zip(ids, values, strict=True):
            if index in self.held:
                self.held[index]["priority"] = value
                if self.policy in ("priority", "weighted"):
                    self.held[index]["key"] = self.key(index, value)
