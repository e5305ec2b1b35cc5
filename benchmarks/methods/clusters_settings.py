"""How long each method may train: one budget per data set, the same for ours and for a peer's form of the method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Autoencoder, batch and code of every method that has them, ours and the peers'.
WIDTHS, CODE, BATCH = (500, 500, 2000), 10, 256
_AUTOENCODERS = ("dec", "abdc", "vade", "den")


@dataclass(frozen=True)
class Budget:
    """Epochs and what else a data set of some size asks for.

    pretrain, epochs   of the methods with an autoencoder: reconstruction alone, then clustering
    own                parameters of other methods, by their names
    """

    pretrain: int = 20
    epochs: int = 20
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, method: str, n_rows: int) -> dict[str, Any]:
        """Parameters of one of the package's estimators on ``n_rows`` rows."""
        found: dict[str, Any] = {}
        if method in _AUTOENCODERS:
            found = {"pretrain_epochs": self.pretrain, "epochs": self.epochs, "batch_size": BATCH, "widths": WIDTHS}
        if method in ("dec", "abdc", "vade"):
            found["code"] = CODE  # two for every cluster in den
        if method == "dec":
            # The paper's 140 steps are half an epoch of its 70,000 rows; and no early end: peers have none.
            found |= {"update_interval": -(-n_rows // BATCH), "tol": 0.0}
        return found | dict(self.own.get(method, {}))

    def least(self) -> Budget:
        """The shortest of its kind, to load and warm up everything that a run uses."""
        own = {name: {**values, **{key: 1 for key in values if key.endswith("epochs")}} for name, values in
               self.own.items()}  # fmt: skip
        return replace(self, pretrain=1, epochs=1, own=own)

    def said(self, methods: Collection[str]) -> str:
        """The parameters of those of these methods that have some, in words."""
        return (
            "; ".join(
                f"{name} {', '.join(f'{key} {value}' for key, value in values.items())}"
                for name, values in self.own.items()
                if name in methods
            )
            or "their defaults"
        )
