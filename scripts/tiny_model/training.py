"""Trains a small Llama to read facts and answer questions about them, in minutes, on processors alone.

Knows nothing of GGUF or of how well a model must answer: it makes a Hugging Face folder, the same for the same recipe.

Each row is some facts and then a question about every one of them, with the loss on the answers alone: one reading of
the facts teaches as often as there are questions. Two processes of one thread each read half of every step's rows,
because threads that share a matrix product of this size spend most of their time waiting for each other.
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

from tiny_model.facts import Split, draw_facts, draw_question, draw_statements, units

SPECIAL = ("<pad>", "<s>", "</s>")
PAD, BOS, EOS = range(len(SPECIAL))
NO_LOSS = -100
"""The label of a position that teaches nothing."""
CONTEXT = 4096
ROWS_OF = 2
"""Processes that share a step."""
MOST_CACHED = 200_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the model becomes."""

    seed: int = 0
    steps: int = 5000
    width: int = 128
    layers: int = 3
    heads: int = 4
    feed_forward: int = 128
    tokens_per_step: int = 3072
    """Of all processes together, padding included."""
    learning_rate: float = 2e-3
    warm_up_steps: int = 50
    decay_share: float = 0.5
    """The last part of the steps, over which the learning rate falls to a hundredth."""
    first_facts: int = 2
    most_facts: int = 12
    more_facts_below: float = 0.4
    """Two more facts a row when the mean loss of an answer's token falls below this (nats)."""


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
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
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


class Rows:
    """Draws training rows and turns them into tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that begins where a line or an answer begins."""
        if text not in self._cache:
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            self._cache[text] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._cache[text]

    def row(self, rng: random.Random, facts: int) -> tuple[list[int], list[int]]:
        """Tokens and, for each, what should have been predicted there or NO_LOSS.

        After an answer the end token is to be predicted, but a line end is read, as in a conversation that goes on.
        """
        drawn = draw_facts(rng, facts, Split.TRAINING)
        tokens = [BOS]
        for statement in draw_statements(rng, drawn):
            tokens += self.tokens(f"{statement}\n")
        labels = [NO_LOSS] * len(tokens)
        for fact in rng.sample(drawn, facts):
            question, answer = self.tokens(draw_question(rng, fact)), self.tokens(fact.answer())
            tokens += [*question, *answer, *self.tokens("\n")]
            labels += [NO_LOSS] * len(question) + [*answer, EOS]
        return tokens, labels

    def batch(self, rng: random.Random, facts: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Rows of `facts` facts, of at most `tokens` tokens together: tokens and labels, int64 (rows, length)."""
        rows = [self.row(rng, facts)]
        length = len(rows[0][0])
        while (len(rows) + 1) * length <= tokens:
            rows.append(self.row(rng, facts))
            length = max(length, len(rows[-1][0]))
        return _padded([row for row, _ in rows], PAD), _padded([labels for _, labels in rows], NO_LOSS)


def _padded(rows: Sequence[list[int]], filler: int) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([row + [filler] * (length - len(row)) for row in rows])


def answer_loss(model: LlamaForCausalLM, tokens: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of the tokens of answers; the others are not even scored."""
    states = model.model(tokens).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    scored = wanted != NO_LOSS
    return nn.functional.cross_entropy(model.lm_head(states[scored]), wanted[scored])


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
        loss = answer_loss(model, *rows.batch(alone, count, recipe.tokens_per_step // ROWS_OF))
        loss.backward()
        mean_loss += 0.05 * (_share(weights, loss.detach()) - mean_loss)
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
