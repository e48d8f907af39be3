"""A Hugging Face model that learns and is examined: rows of text in, losses and right answers out.

Knows no process, no file of its own and no store. The only place, with `training`, that imports torch and peft.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from memos_mcp.activation.reading import Form, form_for
from memos_mcp.parametric.curriculum import Row, Step
from memos_mcp.parametric.lessons import Lesson
from memos_mcp.parametric.recipe import Recipe
from memos_mcp.parametric.trainer import Course, Exam, Marks

NO_LOSS = -100
"""The label of a position that teaches nothing."""
EXAMINED_AT_ONCE = 32
_HAN_FROM, _HAN_UPTO = "\u2e80", "\uffef"

Tokens = tuple[int, ...]


class Pupil:
    """A base model with one adapter. Not safe to share between threads.

    Raises, when made:
        OSError, ValueError: the folder holds no causal language model.
    """

    def __init__(self, folder: Path, recipe: Recipe, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        base = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        config = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(recipe.targets), lora_dropout=0.0, bias="none",
            task_type="CAUSAL_LM",
        )  # fmt: skip
        self.model: PeftModel = get_peft_model(base, config).to(self.device)
        self.form: Form = form_for(getattr(self.tokenizer, "chat_template", None))
        self.first: Tokens = tuple(t for t in self._tokens_of("", whole=True) if t == self.tokenizer.bos_token_id)
        self.recipe = recipe
        self.weights = {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def learn(self, step: Step) -> Tensor:
        """The loss of a step, ready for its gradient."""
        self.model.train()
        loss = self._answer_loss([self.row(row) for row in step.asked])
        if step.told and self.recipe.telling:
            loss = loss + self.recipe.telling * self._answer_loss([self._statement(text) for text in step.told])
        if step.read and self.recipe.faith:
            loss = loss + self.recipe.faith * self._unfaithfulness([self.row(row) for row in step.read])
        return loss

    def row(self, row: Row) -> tuple[list[int], list[int]]:
        """The tokens of a row and its labels: the answer and its end are to be learnt, the rest is given."""
        given = list(self.form.head_tokens(self._tokens, self.first))
        for memory in row.memories:
            given += self._tokens(f"{memory}\n", False)
        for _, tokens in self.form.question(self._tokens, row.question):
            given += tokens
        answer = [*self._tokens(_joint(self.form, row.answer) + row.answer, False), self.tokenizer.eos_token_id]
        return given + answer, [NO_LOSS] * len(given) + answer

    def examined(self, rows: Sequence[Row], *, mounted: bool = True) -> Marks:
        """How the rows are answered, with the adapter or without it; nothing asked is all right."""
        right, nats, count = 0, 0.0, 0
        for begin in range(0, len(rows), EXAMINED_AT_ONCE):
            tokens, labels = self._batch([self.row(row) for row in rows[begin : begin + EXAMINED_AT_ONCE]])
            logits = self._said(tokens, mounted)[:, :-1]
            wanted = labels[:, 1:]
            asked = wanted != NO_LOSS
            right += int(((logits.argmax(-1) == wanted) | ~asked).all(1).sum())
            said = functional.log_softmax(logits.float(), -1).gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            nats += float((said * asked).sum())
            count += int(asked.sum())
        return Marks(right / len(rows), nats / max(count, 1)) if rows else Marks(1.0, 0.0)

    def text_loss(self, texts: Sequence[str], *, mounted: bool = True) -> float:
        """The mean loss of a token of these texts, in nats."""
        total, count = 0.0, 0
        for begin in range(0, len(texts), EXAMINED_AT_ONCE):
            tokens, labels = self._batch([self._statement(text) for text in texts[begin : begin + EXAMINED_AT_ONCE]])
            logits = self._said(tokens, mounted)[:, :-1]
            wanted = labels[:, 1:]
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), ignore_index=NO_LOSS,
                                            reduction="sum")  # fmt: skip
            total, count = total + float(loss), count + int((wanted != NO_LOSS).sum())
        return total / max(count, 1)

    def exam(self, course: Course, *, mounted: bool) -> Exam:
        """What the model knows of the course and can do beside it, with the adapter or without."""
        lessons = course.lessons
        taught = [row for lesson in lessons for row in _asked(lesson)]
        unseen = [Row(question, lesson.answer) for lesson in lessons for question in lesson.held_out]
        missed = [one.cube for one in lessons if mounted and self.examined(_asked(one)).right == 0.0]
        return Exam(
            self.examined(taught, mounted=mounted),
            self.examined(unseen, mounted=mounted),
            self.examined(course.reading, mounted=mounted),
            self.text_loss(course.general, mounted=mounted),
            tuple(missed),
        )

    def save(self, folder: Path) -> None:
        """Write the adapter as a peft folder, safetensors alone."""
        self.model.save_pretrained(folder, safe_serialization=True)

    def _statement(self, text: str) -> tuple[list[int], list[int]]:
        said = self._tokens(f"{text}\n", False)
        return [*self.first, *said], [*(NO_LOSS for _ in self.first), *said]

    def _answer_loss(self, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        tokens, labels = self._batch(rows)
        logits = self._logits(tokens, True)[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=NO_LOSS)

    def _unfaithfulness(self, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """How far what is said of texts with memories before them departs from what the base says, in nats a token."""
        tokens, _ = self._batch(rows)
        real = torch.zeros(tokens.shape, dtype=torch.bool, device=self.device)
        for place, (row, _) in enumerate(rows):
            real[place, : len(row)] = True
        before = functional.log_softmax(self._said(tokens, False).float(), -1)
        after = functional.log_softmax(self._logits(tokens, True).float(), -1)
        apart = (before.exp() * (before - after)).sum(-1)
        return (apart * real).sum() / real.sum()

    def _said(self, tokens: Tensor, mounted: bool) -> Tensor:
        """Logits that nothing is learnt from."""
        with torch.no_grad():
            return self._logits(tokens, mounted)

    def _logits(self, tokens: Tensor, mounted: bool) -> Tensor:
        if mounted:
            logits: Tensor = self.model(tokens).logits
            return logits
        with self.model.disable_adapter():
            plain: Tensor = self.model(tokens).logits
            return plain

    def _batch(self, rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
        """Tokens and labels, shape (rows, longest); what is padded stands behind and is never looked at."""
        longest = max(len(tokens) for tokens, _ in rows)
        padding = self.tokenizer.pad_token_id or 0
        tokens = [row + [padding] * (longest - len(row)) for row, _ in rows]
        labels = [label + [NO_LOSS] * (longest - len(label)) for _, label in rows]
        return torch.tensor(tokens, device=self.device), torch.tensor(labels, device=self.device)

    def _tokens(self, text: str, special: bool) -> Tokens:
        return self._tokens_of(text, whole=False, special=special)

    def _tokens_of(self, text: str, *, whole: bool, special: bool = True) -> Tokens:
        found = self.tokenizer(text, add_special_tokens=whole, split_special_tokens=not special)
        return tuple(found["input_ids"])


def _joint(form: Form, answer: str) -> str:
    """What stands between the words that ask for an answer and the answer: a space, unless it begins with a sign."""
    if not form.whole or not answer:
        return ""
    return "" if _HAN_FROM <= answer[0] <= _HAN_UPTO else " "


def _asked(lesson: Lesson) -> list[Row]:
    return [Row(question, lesson.answer) for question in lesson.questions]
