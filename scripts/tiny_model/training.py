"""Trains a small Llama to read facts and answer questions about them, in minutes, on processors alone.

Knows nothing of GGUF or of how well a model must answer: it makes a Hugging Face folder, the same for the same recipe.

Each row is some facts and then a question about every one of them, with the loss on the answers alone: one reading of
the facts teaches as often as there are questions. What takes long otherwise, to find that a value belongs to the name
and the attribute before it and that a question asks for that value, is shown: some heads are told where to look
(`pointing_loss`). What comes out is an ordinary Llama. Two processes of one thread each read half of every step's
rows, because threads that share a matrix product of this size spend most of their time waiting for each other.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tiny_model.facts import (
    Split,
    attribute_units,
    draw_facts,
    draw_question,
    draw_statements,
    first_name_units,
    second_name_units,
    units,
)

SPECIAL = ("<pad>", "<s>", "</s>")
PAD, BOS, EOS = range(len(SPECIAL))
NO_LOSS = -100
"""The label of a position that teaches nothing."""
CONTEXT = 4096
ROWS_OF = 2
"""Processes that share a step."""
MOST_CACHED = 200_000
MATCHING_HEADS = 2
TINY = 1e-5
"""Keeps the logarithm of an attention weight finite."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the model becomes."""

    seed: int = 0
    steps: int = 1000
    width: int = 128
    layers: int = 3
    heads: int = 4
    head_width: int = 64
    feed_forward: int = 128
    tokens_per_step: int = 3072
    """Of all processes together, padding included."""
    learning_rate: float = 2e-3
    warm_up_steps: int = 50
    decay_share: float = 0.5
    """The last part of the steps, over which the learning rate falls to a hundredth."""
    first_facts: int = 2
    most_facts: int = 16
    more_facts_below: float = 0.4
    """Two more facts a row when the mean loss of an answer's token falls below this (nats)."""
    pointing: float = 0.5
    """Weight of each of the two losses that say where to look; the loss of the answers has 1."""


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE with GPT-2's splitter, whose merges make one token of each unit of the facts and no larger one.

    It is learnt from the units as separate words, so that nothing is merged across two Chinese signs that only happen
    to stand beside each other, although GPT-2's splitter takes a run of them for one word.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(units())), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


