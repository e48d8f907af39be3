"""What providers charge for prompt tokens that are read from their cache, and what follows from it.

Knows no provider's interface. All prices are multiples of an input token's own price. Sources, as they stood in
autumn 2026: Anthropic, platform.claude.com/docs/en/build-with-claude/prompt-caching (explicit breakpoints, at most
four; an entry lives five minutes from its last use; 20 blocks are looked back; 512 to 4,096 tokens at least, by
model); OpenAI, openai.com/index/api-prompt-caching and its guide (automatic, in steps of 128 tokens, half price at
first and a tenth for newer models); Google, ai.google.dev/gemini-api/docs/caching and Vertex AI's overview (automatic,
90 % off, 2,048 or 4,096 tokens at least); vLLM, docs.vllm.ai/en/latest/design/prefix_caching (whole blocks of 16).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prices:
    """`write`: a token that is put into the cache; `read`: one that is found there; `least`: tokens from which a
    prefix is kept at all; `step`: in which it grows."""

    write: float
    read: float
    least: int
    step: int

    @property
    def again(self) -> float:
        """What it costs more to read a token anew than to find it in the cache."""
        return self.write - self.read

    @property
    def rent(self) -> float:
        """What it costs more, each turn, to give a token behind the cached prefix than within it."""
        return 1.0 - self.read

    @property
    def idle_turns(self) -> int:
        """Turns for which carrying a token within the prefix costs as much as giving it once behind it."""
        return round(1.0 / self.read)


ANTHROPIC = Prices(write=1.25, read=0.1, least=4_096, step=1)
OPENAI = Prices(write=1.0, read=0.1, least=1_024, step=128)
GEMINI = Prices(write=1.0, read=0.1, least=4_096, step=1)
LOCAL = Prices(write=1.0, read=0.01, least=1, step=16)
"""A server of one's own: nothing but time is paid, and a cached token takes next to none."""
DEFAULT = OPENAI
"""Nobody tells the kernel which model a host uses: most providers charge nothing extra for writing."""
BATCH = 32
"""Tokens that join a prefix together: a few lines, so that its parts are not many."""
