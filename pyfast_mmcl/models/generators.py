"""Generators of multimodal records: a variational autoencoder that knows which modalities a record has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_from_zero, unknown_name, whole_number
from pyfast_mmcl.models.record_columns import Column, column_for


class RecordVAE(nn.Module):
    """A VAE of records (x_1 … x_V, p): what every modality holds, and which modalities are there.

    ``q(z | x, p, c) = N(μ, σ²);  p(x, p | z, c) = Π_m p(p_m | z, c) · p(x_m | z, c)^p_m;  z ~ N(0, I)``

    Rows are records as they are, or the frozen features of their modalities. Floats [B, …] are Gaussian with one σ_m,
    that of their mean squared error; token ids [B, S] are categorical.

    latent  width of z (default 100, as van de Ven's VAE for replay); hidden: of the two layers of either half (256)
    beta    weight of the divergence from N(0, I) (1: the evidence lower bound)

    A modality that a record lacks is nothing to the encoder and costs nothing but the price of saying that it is
    missing. A VAE begins with no modality: ``meet`` makes room for those of some rows, and takes their units.

    Raises InputError for columns or conditions that do not fit.

    Reference: Kingma and Welling, ICLR 2014, equations 7 and 10; products over modalities as Wu and Goodman, NeurIPS
    2018, have them, with one encoder of all; σ_m as Rybkin et al., ICML 2021. The presence flags are ours.
    """

    def __init__(self, *, latent: int = 100, hidden: int = 256, beta: float = 1.0) -> None:
        super().__init__()
        self.latent, self.hidden = whole_number("latent", latent), whole_number("hidden", hidden)
        self.beta = number_from_zero("beta", beta)
        self.n_conditions = 0
        self.columns = nn.ModuleDict()
        self.presence = nn.ModuleDict()
        self.encoder = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.start, self.unfold = nn.Parameter(torch.zeros(hidden)), nn.Linear(latent, hidden)
        # What a condition adds to the first layer of either half: nothing at first, so that a new one is as the others.
        self.conditions = nn.ParameterDict(
            {half: nn.Parameter(torch.zeros(0, hidden)) for half in ("encoder", "decoder")}
        )

    def meet(self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor], n_conditions: int = 0) -> None:
        """Make room for the modalities of these rows, and for conditions 0 … ``n_conditions`` − 1 (classes, tasks).

        Once there are conditions, every call needs one per row. Raises InputError for rows unlike those before.
        """
        seen = {name: x[present[name]] for name, x in inputs.items() if bool(present[name].any())}
        self._grow({name: column_for(name, x, self.hidden) for name, x in seen.items()}, n_conditions)
        for name, x in seen.items():
            self._column(name).meet(x.to(self.start.device))

    def _grow(self, columns: Mapping[str, Column], n_conditions: int = 0) -> None:
        for name, column in columns.items():
            known = self.columns[name] if name in self.columns else column
            if type(known) is not type(column):
                raise InputError(
                    f"generator: modality {name!r} was {type(known).__name__} and is {type(column).__name__} now; give "
                    "it numbers or tokens, not both."
                )
            if name not in self.columns:
                self.columns[name] = column.to(self.start.device)
                self.presence[name] = nn.Linear(self.hidden, 1).to(self.start.device)
        more = n_conditions - self.n_conditions
        if more > 0:
            for half, known in self.conditions.items():
                self.conditions[half] = nn.Parameter(torch.cat([known.detach(), known.new_zeros(more, self.hidden)]))
            self.n_conditions = n_conditions

    def encode(
        self, inputs: Mapping[str, Tensor], present: Mapping[str, Tensor], condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """μ and log σ² [B, latent] of q(z | x, p, c)."""
        inputs = _blank(inputs, present)
        rows = len(next(iter(inputs.values()))) if inputs else 0
        h = self.start.expand(rows, -1) + self._condition("encoder", condition, rows)
        for name, x in inputs.items():
            if name not in self.columns:
                if bool(present[name].any()):
                    raise unknown_name("modality of the generator", name, self.columns)
                continue
            read = self._column(name).read(x)
            # The flag is an input of its own: the bias of a modality's layer is there exactly when the modality is.
            h = h + read.masked_fill(~present[name].unsqueeze(1), 0.0)
        mean, log_variance = self.encoder(h).chunk(2, 1)
        return mean, log_variance

    def decode(self, z: Tensor, condition: Tensor | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """For every modality the parameters of p(x_m | z, c), and the logit [B] of its presence."""
        h = self.decoder(self.unfold(z) + self._condition("decoder", condition, len(z)))
        said = {name: self._column(name).say(h) for name in self.columns}
        return said, {name: layer(h).squeeze(1) for name, layer in self.presence.items()}

    def loss(
        self,
        inputs: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        condition: Tensor | None = None,
        *,
        noise: Tensor,
    ) -> Tensor:
        """−ELBO of every record [B] in nats: reconstruction, presence, and beta · KL(q ‖ N(0, I)).

        noise [B, latent], drawn from N(0, I) by the caller: z = μ + σ · noise.
        """
        inputs = _blank(inputs, present)
        mean, log_variance = self.encode(inputs, present, condition)
        z = mean + (0.5 * log_variance).exp() * noise
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        said, logits = self.decode(z, condition)
        total = self.beta * divergence
        for name in self.columns:
            here = present.get(name)
            flag = torch.zeros_like(logits[name]) if here is None else here.to(logits[name].dtype)
            total = total + F.binary_cross_entropy_with_logits(logits[name], flag, reduction="none")
            if here is not None and bool(here.any()):
                total = total + self._column(name).cost(said[name], inputs[name], here).masked_fill(~here, 0.0)
        return total

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, condition: Tensor | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """n records: inputs {modality: [n, …]} as the columns have them, and presence {modality: bool [n]}.

        Random numbers are drawn on the CPU. Floats are the mean of p(x_m | z, c), within the range that was seen;
        tokens are the likeliest. A record that would have no modality gets its likeliest one.
        """
        device = self.start.device
        z = torch.randn(n, self.latent, generator=generator)
        u = torch.rand(n, max(1, len(self.columns)), generator=generator)
        said, logits = self.decode(z.to(self.start), None if condition is None else condition.to(device))
        if not logits:
            raise InputError("generator: it knows no modality yet; train it before it is sampled from.")
        chances = torch.stack(list(logits.values()), 1)
        flags = u.to(device) < chances.sigmoid()
        flags |= F.one_hot(chances.argmax(1), len(logits)).bool() & ~flags.any(1, keepdim=True)
        present = {name: flags[:, i] for i, name in enumerate(logits)}
        inputs = {}
        for name in self.columns:
            rows = self._column(name).make(said[name])
            keep = present[name].reshape(-1, *[1] * (rows.ndim - 1))
            inputs[name] = rows.masked_fill(~keep, 0)
        return inputs, present

    def structure(self) -> dict[str, Any]:
        """What there is, in numbers and strings."""
        return {
            "columns": {name: self._column(name).structure() for name in self.columns},
            "n_conditions": self.n_conditions,
        }

    def restructure(self, structure: dict[str, Any]) -> None:
        """Become what ``structure`` says, before weights of that structure are loaded."""
        made = {name: Column.of(given, self.hidden) for name, given in structure["columns"].items()}
        self._grow(made, structure["n_conditions"])

    def _column(self, name: str) -> Column:
        column = self.columns[name]
        assert isinstance(column, Column)
        return column

    def _condition(self, half: str, condition: Tensor | None, rows: int) -> Tensor | float:
        if self.n_conditions == 0:
            return 0.0
        if condition is None or condition.shape != (rows,):
            got = "none" if condition is None else tuple(condition.shape)
            raise InputError(f"generator: expected a condition for each of {rows} rows, got {got}.")
        return self.conditions[half][condition]


def _blank(inputs: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros where a modality is missing: what stands there is nobody's business."""
    flags = {name: present[name].reshape(-1, *[1] * (x.ndim - 1)) for name, x in inputs.items()}
    return {name: x.masked_fill(~flags[name], 0) for name, x in inputs.items()}