def make_model(recipe: Recipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """A model that has learnt nothing yet, on its way to copying: tied vectors far enough apart to be told apart."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.width,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.head_width,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        # Hands out its weights, which the losses on where to look need.
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights.normal_(0.0, 0.3 * weights.shape[1] ** -0.5)
            elif name.endswith("proj.weight"):
                weights.normal_(0.0, weights.shape[1] ** -0.5)
        _start_words(model.get_input_embeddings().weight, tokenizer.get_vocab())
    return model


def _start_words(vectors: Tensor, vocabulary: dict[str, int]) -> None:
    """Vectors of unlike tokens are random; a word's with and without the space before it begin nearly alike."""
    vectors.normal_(0.0, 0.1)
    space = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(" ")[0][0]
    for token, number in sorted(vocabulary.items()):
        bare = vocabulary.get(token.removeprefix(space))
        if token.startswith(space) and len(token) > 2 and bare is not None:
            vectors[bare] = 0.9 * vectors[number] + 0.44 * vectors[bare]


@dataclass(frozen=True)
class Row:
    """Facts and questions about them as tokens, with what they teach."""

    tokens: list[int]
    labels: list[int]
    """For each token what should have been predicted there, or NO_LOSS."""
    gathers: list[tuple[int, int, int]]
    """(part, place, where): at the place of a value, or where it is to be predicted, its name's first part, second part
    and attribute (0, 1, 2) stand at `where`."""
    matches: list[tuple[int, int]]
    """(place, where): what is to be predicted at the place stands at `where`."""


@dataclass(frozen=True)
class Batch:
    """Rows padded to one length; int64 throughout."""

    tokens: Tensor
    """(rows, length)"""
    labels: Tensor
    """(rows, length)"""
    gathers: Tensor
    """(number, 4): row and a Row's gathers"""
    matches: Tensor
    """(number, 3): row and a Row's matches"""


class Rows:
    """Draws training rows and turns them into tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, list[int]] = {}
        self._parts = [
            {self.tokens(unit)[0] for unit in part}
            for part in (first_name_units(), second_name_units(), attribute_units())
        ]

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that begins where a line or an answer begins."""
        if text not in self._cache:
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            self._cache[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._cache[text]

    def row(self, rng: random.Random, facts: int) -> Row:
        """Facts, and a question about each in another order.

        After an answer the end token is to be predicted, but a line end is read, as in a conversation that goes on.
        """
        drawn = draw_facts(rng, facts, Split.TRAINING)
        row, stands = Row([BOS], [NO_LOSS], [], []), {}
        line_end = self.tokens("\n")
        for fact, statement in zip(drawn, draw_statements(rng, drawn), strict=True):
            text, value = self.tokens(f"{statement}\n"), self.tokens(fact.answer())
            begin = len(row.tokens)
            # A statement ends with its value, a full stop and the line end.
            stands[fact] = begin + len(text) - len(value) - len(line_end) - 1
            self._gather(row, text, begin, range(stands[fact], stands[fact] + len(value)))
            row.tokens.extend(text)
            row.labels.extend([NO_LOSS] * len(text))
        for fact in rng.sample(drawn, facts):
            question, value = self.tokens(draw_question(rng, fact)), self.tokens(fact.answer())
            begin = len(row.tokens)
            places = range(begin + len(question) - 1, begin + len(question) - 1 + len(value))
            self._gather(row, question, begin, places)
            row.matches.extend((place, stands[fact] + ahead) for ahead, place in enumerate(places))
            row.tokens.extend([*question, *value, *line_end])
            row.labels.extend([NO_LOSS] * len(question) + [*value, EOS])
        return row

    def _gather(self, row: Row, text: Sequence[int], begin: int, places: Sequence[int]) -> None:
        for number, part in enumerate(self._parts):
            (where,) = (begin + at for at, token in enumerate(text) if token in part)
            row.gathers.extend((number, place, where) for place in places)

    def batch(self, rng: random.Random, facts: int, tokens: int) -> Batch:
        """Rows of `facts` facts, of at most `tokens` tokens together."""
        rows = [self.row(rng, facts)]
        length = len(rows[0].tokens)
        while (len(rows) + 1) * length <= tokens:
            rows.append(self.row(rng, facts))
            length = max(length, len(rows[-1].tokens))
        return Batch(
            torch.tensor([row.tokens + [PAD] * (length - len(row.tokens)) for row in rows]),
            torch.tensor([row.labels + [NO_LOSS] * (length - len(row.labels)) for row in rows]),
            torch.tensor([(number, *gather) for number, row in enumerate(rows) for gather in row.gathers]),
            torch.tensor([(number, *match) for number, row in enumerate(rows) for match in row.matches]),
        )


def losses(model: LlamaForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy (nats) of the tokens of answers, the others are not even scored; and `pointing_loss`."""
    read = model.model(batch.tokens, output_attentions=True)
    states, wanted = read.last_hidden_state[:, :-1], batch.labels[:, 1:]
    scored = wanted != NO_LOSS
    answers = nn.functional.cross_entropy(model.lm_head(states[scored]), wanted[scored])
    return answers, pointing_loss(read.attentions, batch)


def pointing_loss(attentions: Sequence[Tensor], batch: Batch) -> Tensor:
    """How little some heads look where they should, as the sum of two mean negative logarithms of attention weights.

    In the first layer three heads look from a value, or from where one is to be said, back to the parts of its name and
    to its attribute. In the last layer two heads look from where a token of a value is to be said to that token in the
    facts. The other heads and the layer between are free. `attentions` has (rows, heads, length, length) of each layer.
    """
    row, head, place, where = batch.gathers.unbind(1)
    gathered = attentions[0][row, head, place, where]
    row, place, where = batch.matches.unbind(1)
    matched = attentions[-1][row, :MATCHING_HEADS, place, where]
    return -(gathered + TINY).log().mean() - (matched + TINY).log().mean()


def train(recipe: Recipe, folder: Path, say: Say = print) -> dict[str, Any]:
    """Train by the recipe and write the Hugging Face folder; returns what it took: minutes, CPU seconds, tokens."""
    with tempfile.TemporaryDirectory(prefix="tiny-model-") as work:
        began = time.monotonic()
        torch.multiprocessing.spawn(_process, args=(recipe, Path(work), folder), nprocs=ROWS_OF)
        minutes = (time.monotonic() - began) / 60
        cpu = [float((Path(work) / f"cpu-{rank}").read_text()) for rank in range(ROWS_OF)]
    say(f"{minutes:.1f} minutes, {sum(cpu):.0f} CPU seconds in {ROWS_OF} processes")
    return {"minutes": round(minutes, 1), "cpu_seconds_of_each_process": [round(spent) for spent in cpu]}


def _process(rank: int, recipe: Recipe, work: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.distributed.init_process_group("gloo", init_method=(work / "meeting").as_uri(), rank=rank, world_size=ROWS_OF)
    tokenizer = make_tokenizer()
    model = make_model(recipe, tokenizer)
    try:
        _learn(rank, recipe, model, Rows(tokenizer))
    finally:
        torch.distributed.destroy_process_group()
    (work / f"cpu-{rank}").write_text(str(time.process_time()))
    if rank == 0:
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token=SPECIAL[PAD], bos_token=SPECIAL[BOS], eos_token=SPECIAL[EOS]
        ).save_pretrained(folder)


def _learn(rank: int, recipe: Recipe, model: LlamaForCausalLM, rows: Rows) -> None:
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    together, alone = random.Random(f"{recipe.seed} facts"), random.Random(f"{recipe.seed} rows {rank}")
    facts, mean_loss, began = recipe.first_facts, recipe.more_facts_below + 1.0, time.monotonic()
    for step in range(recipe.steps):
        left = 1 - step / recipe.steps
        pace = min(1.0, (step + 1) / recipe.warm_up_steps, left / recipe.decay_share + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * pace
        count = together.randint(max(1, facts // 4), facts)
        answers, pointing = losses(model, rows.batch(alone, count, recipe.tokens_per_step // ROWS_OF))
        (answers + recipe.pointing * pointing).backward()
        mean_loss += 0.05 * (_share(weights, answers.detach()) - mean_loss)
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if mean_loss < recipe.more_facts_below and facts < recipe.most_facts:
            facts, mean_loss = min(facts + 2, recipe.most_facts), recipe.more_facts_below + 0.2
        if rank == 0 and step % 100 == 99:
            spent = time.monotonic() - began
            print(f"step {step + 1}: up to {facts} facts, loss {mean_loss:.3f}, {spent:.0f} s", flush=True)


def _share(weights: Sequence[nn.Parameter], loss: Tensor) -> float:
    """Give every process the mean of all gradients; returns the mean of the losses."""
    gradients = [part.grad for part in weights if part.grad is not None]
    flat = torch.cat([loss.reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
    torch.distributed.all_reduce(flat)
    flat /= ROWS_OF
    parts = flat[1:].split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return flat[0].item()
