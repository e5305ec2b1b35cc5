"""CLIP as a classifier of any classes that have names: an open_clip model, unedited, and its zero-shot head."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.attach import attach
from pyfast_mmcl.models.clip_inputs import ImageInput, fit_tokens
from pyfast_mmcl.models.output import Output
from pyfast_mmcl.models.protocols import Growing, Melting
from pyfast_mmcl.models.routes import Routed
from pyfast_mmcl.models.tiny_clip import CLIP_VOCABULARY, tiny_clip
from pyfast_mmcl.models.zero_shot import PHOTO, class_tokens

if TYPE_CHECKING:
    from pyfast_mmcl.models.protocols import Rows
    from pyfast_mmcl.models.spec import Spec

# CLIP §2.5 keeps the scale of the similarities at 100 or below.
_MAX_LOG_SCALE = math.log(100)
# Texts encoded at once where no gradient is wanted: a thousand classes in many sentences are more than fits.
_TEXTS = 512


class ClipModel(nn.Module):
    """scores [B, C] = exp(logit_scale) · V T_clsᵀ, V the unit image embeddings, T_cls those of the classes' texts.

    ``T_cls[c] = unit(mean over templates of unit(encode_text(class_tokens[c])))``

    clip          an open_clip model with two towers (``encode_image``, ``encode_text``, ``logit_scale``)
    class_tokens  ids [C, n_templates, S] (``models.zero_shot.class_tokens``), or None for a model of pairs alone, whose
                  scores [B, 0] are empty
    task_classes  bool [T, C] where rows are scored on the classes of their own task (task-incremental); the other
                  classes get the lowest finite number
    image, text   the modalities that the towers read; a batch may lack either. A row without image asks with its text

    Images of any size, grey or in colour, are brought to the model's. Output.features are the rows that ask [B, D];
    Output.modalities the unit embeddings of "image" and "text", 0 where a row lacks them. The scale is at most 100.
    Raises InputError for a batch that has neither modality.

    Reference: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, §3.1.
    """

    clip: Any  # nn.Module, whose attributes mypy does not know
    class_tokens: Tensor | None
    task_classes: Tensor | None

    def __init__(
        self,
        clip: nn.Module,
        class_tokens: Tensor | None = None,
        *,
        task_classes: Tensor | None = None,
        image: str = "image",
        text: str = "text",
    ) -> None:
        super().__init__()
        for name in ("encode_image", "encode_text", "logit_scale", "visual"):
            if not hasattr(clip, name):
                raise InputError(f"clip: expected an open_clip model with {name}, got {type(clip).__name__}.")
        if class_tokens is not None and class_tokens.ndim != 3:
            raise InputError(f"class_tokens: expected ids [C, n_templates, S], got {tuple(class_tokens.shape)}.")
        self.clip = clip
        self.prepare = ImageInput.of(clip)
        self.image, self.text = image, text
        self.context_length = int(self.clip.context_length)
        # A tokenizer other than CLIP's has marks of its own, and its models look for those.
        self.end = CLIP_VOCABULARY - 1 if getattr(clip, "vocab_size", None) == CLIP_VOCABULARY else None
        self.register_buffer("class_tokens", class_tokens)
        self.register_buffer("task_classes", task_classes)
        self._kept: tuple[Any, Tensor] | None = None
        self._attached: list[tuple[str, dict[str, Any], nn.Module]] = []

    @classmethod
    def for_stream(cls, spec: Spec, clip: nn.Module | None = None, *, templates: Sequence[str] = PHOTO) -> ClipModel:
        """A zero-shot classifier of the stream's classes around ``clip``; without one, a tiny CLIP of random weights.

        Random weights know nothing of the names: what is learnt of them is learnt on the stream. Where pairs are learnt
        there are no classes to score. Raises InputError for a stream with neither "image" nor "text".
        """
        shown = {name: x for name, x in spec.inputs.items() if name in ("image", "text")}
        if not shown:
            raise InputError(f"clip: expected a stream with modality 'image' or 'text', got {sorted(spec.inputs)}.")
        # One place more than the texts have: those of another tokenizer lack the end mark.
        length = max(16, shown["text"].shape[1] + 1 if "text" in shown else 0)
        if clip is None:
            seed = int(torch.randint(2**62, ()))  # of the generator that decides the weights of every other model
            image = {"image_size": 32, "patch_size": 8, "width": spec.width, "layers": 2, "embed_dim": spec.width}
            # The embedding of 49,408 tokens is most of the model: it is kept narrow.
            clip = tiny_clip(**image, text_width=32, text_layers=1, context_length=length, seed=seed)
        if spec.objective == "pairs":
            return cls(clip)
        names = spec.class_names or tuple(map(str, range(spec.n_classes)))
        return cls.with_classes(clip, names, templates=templates, task_classes=spec.task_classes)

    @classmethod
    def with_classes(
        cls,
        clip: nn.Module,
        class_names: Sequence[str],
        *,
        templates: Sequence[str] = PHOTO,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
        task_classes: Tensor | None = None,
    ) -> ClipModel:
        """A zero-shot classifier of ``class_names``; arguments as ``class_tokens`` and the constructor."""
        if tokenizer is None and getattr(clip, "vocab_size", None) != CLIP_VOCABULARY:
            raise InputError(
                f"tokenizer: this model has a vocabulary of {getattr(clip, 'vocab_size', None)} and not CLIP's; "
                "give its own, open_clip.get_tokenizer(name)."
            )
        length: Any = clip.context_length
        ids = class_tokens(class_names, templates, context_length=int(length), tokenizer=tokenizer)
        return cls(clip, ids, task_classes=task_classes)

    @property
    def logit_scale(self) -> Tensor:
        """log(1/temperature), 0-d."""
        return self.clip.logit_scale.reshape(())

    def scale(self) -> Tensor:
        """exp(logit_scale), at most 100; past it the gradient passes, so that the scale can come back."""
        x = self.logit_scale
        return (x - (x - _MAX_LOG_SCALE).clamp(min=0).detach()).exp()

    def image_features(self, x: Tensor) -> Tensor:
        """Unit embeddings [B, D] of images [B, 1 or 3, H, W], floats in [0, 1] or bytes."""
        dtype = next(self.clip.visual.parameters()).dtype
        return _unit(self.clip.encode_image, self.prepare(x).to(dtype))

    def text_features(self, tokens: Tensor) -> Tensor:
        """Unit embeddings [N, D] of token ids [N, S]."""
        if self._texts_learn() and torch.is_grad_enabled():
            self._kept = None
        return _unit(self.clip.encode_text, fit_tokens(tokens, self.context_length, self.end))

    def class_features(self, classes: Tensor | None = None) -> Tensor:
        """Unit embeddings [C, D] of the classes, or of those numbered ``classes``.

        In training mode or with gradients enabled, and with a weight of the text tower to train, they are encoded anew,
        the same with gradients as without; otherwise in evaluation mode, once, and kept until such a weight changes.
        """
        tokens = self.class_tokens
        if tokens is None:
            raise InputError("class_features: this CLIP has no classes; build it with ClipModel.with_classes.")
        if (torch.is_grad_enabled() or self.training) and self._texts_learn():
            return self._encode_classes(tokens if classes is None else tokens[classes])
        key = self._text_state()
        if self._kept is None or self._kept[0] != key:
            with torch.no_grad(), _evaluating(self.clip):
                self._kept = (key, torch.cat([self._encode_classes(part) for part in self._parts(tokens)]))
        return self._kept[1] if classes is None else self._kept[1][classes]

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that class and text embeddings may depend on: all but those of the image tower and the scale."""
        for name, p in self.clip.named_parameters():
            if not name.startswith(("visual.", "logit_")):
                yield p

    def attach(self, kind: str, **config: Any) -> nn.Module:
        """Put adapters, LoRA, prompts … on the towers and return their module; kind: a name in ``models.attach``.

        The attachment wraps modules of this instance, open_clip's own code stays as it is. What a module says about
        itself beyond its weights in an attribute ``setting`` (a task it is switched to) is heeded when class features
        are kept. Raises UnknownNameError for an unknown kind, InputError for towers that it does not fit.
        """
        module = attach(self.clip, kind, **config)
        own = {id(p) for p in self.clip.parameters()}
        if any(id(p) not in own for p in module.parameters()):
            # What no tower holds is held here, so that optimizers and checkpoints find it.
            self.clip.add_module(f"attached_{len(self._attached)}", module)
        self._attached.append((kind, config, module))
        return module

    @property
    def attached(self) -> list[nn.Module]:
        """The attachments in the order they were made."""
        return [module for _, _, module in self._attached]

    def structure(self) -> list[dict[str, Any]]:
        """The attachments, so that a checkpoint can be put into a freshly built model."""
        return [
            {
                "kind": kind,
                "config": config,
                "structure": module.structure() if isinstance(module, Growing) else None,
                **({"merged": True} if isinstance(module, Melting) and module.merged else {}),
            }
            for kind, config, module in self._attached
        ]

    def restructure(self, structure: list[dict[str, Any]]) -> None:
        """Attach what ``structure`` lists and is not attached yet. Raises InputError when other things are."""
        mine = [kind for kind, _, _ in self._attached]
        theirs = [one["kind"] for one in structure]
        if theirs[: len(mine)] != mine:
            raise InputError(f"clip: expected a model with the attachments {theirs}, got one with {mine}.")
        for one in structure[len(mine) :]:
            self.attach(one["kind"], **one["config"])
        for (_, _, module), one in zip(self._attached, structure, strict=True):
            if isinstance(module, Growing):
                module.restructure(one["structure"])
            if isinstance(module, Melting) and one.get("merged", False):
                module.merge()

    def train(self, mode: bool = True) -> ClipModel:
        """As of every module. Fused optimizers write past autograd's count, so class features are not kept over it."""
        if mode and self._texts_learn():
            self._kept = None
        return super().train(mode)

    def forward(self, batch: Rows) -> Output:
        asking, sides = self.encode(batch)
        return Output(self._scores(asking, batch.task), asking, sides)

    def encode(self, batch: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The rows that ask [B, D] and the unit embeddings {"image", "text": [B, D]}, 0 where a row lacks the side."""
        encoders = {"image": (self.image, self.image_features), "text": (self.text, self.text_features)}
        sides = {}
        for side, (name, encode) in encoders.items():
            if name in batch.inputs:
                with self._rows_of(batch.present[name]):
                    sides[side] = encode(batch.inputs[name]) * batch.present[name].unsqueeze(1)
        if not sides:
            raise InputError(
                f"clip: expected the modality {self.image!r} or {self.text!r} in the batch, got {sorted(batch.inputs)}."
            )
        asking = next(iter(sides.values()))
        if len(sides) == 2:
            asking = torch.where(batch.present[self.image].unsqueeze(1), asking, sides["text"])
        return asking, sides

    def _scores(self, asking: Tensor, task: Tensor) -> Tensor:
        if self.class_tokens is None:
            return asking.new_zeros(len(asking), 0)
        if self.task_classes is None:
            return self.scale() * asking @ self.class_features().mT
        allowed = self.task_classes[task.clamp(min=0)] | (task < 0).unsqueeze(1)
        # Texts of classes that no row of the batch can get are not encoded; their scores are masked either way.
        needed = allowed.any(0).nonzero().flatten()
        some = self.scale() * asking @ self.class_features(needed).mT
        lowest = torch.finfo(some.dtype).min
        scores = some.new_full((len(some), len(self.class_tokens)), lowest).index_copy(1, needed, some)
        return scores.masked_fill(~allowed, lowest)

    @contextmanager
    def _rows_of(self, present: Tensor) -> Iterator[None]:
        """Attachments that count rows are told which of them have what is encoded."""
        with ExitStack() as told:
            for part in self.attached:
                if isinstance(part, Routed):
                    told.enter_context(part.present(present))
            yield

    def _texts_learn(self) -> bool:
        return any(p.requires_grad for p in self.text_parameters())

    def _encode_classes(self, tokens: Tensor) -> Tensor:
        each = self.text_features(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        return F.normalize(each.mean(1), dim=-1)

    def _parts(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return tokens.split(max(1, _TEXTS // max(1, tokens.shape[1])))

    def _text_state(self) -> tuple[Any, ...]:
        """What says whether kept class features still hold: writing to a tensor in place moves its version on."""
        tensors = [self.class_tokens, *self.text_parameters()]
        home = (tensors[-1].device, tensors[-1].dtype, torch.is_autocast_enabled(tensors[-1].device.type))
        settings = (getattr(part, "setting", None) for part in self.attached)
        return (*home, *settings, *((id(x), x._version) for x in tensors))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # a copy has weights of its own


def _unit(encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """Unit embeddings of rows. open_clip's towers do not take a batch of no rows, so they are given one."""
    found = encode(rows if len(rows) else rows.new_zeros(1, *rows.shape[1:]))
    return F.normalize(found[: len(rows)], dim=-1)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """``module`` in evaluation mode, and every part of it back as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
